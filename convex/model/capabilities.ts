/** What agents can do, so that a task can ask for that and not for one of them by name. */
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { MAX_CAPABILITIES } from "../constants";
import { refuse } from "../errors";
import { liveWorkers } from "./look";
import { canRun } from "./plan";
import { checkLabels, checkName } from "./text";

const NAMED = 5; // capabilities that a refusal names

/** The capabilities of an agent as they are kept. */
export function checkCapabilities(agent: string, capabilities: readonly string[]): string[] {
  return checkLabels(`agents.${agent}.capabilities`, capabilities, MAX_CAPABILITIES);
}

/** Make the index of capabilities say of `agent` what its row says. */
export async function indexCapabilities(
  ctx: MutationCtx,
  agent: string,
  before: readonly string[],
  after: readonly string[],
): Promise<void> {
  for (const capability of before) {
    if (after.includes(capability)) continue;
    const row = await ctx.db
      .query("capabilities")
      .withIndex("by_capability_and_agent", (q) => q.eq("capability", capability).eq("agent", agent))
      .unique();
    if (row !== null) await ctx.db.delete("capabilities", row._id);
  }
  for (const capability of after) {
    if (!before.includes(capability)) await ctx.db.insert("capabilities", { capability, agent });
  }
}

/**
 * The agent that is to do a task which asks for `capability`: the first by name that a live worker can play for it, else the
 * first by name.
 */
export async function agentWith(
  ctx: QueryCtx,
  capability: string,
  where: { queue: string; labels: string[] },
): Promise<Doc<"agents">> {
  const able = await ctx.db
    .query("capabilities")
    .withIndex("by_capability_and_agent", (q) => q.eq("capability", checkName("capability", capability)))
    .take(MAX_CAPABILITIES);
  const agents: Doc<"agents">[] = [];
  for (const { agent: name } of able) {
    const agent = await ctx.db
      .query("agents")
      .withIndex("by_name", (q) => q.eq("name", name))
      .unique();
    if (agent !== null) agents.push(agent);
  }
  const [first] = agents;
  if (first === undefined) throw await unknownCapability(ctx, capability);
  if (agents.length === 1) return first;
  const workers = (await liveWorkers(ctx)).filter((worker) => !worker.draining);
  const isPlayed = ({ name, kind }: Doc<"agents">) =>
    workers.some((worker) => canRun(worker, { ...where, agent: name, kind }));
  return agents.find(isPlayed) ?? first;
}

async function unknownCapability(ctx: QueryCtx, capability: string) {
  const known: string[] = [];
  for (let behind = ""; known.length < NAMED;) {
    const next = await ctx.db
      .query("capabilities")
      .withIndex("by_capability_and_agent", (q) => q.gt("capability", behind))
      .first();
    if (next === null) break;
    known.push((behind = next.capability));
  }
  const hint = known.length > 0 ? `Known: ${known.join(", ")}.` : "None is known.";
  return refuse(
    "unknown_agent",
    `capability: no agent has ${JSON.stringify(capability)}. ${hint} Give it to one: signalbox agents sync, or @agent(..., capabilities=[...])`,
  );
}

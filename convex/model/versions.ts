/**
 * Code changes in flight. A task is pinned to what its first steps were taken by: what replays them must be the same, so
 * dispatch gives it to workers that have that version alone. What an agent of the registry was before it changed is kept
 * here, so its tasks go on with that by themselves.
 */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { KEPT_VERSIONS } from "../constants";
import { refuse } from "../errors";
import type { AgentOffer, Fault } from "../validators";
import type { Version } from "../version.validators";
import { findAgent } from "./agents";
import { checkName } from "./text";

/** What a worker says of the code of its agents. */
export function versionsOf(
  agents: readonly Pick<AgentOffer, "name" | "version" | "code">[],
): Record<string, Version> {
  const versions: Record<string, Version> = {};
  for (const { name, version, code } of agents) {
    if (code === undefined && version === undefined) continue;
    if (code === undefined)
      throw refuse("invalid_argument", `agents.${name}: a version comes with its code.`);
    checkName(`agents.${name}.code`, code);
    versions[name] = { version: checkName(`agents.${name}.version`, version ?? code), code };
  }
  return versions;
}

/** Agents that a transaction has read, by name. */
export type Known = Map<string, Doc<"agents"> | null>;

/**
 * What a run of the task would be played by: what it is pinned to, else what its worker or the registry has.
 * @returns null: it is pinned to settings that are not kept any more
 */
export async function versionFor(
  ctx: QueryCtx,
  task: Doc<"tasks">,
  worker: Pick<Doc<"workers">, "versions">,
  known: Known,
): Promise<Version | undefined | null> {
  if (task.kind === "python") return worker.versions?.[task.agent];
  if (task.pinned !== undefined) {
    return (await settingsOf(ctx, task.agent, task.pinned.version, known)) === null ? null : task.pinned;
  }
  const hash = (await agentOf(ctx, task.agent, known))?.configHash;
  return hash === undefined ? undefined : { version: hash, code: hash };
}

async function agentOf(ctx: QueryCtx, name: string, known: Known): Promise<Doc<"agents"> | null> {
  if (!known.has(name)) known.set(name, await findAgent(ctx, name));
  return known.get(name)!;
}

/** The settings of an agent of the registry in one version, by default the present ones; null when they are gone. */
export async function settingsOf(
  ctx: QueryCtx,
  name: string,
  version: string | undefined,
  known: Known,
): Promise<Doc<"agents">["llm"]> {
  const agent = await agentOf(ctx, name, known);
  if (version === undefined || agent?.configHash === version) return agent?.llm ?? null;
  return (await keptOf(ctx, name, version))?.llm ?? null;
}

const keptOf = (ctx: QueryCtx, agent: string, version: string) =>
  ctx.db
    .query("agentVersions")
    .withIndex("by_agent_and_version", (q) => q.eq("agent", agent).eq("version", version))
    .unique();

/** Keep what an agent is before it changes: the last KEPT_VERSIONS of each. */
export async function keepSettings(ctx: MutationCtx, before: Doc<"agents">): Promise<void> {
  const { name: agent, configHash: version, llm } = before;
  if (llm === null) return;
  const same = await keptOf(ctx, agent, version);
  if (same !== null) await ctx.db.delete("agentVersions", same._id); // it is the newest again
  const kept = await ctx.db
    .query("agentVersions")
    .withIndex("by_agent_and_version", (q) => q.eq("agent", agent))
    .take(KEPT_VERSIONS);
  kept.sort((a, b) => a._creationTime - b._creationTime);
  if (kept.length === KEPT_VERSIONS) await ctx.db.delete("agentVersions", kept[0]!._id);
  await ctx.db.insert("agentVersions", { agent, version, llm });
}

/** What clears it, whenever a task began with something that is not there any more. */
export const waysOut = (task: Id<"tasks">): string =>
  `tasks restart ${task} (from scratch on what there is now), or tasks fork ${task}`;

/** Why a task cannot go on whose settings are gone. */
export const settingsGone = ({ _id, agent, pinned }: Doc<"tasks">): Fault => ({
  code: "version_gone",
  message:
    `It began with the settings ${short(pinned!.version)} of the agent ${agent}, which changed ` +
    `more than ${KEPT_VERSIONS} times since. Clear it with: ${waysOut(_id)}`,
});

/** A version for people: hashes are long. */
export const short = (version: string): string =>
  /^[0-9a-f]{16,}$/.test(version) ? version.slice(0, 12) : version;

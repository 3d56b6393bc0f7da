/** The registry: which agents exist, and what the built-in LLM agent should be under each name. */
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { DEFAULT_RETRY, MAX_AGENTS, MAX_ATTEMPTS, MAX_DELAY_MS, MAX_LINE_CHARS } from "../constants";
import { refuse } from "../errors";
import type { AgentOffer, AgentSpec, Retry } from "../validators";
import { checkCapabilities, indexCapabilities } from "./capabilities";
import { executorOf, refreshEndpoints } from "./endpoints";
import { checkLlm } from "./llm";
import { checkInteger, checkName, checkNumber, sha256 } from "./text";
import { keepSettings } from "./versions";

export function findAgent(ctx: QueryCtx, name: string): Promise<Doc<"agents"> | null> {
  return ctx.db
    .query("agents")
    .withIndex("by_name", (q) => q.eq("name", name))
    .unique();
}

export function listAgents(ctx: QueryCtx, limit = MAX_AGENTS): Promise<Doc<"agents">[]> {
  return ctx.db.query("agents").withIndex("by_name").take(limit);
}

/** A retry policy over its defaults, each number within its bounds. */
export function retryPolicy(field: string, given: Partial<Retry> | undefined, defaults: Retry): Retry {
  const retry = { ...defaults, ...given };
  checkInteger(`${field}.maxAttempts`, retry.maxAttempts, 1, MAX_ATTEMPTS);
  checkNumber(`${field}.initialMs`, retry.initialMs, 0, MAX_DELAY_MS);
  checkNumber(`${field}.base`, retry.base, 1, 100);
  checkNumber(`${field}.maxMs`, retry.maxMs, 0, MAX_DELAY_MS);
  return retry;
}

/** Make the agents that a model or an endpoint plays be as given. The same settings again change nothing. */
export async function syncAgents(
  ctx: MutationCtx,
  specs: AgentSpec[],
): Promise<{ name: string; changed: boolean }[]> {
  if (specs.length > MAX_AGENTS) {
    throw refuse("invalid_argument", `agents: ${specs.length} given, at most ${MAX_AGENTS} in a call.`);
  }
  const answer = [];
  const endpoints = new Set<string>();
  for (const spec of specs) {
    const { description, llm = null } = spec;
    const name = checkName("agents.name", spec.name);
    checkDescription(name, description);
    const executor = await executorOf(ctx, `agents.${name}.executor`, spec.executor);
    if (llm === null && executor.kind === "poll") {
      throw refuse("invalid_argument", `agents.${name}.llm: needed, unless an endpoint plays it (executor).`);
    }
    if (llm !== null) checkLlm(`agents.${name}.llm`, llm);
    const retry = retryPolicy(`agents.${name}.retry`, spec.retry, DEFAULT_RETRY);
    const timeoutMs =
      spec.timeoutMs === undefined
        ? null
        : checkNumber(`agents.${name}.timeoutMs`, spec.timeoutMs, 1, MAX_DELAY_MS);
    const capabilities = checkCapabilities(name, spec.capabilities ?? []);
    const configHash = await sha256(
      JSON.stringify([description, llm, retry, timeoutMs, capabilities, executor]),
    );
    const kind = llm === null ? ("python" as const) : ("llm" as const);
    const agent = {
      name,
      kind,
      description,
      llm,
      retry,
      timeoutMs,
      capabilities,
      configHash,
      executor,
    };
    const known = await findAgent(ctx, name);
    if (known !== null && known.kind !== kind) {
      throw refuse(
        "invalid_argument",
        kind === "llm"
          ? `agents: ${name} is a Python agent that a worker brings; choose another name.`
          : `agents: ${name} is an LLM agent; give it its llm, or choose another name.`,
      );
    }
    if (executor.kind === "http") endpoints.add(executor.endpoint);
    if (known?.executor?.kind === "http") endpoints.add(known.executor.endpoint);
    const changed = known?.configHash !== configHash;
    if (known === null) await ctx.db.insert("agents", agent);
    else if (changed) {
      await keepSettings(ctx, known);
      await ctx.db.replace("agents", known._id, agent);
    }
    if (changed) await indexCapabilities(ctx, name, known?.capabilities ?? [], capabilities);
    answer.push({ name, changed });
  }
  await refreshEndpoints(ctx, endpoints);
  return answer;
}

function checkDescription(name: string, description: string): void {
  if (description.length > MAX_LINE_CHARS) {
    throw refuse("invalid_argument", `agents.${name}.description: at most ${MAX_LINE_CHARS} characters.`);
  }
}

/** Enter the Python agents that a worker brings, so that tasks can name them. */
export async function bringAgents(ctx: MutationCtx, agents: AgentOffer[]): Promise<string[]> {
  if (agents.length > MAX_AGENTS) {
    throw refuse("invalid_argument", `agents: ${agents.length} given, at most ${MAX_AGENTS} for a worker.`);
  }
  for (const { name, description, ...offer } of agents) {
    checkName("agents.name", name);
    checkDescription(name, description);
    const capabilities = checkCapabilities(name, offer.capabilities);
    const known = await findAgent(ctx, name);
    if (known?.kind === "llm") {
      throw refuse(
        "invalid_argument",
        `agents: ${name} is an LLM agent of this deployment; rename the Python agent.`,
      );
    }
    const before = known?.capabilities ?? [];
    const agent = {
      name,
      kind: "python" as const,
      description,
      llm: null,
      capabilities,
      configHash: description,
    };
    if (known === null) {
      await ctx.db.insert("agents", { ...agent, retry: DEFAULT_RETRY, timeoutMs: null });
    } else if (known.description === description && before.join() === capabilities.join()) continue;
    else await ctx.db.patch("agents", known._id, agent);
    await indexCapabilities(ctx, name, before, capabilities);
  }
  return agents.map(({ name }) => name);
}

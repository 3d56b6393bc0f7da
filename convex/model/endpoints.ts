/**
 * The addresses that the control plane may call, and the stand-in of each: a row among the workers whose session nobody's key
 * opens. So dispatch gives runs to an endpoint as it does to a worker, and knows no difference.
 */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import { env, type MutationCtx, type QueryCtx } from "../_generated/server";
import {
  ENDPOINT_CONCURRENCY,
  HEALTH_EVERY_MS,
  MAX_AGENTS,
  MAX_ENDPOINT_CONCURRENCY,
  MAX_ENDPOINTS,
  MAX_HEALTH_EVERY_MS,
  MAX_MISSES,
  MAX_PUSH_TIMEOUT_MS,
  MAX_QUEUES,
  MIN_HEALTH_EVERY_MS,
  PUSH_TIMEOUT_MS,
  VERSION,
} from "../constants";
import { refuse } from "../errors";
import type { EndpointSpec, EndpointView } from "../endpoint.validators";
import type { AgentSpec, Executor } from "../validators";
import type { Version } from "../version.validators";
import { checkAddress } from "./addresses";
import { clearAlarm } from "./alarms";
import type { Told } from "./answers";
import { wakeIfStarved } from "./loops";
import { endSession } from "./sessions";
import { secretsOf } from "./signing";
import { checkInteger, checkLabels, checkName, checkNumber } from "./text";
import { versionsOf } from "./versions";

// Of our own alone: the name of another variable would make its value the key of signatures that go to strangers.
const VARIABLE = /^SIGNALBOX_[A-Z0-9_]{1,30}$/;
export const STAND_IN = "push:"; // no worker may register under a name that begins so

type Endpoint = Doc<"endpoints">;
type State = Doc<"endpointStates">;

export function findEndpoint(ctx: QueryCtx, name: string): Promise<Endpoint | null> {
  return ctx.db
    .query("endpoints")
    .withIndex("by_name", (q) => q.eq("name", name))
    .unique();
}

export function findState(ctx: QueryCtx, endpoint: Id<"endpoints">): Promise<State | null> {
  return ctx.db
    .query("endpointStates")
    .withIndex("by_endpoint", (q) => q.eq("endpoint", endpoint))
    .unique();
}

export function listEndpoints(ctx: QueryCtx): Promise<Endpoint[]> {
  return ctx.db.query("endpoints").withIndex("by_name").take(MAX_ENDPOINTS);
}

/** The session under which runs are pushed to it; null while it is dead, disabled or without agents. */
export async function sessionOfState(ctx: QueryCtx, state: State): Promise<Id<"sessions"> | null> {
  const worker = state.worker && (await ctx.db.get("workers", state.worker));
  return worker?.session ?? null;
}

/** Put an endpoint on the list, or change it. The same settings again change nothing. */
export async function setEndpoint(
  ctx: MutationCtx,
  spec: EndpointSpec,
): Promise<{ name: string; changed: boolean }> {
  const given = checkEndpoint(spec);
  const known = await findEndpoint(ctx, given.name);
  if (known === null && (await listEndpoints(ctx)).length >= MAX_ENDPOINTS) {
    throw refuse("invalid_argument", `endpoints: ${MAX_ENDPOINTS} are on the list, the most there can be.`);
  }
  if (known !== null && given.mode === "wake") await refuseInUse(ctx, known.name);
  const changed =
    known === null ||
    Object.entries(given).some(
      ([field, value]) => JSON.stringify(known[field as keyof Endpoint]) !== JSON.stringify(value),
    );
  if (!changed) return { name: given.name, changed };
  const id = known?._id ?? (await ctx.db.insert("endpoints", given));
  if (known === null) {
    await ctx.db.insert("endpointStates", { ...FRESH, endpoint: id, worker: null });
  } else await ctx.db.patch("endpoints", id, given);
  // A changed address may answer where the old one did not.
  await ctx.db.patch("endpointStates", (await findState(ctx, id))!._id, { misses: 0, error: null });
  await refresh(ctx, (await ctx.db.get("endpoints", id))!);
  await introduce(ctx, id);
  await wakeIfStarved(ctx);
  return { name: given.name, changed };
}

const FRESH = { healthEveryMs: HEALTH_EVERY_MS, misses: 0, asked: 0, askedAt: 0, answered: 0, error: null };

function checkEndpoint(spec: EndpointSpec): Omit<Endpoint, "_id" | "_creationTime"> {
  const name = checkName("name", spec.name);
  const insecure = env.SIGNALBOX_PUSH_INSECURE === "1";
  const queues = spec.queues ?? ["default"];
  if (queues.length < 1 || queues.length > MAX_QUEUES) {
    throw refuse(
      "invalid_argument",
      `queues: ${queues.length} given; an endpoint serves 1 to ${MAX_QUEUES}.`,
    );
  }
  for (const queue of queues) checkName("queues", queue);
  const { secretVariable } = spec;
  if (!VARIABLE.test(secretVariable)) {
    throw refuse(
      "invalid_argument",
      "secretVariable: use a name of SIGNALBOX_ and 1 to 30 capital letters, digits and _.",
    );
  }
  if (secretsOf(env[secretVariable]) === null) {
    throw refuse(
      "invalid_argument",
      `secretVariable: ${secretVariable} of the deployment is not set to whsec_ and base64 of 24 to 64 bytes. Set it first.`,
    );
  }
  return {
    name,
    url: checkAddress("url", spec.url, insecure),
    healthUrl: spec.healthUrl === undefined ? null : checkAddress("healthUrl", spec.healthUrl, insecure),
    mode: spec.mode ?? "push",
    queues,
    labels: checkLabels("labels", spec.labels ?? []),
    secretVariable,
    enabled: spec.enabled ?? true,
  };
}

/** Take an endpoint off the list. What it holds is released. */
export async function removeEndpoint(ctx: MutationCtx, name: string): Promise<void> {
  const endpoint = await findEndpoint(ctx, name);
  if (endpoint === null) throw refuse("not_found", `No endpoint named ${JSON.stringify(name.slice(0, 80))}.`);
  await refuseInUse(ctx, name);
  const state = (await findState(ctx, endpoint._id))!;
  const session = await sessionOfState(ctx, state);
  if (session !== null) await endSession(ctx, session, null, null);
  for (const push of await pushesOf(ctx, endpoint._id)) await ctx.db.delete("pushes", push._id);
  await clearAlarm(ctx, "endpoint", endpoint._id);
  await ctx.db.delete("endpointStates", state._id);
  await ctx.db.delete("endpoints", endpoint._id);
}

async function refuseInUse(ctx: QueryCtx, name: string): Promise<void> {
  const [agent] = await agentsOf(ctx, name, 1);
  if (agent === undefined) return;
  throw refuse(
    "invalid_argument",
    `name: runs of ${agent.name} are pushed to ${name}; give that agent another executor first (agents sync).`,
  );
}

export function pushesOf(ctx: QueryCtx, endpoint: Id<"endpoints">): Promise<Doc<"pushes">[]> {
  return ctx.db
    .query("pushes")
    .withIndex("by_endpoint", (q) => q.eq("endpoint", endpoint))
    .take(2 * MAX_ENDPOINT_CONCURRENCY); // ended runs may stand among the live ones until its alarm rings
}

function agentsOf(ctx: QueryCtx, endpoint: string, limit: number): Promise<Doc<"agents">[]> {
  return ctx.db
    .query("agents")
    .withIndex("by_endpoint", (q) => q.eq("executor.endpoint", endpoint))
    .take(limit);
}

/** An agent's executor with its defaults, each number within its bounds, and the endpoint on the list. */
export async function executorOf(
  ctx: QueryCtx,
  field: string,
  given: AgentSpec["executor"],
): Promise<Executor> {
  if (given === undefined || given.kind === "poll") return { kind: "poll" };
  const { endpoint } = given;
  const known = await findEndpoint(ctx, endpoint);
  if (known?.mode !== "push") {
    const what =
      known === null ? "is not on the operator's list" : "is there to be woken, not to be given runs";
    throw refuse(
      "invalid_argument",
      `${field}.endpoint: ${JSON.stringify(endpoint.slice(0, 80))} ${what}; add one: signalbox endpoints set`,
    );
  }
  const {
    concurrency = ENDPOINT_CONCURRENCY,
    healthEveryMs = HEALTH_EVERY_MS,
    timeoutMs = PUSH_TIMEOUT_MS,
  } = given;
  checkInteger(`${field}.concurrency`, concurrency, 1, MAX_ENDPOINT_CONCURRENCY);
  checkNumber(`${field}.healthEveryMs`, healthEveryMs, MIN_HEALTH_EVERY_MS, MAX_HEALTH_EVERY_MS);
  checkNumber(`${field}.timeoutMs`, timeoutMs, 1, MAX_PUSH_TIMEOUT_MS);
  return { kind: "http", endpoint, concurrency, healthEveryMs, timeoutMs };
}

export async function refreshEndpoints(ctx: MutationCtx, names: Iterable<string>): Promise<void> {
  for (const name of names) {
    const endpoint = await findEndpoint(ctx, name);
    if (endpoint === null) continue;
    await refresh(ctx, endpoint);
    await introduce(ctx, endpoint._id);
  }
  await wakeIfStarved(ctx);
}

/**
 * Bring an endpoint's stand-in in line with the list and the registry, and begin a session for it if it is alive as far as
 * anybody knows; end the one it has if it is to get no more runs.
 */
export async function refresh(ctx: MutationCtx, endpoint: Endpoint): Promise<void> {
  const state = (await findState(ctx, endpoint._id))!;
  const agents = endpoint.mode === "push" ? await agentsOf(ctx, endpoint.name, MAX_AGENTS) : [];
  const executors = agents.flatMap(({ executor }) => (executor?.kind === "http" ? [executor] : []));
  const live = await sessionOfState(ctx, state);
  if (!endpoint.enabled || executors.length === 0) {
    if (live !== null) await endSession(ctx, live, null, null);
    return;
  }
  const profile = {
    queues: endpoint.queues,
    agents: agents.map(({ name }) => name),
    labels: endpoint.labels,
    capacity: Math.max(...executors.map(({ concurrency }) => concurrency)),
    version: VERSION,
  };
  const healthEveryMs = Math.min(...executors.map((executor) => executor.healthEveryMs));
  const name = `${STAND_IN}${endpoint.name}`;
  const idle = { live: false, draining: false, session: null, llm: false, endpoint: endpoint._id };
  const worker = state.worker ?? (await ctx.db.insert("workers", { name, ...profile, ...idle }));
  await ctx.db.patch("workers", worker, profile);
  await ctx.db.patch("endpointStates", state._id, { worker, healthEveryMs });
  if (live === null && state.misses < MAX_MISSES) await beginSession(ctx, worker, state);
}

/** Begin a session for an endpoint that answers; it lasts until the endpoint no longer does. */
async function beginSession(ctx: MutationCtx, worker: Id<"workers">, state: State): Promise<void> {
  const incarnation = `${Date.now()}-${state.asked}`;
  const session = await ctx.db.insert("sessions", { worker, incarnation, key: null, ended: null });
  const idle = { state: "idle" as const, expiresAt: Number.MAX_SAFE_INTEGER, heardAt: Date.now() };
  await ctx.db.insert("heartbeats", { session, seq: 0, ...idle });
  await ctx.db.patch("workers", worker, { session, live: true });
}

/** Ask an endpoint that may be given runs from now on what it has, before it holds any. */
async function introduce(ctx: MutationCtx, endpoint: Id<"endpoints">): Promise<void> {
  const state = (await findState(ctx, endpoint))!;
  if ((await sessionOfState(ctx, state)) !== null) await askHealth(ctx, state, Date.now());
}

/** Ask an endpoint how it does, unless an answer is awaited. */
export async function askHealth(ctx: MutationCtx, state: State, now: number): Promise<void> {
  if (state.asked > state.answered) return;
  const asked = await countAsked(ctx, state, now);
  await ctx.scheduler.runAfter(0, internal.push.check, { endpoint: state.endpoint, asked });
}

/** Note that an endpoint is called; @returns the number of the call, in which its answers are ordered */
export async function countAsked(ctx: MutationCtx, state: State, askedAt: number): Promise<number> {
  const asked = state.asked + 1;
  await ctx.db.patch("endpointStates", state._id, { asked, askedAt });
  return asked;
}

/**
 * Keep what an endpoint tells of its code with its stand-in, as a worker's registration does: so dispatch gives it no fork that
 * it would not keep from effects, and of tasks that are pinned those that it has the code for.
 */
export async function keepOffer(
  ctx: MutationCtx,
  state: State,
  { agents, forks }: Pick<Told, "agents" | "forks">,
): Promise<void> {
  const worker = state.worker && (await ctx.db.get("workers", state.worker));
  if (!worker) return;
  const versions = versionsOf(agents.filter(({ name }) => worker.agents.includes(name)));
  const isKnown = isAlike(versions, worker.versions ?? {}) && forks === (worker.forks ?? false);
  if (!isKnown) await ctx.db.patch("workers", worker._id, { versions, forks }); // dispatch reads it: a write is not for nothing
}

function isAlike(some: Record<string, Version>, others: Record<string, Version>): boolean {
  const names = Object.keys(some);
  const isSame = (name: string) =>
    some[name]!.version === others[name]?.version && some[name]!.code === others[name].code;
  return names.length === Object.keys(others).length && names.every(isSame);
}

export async function viewEndpoints(ctx: QueryCtx): Promise<EndpointView[]> {
  const views = [];
  for (const endpoint of await listEndpoints(ctx)) {
    const { name, url, healthUrl, mode, queues, labels, secretVariable, enabled } = endpoint;
    const state = (await findState(ctx, endpoint._id))!;
    const { misses, error } = state;
    const live = (await sessionOfState(ctx, state)) !== null;
    views.push({ name, url, healthUrl, mode, queues, labels, secretVariable, enabled, live, misses, error });
  }
  return views;
}

/** How a process comes to hold a worker: it registers, and where another one holds the worker, it is heard. */
import type { Doc, Id } from "../_generated/dataModel";
import { env, type MutationCtx } from "../_generated/server";
import { IDLE_LEASE_MS, MAX_CAPACITY, MAX_LIVE_WORKERS, MAX_QUEUES, MIN_LEASE_MS } from "../constants";
import { refuse } from "../errors";
import type { AgentOffer } from "../validators";
import { bringAgents } from "./agents";
import { STAND_IN } from "./endpoints";
import { checkScope, type Caller } from "./keys";
import { liveWorkers } from "./look";
import { wakeIfStarved } from "./loops";
import { endSession, fault, isLease, sessionOf } from "./sessions";
import { checkInteger, checkLabels, checkName } from "./text";
import { versionsOf } from "./versions";

export type Registration = {
  worker: string;
  incarnation: string;
  queues: string[];
  agents: AgentOffer[];
  labels: string[];
  llm: boolean;
  capacity: number;
  version: string;
  forks?: boolean;
};

/** Said when a worker comes, not to those at work: they would take it for a fault of what they report. */
function checkLease(): void {
  const set = env.SIGNALBOX_LEASE_MS ?? "";
  if (set !== "" && !isLease(Number(set))) {
    const bounds = `${MIN_LEASE_MS} to ${IDLE_LEASE_MS}`;
    throw refuse("invalid_argument", `SIGNALBOX_LEASE_MS of the deployment: ${set} is outside ${bounds}.`);
  }
}

/**
 * Begin a session for a worker, once for each incarnation: a repeat finds the session that the first call made.
 *
 * An older session that holds the worker goes on doing so until the new one is heard (`heard`): the request may have been late, and
 * the process that sent it gone, while a newer one is at work.
 */
export async function register(
  ctx: MutationCtx,
  caller: Caller,
  given: Registration,
): Promise<Id<"sessions">> {
  const now = Date.now();
  checkLease();
  const name = checkName("worker", given.worker);
  if (name.startsWith(STAND_IN)) {
    throw refuse("invalid_argument", `worker: names that begin with ${STAND_IN} are those of endpoints.`);
  }
  checkName("incarnation", given.incarnation);
  checkInteger("capacity", given.capacity, 1, MAX_CAPACITY);
  if (given.queues.length < 1 || given.queues.length > MAX_QUEUES) {
    throw refuse(
      "invalid_argument",
      `queues: ${given.queues.length} given; a worker serves 1 to ${MAX_QUEUES}.`,
    );
  }
  const labels = checkLabels("labels", given.labels);
  for (const queue of given.queues) checkScope(caller, checkName("queues", queue));
  const known = await ctx.db
    .query("workers")
    .withIndex("by_name", (q) => q.eq("name", name))
    .unique();
  const again =
    known &&
    (await ctx.db
      .query("sessions")
      .withIndex("by_worker_and_incarnation", (q) =>
        q.eq("worker", known._id).eq("incarnation", given.incarnation),
      )
      .unique());
  if (again) return (await sessionOf(ctx, caller, again._id))._id;
  const held = known !== null && known.session !== null;
  if (known !== null) checkHeir(caller, known);
  if (!held) await refuseTooMany(ctx);
  const profile = {
    queues: given.queues,
    agents: await bringAgents(ctx, given.agents),
    versions: versionsOf(given.agents),
    forks: given.forks === true,
    labels,
    llm: given.llm,
    capacity: given.capacity,
    version: given.version.slice(0, 100),
  };
  const idle = { session: null, live: false, draining: false };
  const worker = known?._id ?? (await ctx.db.insert("workers", { name, ...profile, ...idle }));
  const { incarnation } = given;
  const session = await ctx.db.insert("sessions", {
    ...{ worker, incarnation, key: caller.key, ended: null },
    ...(held && { announced: profile }),
  });
  await ctx.db.insert("heartbeats", { session, seq: 0, state: "idle", expiresAt: now + IDLE_LEASE_MS });
  if (!held) await hold(ctx, worker, session, profile);
  return session;
}

type Profile = NonNullable<Doc<"sessions">["announced"]>;

/** From now on the worker is this session's. */
async function hold(
  ctx: MutationCtx,
  worker: Id<"workers">,
  session: Id<"sessions">,
  profile: Profile,
): Promise<void> {
  await ctx.db.patch("workers", worker, { ...profile, live: true, draining: false, session });
  await wakeIfStarved(ctx);
}

/** Nobody takes over a worker beyond its scope. */
function checkHeir(caller: Caller, { queues }: Doc<"workers">): void {
  for (const queue of queues) checkScope(caller, queue);
}

const REPLACED = fault("replaced", "another process registered as this worker");

/**
 * The holder of a session speaks: it got the answer to its registration, so it lived after that. With its first word it takes over
 * the worker from the session that held it, which ends; its runs go back. From a session that registered after it, it does
 * not: then its own is the late word of a process that is gone, or one of two that live, and it has been replaced.
 *
 * @returns the session as it is now
 */
export async function heard(
  ctx: MutationCtx,
  caller: Caller,
  session: Doc<"sessions">,
): Promise<Doc<"sessions">> {
  const { _id: id, announced } = session;
  if (announced === undefined || session.ended !== null) return session;
  const worker = (await ctx.db.get("workers", session.worker))!;
  const holder = worker.session && (await ctx.db.get("sessions", worker.session));
  if (holder !== null && holder._creationTime > session._creationTime) {
    await endSession(ctx, id, REPLACED, null);
  } else {
    checkHeir(caller, worker);
    if (holder === null) await refuseTooMany(ctx);
    else await endSession(ctx, holder._id, REPLACED, null);
    await ctx.db.patch("sessions", id, { announced: undefined });
    await hold(ctx, worker._id, id, announced);
  }
  return (await ctx.db.get("sessions", id))!;
}

async function refuseTooMany(ctx: MutationCtx): Promise<void> {
  if ((await liveWorkers(ctx)).length >= MAX_LIVE_WORKERS) {
    throw refuse(
      "too_many_workers",
      `${MAX_LIVE_WORKERS} workers are live, the most that one deployment dispatches to.`,
    );
  }
}

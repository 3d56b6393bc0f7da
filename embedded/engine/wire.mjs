/**
 * How messages cross between the main thread and the engine's: the frequent ones as one flat array. For each object within a message
 * its copy looks up names and shapes, which for a call and its batch took as long as all the rest of the way.
 */

/**
 * @typedef {import("../engine-client.mjs").Batch} Batch
 * @typedef {import("../engine-client.mjs").Reply} Reply
 * @typedef {import("./function-runs.mjs").FunctionRun} FunctionRun
 */

/**
 * @param {any} message  to the engine
 * @returns {any} what is posted
 */
export function packMessage(message) {
  const { op, id, kind, path, args, caller, once, at, arrived, request } = message;
  if (op !== "call" || request === undefined) return message;
  const of = [request.id, request.ip, request.userAgent, request.authToken, request.scheduledFunctionId];
  return [
    id,
    kind,
    path,
    args,
    caller.admin,
    caller.identity,
    once?.session,
    once?.request,
    at,
    arrived,
    ...of,
  ];
}

/**
 * @param {any} packed
 * @returns {any} the message
 */
export function unpackMessage(packed) {
  if (!Array.isArray(packed)) return packed;
  const [id, kind, path, args, admin, identity, session, number, at, arrived, ...of] = packed;
  const [requestId, ip, userAgent, authToken, scheduledFunctionId] = of;
  return {
    op: "call",
    id,
    kind,
    path,
    args,
    caller: { admin, identity },
    once: session === undefined ? undefined : { session, request: number },
    at,
    arrived,
    request: { id: requestId, ip, userAgent, authToken, scheduledFunctionId },
  };
}

const RESULT_SLOTS = 5;
const RUN_SLOTS = 8;

/**
 * @param {Batch} batch
 * @returns {unknown[]}
 */
export function packBatch({ ts, replies, updates, actions, runs }) {
  /** @type {unknown[]} */
  const packed = [ts, actions.length === 0 ? null : actions, replies.length, updates.length];
  for (const reply of replies) packResult(packed, reply.id, reply);
  for (const update of updates) packResult(packed, update.subs, update);
  for (const { kind, path, caller, logLines, ms, error, request, cached } of runs)
    packed.push(kind, path, caller, orNull(logLines), ms, error, request, cached);
  return packed;
}

/**
 * @param {any} packed  a batch; what is none is let through
 * @returns {any} Batch
 */
export function unpackBatch(packed) {
  if (!Array.isArray(packed)) return packed;
  const [ts, actions, replyCount, updateCount] = packed;
  let at = 4;
  const replies = [];
  for (let i = 0; i < replyCount; i++, at += RESULT_SLOTS)
    replies.push({ id: packed[at], ...unpackResult(packed, at) });
  const updates = [];
  for (let i = 0; i < updateCount; i++, at += RESULT_SLOTS)
    updates.push({ subs: packed[at], ...unpackResult(packed, at) });
  /** @type {FunctionRun[]} */
  const runs = [];
  for (; at < packed.length; at += RUN_SLOTS) {
    /** @type {FunctionRun} */
    const run = {
      kind: packed[at],
      path: packed[at + 1],
      caller: packed[at + 2],
      logLines: packed[at + 3] ?? [],
      ms: packed[at + 4],
      request: packed[at + 6],
    };
    if (packed[at + 5] !== undefined) run.error = packed[at + 5];
    if (packed[at + 7] !== undefined) run.cached = packed[at + 7];
    runs.push(run);
  }
  return { ts, replies, updates, actions: actions ?? [], runs };
}

/**
 * A success in five slots; in the last of them all of anything else.
 *
 * @param {unknown[]} packed
 * @param {unknown} name  whose it is
 * @param {any} result
 */
function packResult(packed, name, result) {
  if (result.ok) packed.push(name, result.value, result.ts, orNull(result.logLines), result.journal);
  else packed.push(name, null, null, null, result);
}

/**
 * @param {any[]} packed
 * @param {number} at
 * @returns {Reply}
 */
function unpackResult(packed, at) {
  const value = packed[at + 1];
  if (value === null) return packed[at + 4];
  return { ok: true, value, ts: packed[at + 2], logLines: packed[at + 3] ?? [], journal: packed[at + 4] };
}

/** @param {string[]} logLines  mostly none */
function orNull(logLines) {
  return logLines.length === 0 ? null : logLines;
}

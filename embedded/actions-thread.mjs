/**
 * An actions thread: evaluates the functions in a realm with timers and fetch, and runs actions and HTTP actions, many at a time.
 *
 * Which action a syscall or a log line belongs to is known from the asynchronous context, also when several run at once.
 */

import nodeProcess from "node:process";
import { parentPort, workerData } from "node:worker_threads";
import { followClock } from "./actions/clock.mjs";
import { describeError, describeEscape } from "./actions/errors.mjs";
import { Functions, NO_FUNCTIONS } from "./actions/evaluate.mjs";
import { installGlobals } from "./actions/globals.mjs";
import { answerJsSyscall, answerRequest } from "./actions/http.mjs";
import { runAction } from "./actions/run-action.mjs";
import { Run, runs } from "./actions/runs.mjs";

followClock(workerData.clock);

const port = /** @type {import("node:worker_threads").MessagePort} */ (parentPort);

let functions = NO_FUNCTIONS;
/** @type {Map<number, { run: Run, abort: AbortController }>} */
const running = new Map();
/** @type {Map<number, { resolve: (value: string) => void, reject: (error: Error) => void }>} */
const syscalls = new Map();
let lastSyscall = 0;

installGlobals({
  /** @param {string} op */
  syscall(op) {
    if (op === "1.0/componentArgument") return "{}";
    throw new Error(`${op} is not available in actions`);
  },
  /** @param {string} op @param {string} args */
  async asyncSyscall(op, args) {
    const run = runs.getStore();
    if (run === undefined) throw new Error("Syscalls unsupported at import time");
    return run.call(op, args);
  },
  /** @param {string} op @param {Record<string, unknown>} args */
  jsSyscall: (op, args) => answerJsSyscall(runs.getStore(), op, args),
});
Error.stackTraceLimit = 50; // the host's own frames, which nobody is shown, count too

port.on("message", (message) => {
  switch (message.type) {
    case "ping":
      return port.postMessage({ type: "pong" });
    case "load":
      functions = new Functions(message.bundle, message.env, message.strict, message.imported);
      return;
    case "syscall":
      return settleSyscall(message.id, message.outcome);
    case "abort":
      return abort(message.id);
    case "end": // it has been answered as timed out
      running.get(message.id)?.run.end();
      running.delete(message.id);
      return;
    default:
      void start(message);
  }
});

/**
 * @param {number} id
 * @param {import("./actions/syscalls.mjs").Outcome} outcome
 */
function settleSyscall(id, outcome) {
  const waiting = syscalls.get(id);
  syscalls.delete(id);
  if (outcome.ok) return waiting?.resolve(outcome.value);
  const error = new Error(outcome.message);
  waiting?.reject(
    outcome.data === undefined ? error : Object.assign(error, { data: JSON.parse(outcome.data) }),
  );
}

/**
 * The client has gone away: the handler may care, as part of its run.
 *
 * @param {number} id
 */
function abort(id) {
  const entry = running.get(id);
  if (entry !== undefined) runs.run(entry.run, () => entry.abort.abort());
}

/** @param {any} message  an action or an HTTP request */
async function start(message) {
  const loaded = functions; // a later load does not touch what runs
  const { id } = message;
  const abort = new AbortController();
  /** @type {PromiseWithResolvers<object>} */
  const outcome = Promise.withResolvers();
  const run = new Run(id, {
    syscall: (op, args) =>
      new Promise((resolve, reject) => {
        const call = ++lastSyscall;
        syscalls.set(call, { resolve, reject });
        port.postMessage({ type: "syscall", id: call, run: id, op, args });
      }),
    fail: outcome.resolve,
    describe: (thrown) => describeError(thrown, loaded.mapper),
    frames: (stack) => loaded.mapper.frames(stack),
  });
  running.set(id, { run, abort });
  const send = (/** @type {import("./actions/http.mjs").Part} */ part) => {
    if (!run.ended) port.postMessage({ type: "part", id, part });
  };
  const work = runs.run(run, async () =>
    message.type === "http"
      ? answerRequest(run, loaded.modules(), message, send, abort.signal)
      : runAction(loaded.modules(), message),
  );
  work.then(
    (value) => outcome.resolve({ ok: true, value }),
    (error) => outcome.resolve(run.describe(error)),
  );
  const answer = await outcome.promise;
  running.delete(id);
  run.warnOfUnawaited();
  if (!run.ended) port.postMessage({ type: "outcome", id, outcome: { ...answer, logLines: run.logLines } });
  run.end();
}

// What escapes an action's promise chain ends that action alone. What is left of one that has ended is nobody's.
nodeProcess.on("unhandledRejection", (error) => {
  const run = runs.getStore();
  if (run === undefined) report(describeEscape(error));
  else run.fail(run.describe(error));
});
nodeProcess.on("uncaughtException", (error) => {
  const run = runs.getStore();
  if (run === undefined) report(describeEscape(error));
  else run.fail(describeEscape(error));
});

/** @param {import("./engine-client.mjs").Failure} failure */
function report({ message }) {
  port.postMessage({ type: "log", line: `outside of any action: ${message}` });
}

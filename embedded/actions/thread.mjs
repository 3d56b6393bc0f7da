/**
 * The actions thread: evaluates the functions in a realm with timers and fetch, and runs actions and HTTP actions, many at a time.
 *
 * Which action a syscall or a log line belongs to is known from the asynchronous context, also when several run at once.
 */

import { parentPort } from "node:worker_threads";
import { describeError, describeEscape } from "./errors.mjs";
import { evaluate } from "./evaluate.mjs";
import { answerRequest } from "./http.mjs";
import { runAction } from "./run-action.mjs";
import { runs } from "./runs.mjs";

const port = /** @type {import("node:worker_threads").MessagePort} */ (parentPort);

/** @type {import("./evaluate.mjs").Functions} */
let functions;
/** @type {Map<number, { resolve: (value: string) => void, reject: (error: Error) => void }>} */
const syscalls = new Map();
let lastSyscall = 0;

const Convex = {
  /** @param {string} op */
  syscall(op) {
    throw new Error(`${op} is not available in actions`);
  },
  /** @param {string} op @param {string} args */
  asyncSyscall(op, args) {
    const run = runs.getStore();
    if (run === undefined) return Promise.reject(new Error("ctx was used outside of an action"));
    return new Promise((resolve, reject) => {
      const id = ++lastSyscall;
      syscalls.set(id, { resolve, reject });
      port.postMessage({ type: "syscall", id, run: run.id, op, args });
    });
  },
  /** @param {string} op */
  jsSyscall(op) {
    throw new Error(`${op} is not available on this host`);
  },
};

port.on("message", (message) => {
  switch (message.type) {
    case "load":
      functions = evaluate(message.bundle, message.env, Convex);
      break;
    case "syscall":
      settleSyscall(message.id, message.outcome);
      break;
    default:
      void start(message);
  }
});

/**
 * @param {number} id
 * @param {import("./syscalls.mjs").Outcome} outcome
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

/** @param {any} message  an action or an HTTP request */
async function start(message) {
  const { modules, mapper } = functions; // a later load does not touch what runs
  /** @type {string[]} */
  const logLines = [];
  const outcome = await new Promise((resolve) => {
    const work = runs.run({ id: message.id, logLines, end: resolve }, () =>
      message.type === "http" ? answerRequest(modules.http?.default, message) : runAction(modules, message),
    );
    work.then(resolve, (error) => resolve(describeError(error, mapper)));
  });
  port.postMessage({ type: "outcome", id: message.id, outcome: { ...outcome, logLines } });
}

// What escapes an action's promise chain ends that action alone.
for (const event of /** @type {const} */ (["uncaughtException", "unhandledRejection"])) {
  process.on(event, (/** @type {unknown} */ error) => {
    const failure = describeEscape(event, error);
    const run = runs.getStore();
    if (run === undefined)
      port.postMessage({ type: "log", line: `outside of any action: ${failure.message}` });
    else run.end(failure);
  });
}

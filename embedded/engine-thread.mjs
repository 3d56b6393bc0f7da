/** The engine thread: takes what the main thread has sent, serves it as a batch, and wakes for scheduled work. */

import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { Engine } from "./engine/engine.mjs";
import { isFault } from "./engine/errors.mjs";
import { packBatch, unpackMessage } from "./engine/wire.mjs";

/** @typedef {import("node:worker_threads").MessagePort} MessagePort */

const MAX_BATCH = 64; // bounds how long the first answer waits for the last call of its batch
const MAX_TIMEOUT_MS = 2 ** 31 - 1;
/** What is answered when SQLite fails and not sent again: the next thread would fail at it too. */
const GIVEN_UP = new Set(["call", "evaluate", "load", "schedule", "cancel"]);

const port = /** @type {MessagePort} */ (parentPort);
const engine = new Engine(workerData);
/** @type {NodeJS.Timeout | undefined} */
let timer;

// A promise that a function left rejected ends with its call; there is nobody else to tell.
process.on("unhandledRejection", () => {});

port.on("message", (first) => {
  const batch = [unpackMessage(first)];
  while (batch.length < MAX_BATCH) {
    const next = receiveMessageOnPort(port);
    if (next === undefined) break;
    batch.push(unpackMessage(next.message));
  }
  serve(batch);
});

/** @param {any[]} messages */
function serve(messages) {
  clearTimeout(timer);
  const batch = serveOrTell(messages);
  const { updates, actions, runs } = batch;
  if (messages.length + updates.length + actions.length + runs.length > 0) port.postMessage(packBatch(batch));
  if (engine.stopped) return port.close();
  const wait = engine.untilWake();
  if (wait !== null) timer = setTimeout(serve, Math.min(wait, MAX_TIMEOUT_MS), []);
}

/** @param {any[]} messages */
function serveOrTell(messages) {
  try {
    return engine.serve(messages);
  } catch (error) {
    if (isFault(error)) {
      const ids = messages.filter(({ op }) => GIVEN_UP.has(op)).map(({ id }) => id);
      port.postMessage({ fault: /** @type {Error} */ (error).message, ids });
    }
    throw error;
  }
}

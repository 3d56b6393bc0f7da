/**
 * The threads that actions run on: one as long as it answers, more while one does not.
 *
 * A thread that computes without a pause cannot be told from outside which of its actions that is. What comes later therefore runs
 * on another thread, and the busy one is left alone until one of its actions is over its limit: then it is ended, with all it runs.
 */

import { Worker } from "node:worker_threads";
import { ACTIONS_THREAD } from "../host-files.mjs";

/**
 * @typedef {object} Events
 * @property {(message: any, post: (message: unknown) => void) => void} onMessage  `post` answers the thread that sent it
 * @property {(run: number, reason: string) => void} onLost  a run that was on a thread which has ended
 * @property {(line: string) => void} log
 * @typedef {object} Settings
 * @property {Float64Array | null} clock  the virtual clock, see clock.mjs
 * @property {number} heapMb  of one thread
 * @typedef {object} Thread
 * @property {Worker} worker
 * @property {Set<number>} runs
 * @property {number} silent  own ticks since a ping that was not answered; 0: it answers
 * @property {boolean} asked  a ping is under way
 * @property {boolean} doomed  one of its runs was given up, so it must answer soon
 */

const TICK_MS = 250;
const SILENT_TICKS = 4; // a second: longer than a collection of garbage or the compilation of a bundle
const MAX_THREADS = 8; // each costs about 12 MB

const BLOCKED = "another action on its thread computed for too long";
const OUT_OF_MEMORY = "ERR_WORKER_OUT_OF_MEMORY";

/**
 * @param {Settings} settings
 * @returns {Worker}
 */
function spawnThread({ clock, heapMb }) {
  return new Worker(ACTIONS_THREAD, {
    env: {},
    resourceLimits: { maxOldGenerationSizeMb: heapMb },
    workerData: { clock },
  });
}

export class ActionThreads {
  /**
   * @param {Events} events
   * @param {Settings} settings
   */
  constructor(events, settings) {
    this.#events = events;
    this.#settings = settings;
  }

  #events;
  #settings;
  /** @type {Set<Thread>} */
  #threads = new Set();
  /** @type {Map<number, Thread>} */
  #places = new Map();
  /** @type {unknown} */
  #load = null;
  /** @type {NodeJS.Timeout | undefined} */
  #timer;

  /** @param {unknown} message  what every thread is told before its first run, and now */
  load(message) {
    this.#load = message;
    for (const { worker } of this.#threads) worker.postMessage(message);
  }

  /** How many threads there are. */
  get size() {
    return this.#threads.size;
  }

  /**
   * Start a run on a thread that answers.
   *
   * @param {number} run
   * @param {object} message
   */
  start(run, message) {
    const thread = this.#choose();
    thread.runs.add(run);
    this.#places.set(run, thread);
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS).unref();
    thread.worker.postMessage(message);
  }

  /** @param {number} run @param {object} message */
  post(run, message) {
    this.#places.get(run)?.worker.postMessage(message);
  }

  /**
   * A run has ended; one that was given up has to leave its thread.
   *
   * @param {number} run
   * @param {{ givenUp: boolean }} how
   */
  end(run, { givenUp }) {
    const thread = this.#places.get(run);
    if (thread === undefined) return;
    this.#places.delete(run);
    thread.runs.delete(run);
    if (givenUp) {
      thread.worker.postMessage({ type: "end", id: run });
      thread.doomed = true;
      this.#ask(thread);
    } else if (thread.runs.size === 0 && this.#threads.size > 1) {
      this.#discard(thread, "it is not needed any more");
    }
  }

  async stop() {
    clearInterval(this.#timer);
    await Promise.all([...this.#threads].map((thread) => this.#discard(thread, "the host stops")));
  }

  /** @returns {Thread} */
  #choose() {
    const answering = [...this.#threads].filter(({ silent }) => silent < SILENT_TICKS);
    const candidates =
      answering.length > 0 || this.#threads.size < MAX_THREADS ? answering : [...this.#threads];
    const [best] = candidates.sort((a, b) => a.runs.size - b.runs.size);
    return best ?? this.#add();
  }

  #add() {
    const worker = spawnThread(this.#settings);
    /** @type {Thread} */
    const thread = { worker, runs: new Set(), silent: 0, asked: false, doomed: false };
    this.#threads.add(thread);
    worker.on("message", (message) => {
      if (message.type !== "pong")
        return this.#events.onMessage(message, (answer) => worker.postMessage(answer));
      Object.assign(thread, { silent: 0, asked: false, doomed: false });
    });
    worker.on("error", (/** @type {NodeJS.ErrnoException} */ error) =>
      this.#onLost(
        thread,
        error.code === OUT_OF_MEMORY
          ? `the actions' thread ran out of memory (maximum memory usage: ${this.#settings.heapMb} MB)`
          : error.message,
      ),
    );
    worker.on("exit", (code) => this.#onLost(thread, `exit code ${code}`));
    if (this.#load !== null) worker.postMessage(this.#load);
    return thread;
  }

  #tick() {
    for (const thread of this.#threads) {
      if (thread.asked) thread.silent += 1;
      else if (thread.runs.size > 0) this.#ask(thread);
      if (thread.doomed && thread.silent >= SILENT_TICKS) void this.#discard(thread, BLOCKED);
    }
    if (this.#places.size > 0 || [...this.#threads].some(({ doomed }) => doomed)) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** @param {Thread} thread */
  #ask(thread) {
    if (thread.asked) return;
    thread.asked = true;
    thread.worker.postMessage({ type: "ping" });
  }

  /**
   * @param {Thread} thread
   * @param {string} reason
   */
  async #discard(thread, reason) {
    this.#onLost(thread, reason);
    await thread.worker.terminate();
  }

  /**
   * @param {Thread} thread
   * @param {string} reason
   */
  #onLost(thread, reason) {
    if (!this.#threads.delete(thread)) return;
    if (thread.runs.size > 0 || thread.doomed)
      this.#events.log(`actions thread ended with ${thread.runs.size} running: ${reason}`);
    for (const run of thread.runs) {
      this.#places.delete(run);
      this.#events.onLost(run, reason);
    }
  }
}

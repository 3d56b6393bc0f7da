/**
 * The main thread's side of the engine thread: calls and subscriptions in, batches out, and a new thread when one is lost.
 *
 * A reply reaches its caller exactly once. When the thread is lost (a run over its limit, a crash) nothing of its open batch was
 * committed, so the run that took it down is answered as failed and everything else is sent again in its order.
 */

import { Worker } from "node:worker_threads";
import { wallTime } from "./clock.mjs";
import { serverError } from "./failures.mjs";
import { packMessage, unpackBatch } from "./engine/wire.mjs";
import { Guard, GUARD_BYTES, readRun } from "./guard.mjs";
import { ENGINE_THREAD } from "./host-files.mjs";
import { SMALL_HEAP } from "./memory.mjs";

/**
 * @typedef {import("./auth.mjs").Caller} Caller
 * @typedef {import("./paths.mjs").FunctionInfo} FunctionInfo
 * @typedef {import("./guard.mjs").Run} Run
 * @typedef {{ ok: true, value: string, ts?: string, logLines: string[], journal?: string | null }} Success
 * @typedef {{ ok: false, message: string, data?: string, code?: string, logLines: string[], journal?: string | null }} Failure
 * @typedef {Success | Failure} Reply
 * @typedef {{ code: string, text: string }} Refusal
 * @typedef {{ job: string, path: string, args: string, isCron?: boolean }} ScheduledAction
 * @typedef {object} Batch
 * @property {string} ts  newest committed timestamp, decimal nanoseconds
 * @property {(Reply & { id: number })[]} replies
 * @property {(Reply & { subs: number[] })[]} updates  each for all of its subscriptions
 * @property {ScheduledAction[]} actions
 * @property {FunctionRun[]} runs  every run of a query or mutation that began with no other one
 * @typedef {import("./engine/function-runs.mjs").FunctionRun} FunctionRun
 * @typedef {object} Call
 * @property {"query" | "mutation" | "any"} kind
 * @property {string} path  canonical
 * @property {string} args  JSON text of a one-element array
 * @property {Caller} caller
 * @property {{ session: string, request: number }} [once]
 * @property {string} [at]  decimal nanoseconds: run a query as of this timestamp
 * @property {import("./request-context.mjs").RequestContext} [request]  default: one of its own
 * @typedef {object} Subscription
 * @property {string} path
 * @property {string} args
 * @property {Caller} caller
 * @property {string | null} journal
 * @typedef {import("./bundle.mjs").Bundle} Bundle
 * @typedef {{ functions: Record<string, FunctionInfo>, http: boolean, env: string[], auth: import("./auth/providers.mjs").AuthProvider[], variables: Record<string, string>, imported?: import("./engine/import-phase.mjs").ImportPhase | null }} Description
 * @typedef {object} LoadOptions  happens with the activation or not at all
 * @property {{ name: string, value: string | null }[]} [changes]  of variables in the file; null: unset
 * @property {string} [pushed]  what the engine keeps in the file, for the op "stored"
 * @property {Record<string, string>} [expected]  the file's variables; refused when they are others
 * @typedef {(reply: Reply) => void} Listener
 * @typedef {{ message: any, listener: Listener, resumes: boolean }} Pending  `resumes`: made by a restart, so the next one makes it anew
 * @typedef {object} Thread  the part of a `Worker` that is used
 * @property {(message: unknown) => void} postMessage
 * @property {() => Promise<unknown>} terminate
 * @property {(event: "message" | "error" | "exit", listener: (value: any) => void) => unknown} on
 * @property {() => Promise<{ user: number, system: number }>} [cpuUsage]  in microseconds; Node has it from 24.6 on
 */

const FUNCTION_LIMIT_S = 1;
const TICK_MS = 100; // coarse enough to cost nothing, fine enough that a limit of 1 s ends within 1.2 s
const CRASH_LIMIT = 5; // a host whose engine cannot live must say so instead of flickering
const CRASH_WINDOW_MS = 60_000;

/** The engine can not be started, or not be kept alive, or refuses functions; the message is the operator's line. */
export class EngineError extends Error {
  /** @param {string} message @param {Refusal} [refusal]  of functions, in Convex's words */
  constructor(message, refusal) {
    super(message);
    this.refusal = refusal;
  }
}

/**
 * @param {{ file: string, synchronous: "full" | "normal", clock: Float64Array | null, conflicts: { rate: number, seed: number } | null, record: boolean, strict: boolean, guard: SharedArrayBuffer, killed: { job: string, message: string } | null, running: string[] }} workerData
 * @returns {Thread}
 */
function spawnEngineThread(workerData) {
  const worker = new Worker(ENGINE_THREAD, {
    workerData,
    resourceLimits: SMALL_HEAP,
  });
  return {
    postMessage: (message) => worker.postMessage(packMessage(message)),
    terminate: () => worker.terminate(),
    on: (event, listener) =>
      worker.on(event, event === "message" ? (packed) => listener(unpackBatch(packed)) : listener),
    cpuUsage: () => /** @type {Thread} */ (/** @type {unknown} */ (worker)).cpuUsage?.() ?? Promise.reject(),
  };
}

export class EngineClient {
  /**
   * @param {object} settings
   * @param {string} settings.file
   * @param {"full" | "normal"} settings.synchronous
   * @param {(line: string) => void} settings.log
   * @param {(error: EngineError) => void} settings.onFatal  the engine is given up
   * @param {Float64Array | null} [settings.clock]  the virtual clock, see clock.mjs
   * @param {{ rate: number, seed: number } | null} [settings.conflicts]  lets mutations conflict at random
   * @param {boolean} [settings.record]  keeps what mutations read and wrote
   * @param {boolean} [settings.strict]  evaluates the modules anew for every call
   * @param {typeof spawnEngineThread} [settings.spawn]
   */
  constructor({
    file,
    synchronous,
    log,
    onFatal,
    clock = null,
    conflicts = null,
    record = false,
    strict = false,
    spawn = spawnEngineThread,
  }) {
    this.#settings = { file, synchronous, clock, conflicts, record, strict };
    this.#log = log;
    this.#onFatal = onFatal;
    this.#spawn = spawn;
  }

  /** Threads that were lost. */
  restarts = 0;
  /** Newest committed timestamp, decimal nanoseconds. */
  ts = "0";
  /** @type {Description} */
  description = { functions: {}, http: false, env: [], auth: [], variables: {} };

  /** @type {{ file: string, synchronous: "full" | "normal", clock: Float64Array | null, conflicts: { rate: number, seed: number } | null, record: boolean, strict: boolean }} */
  #settings;
  /** @type {(line: string) => void} */
  #log;
  /** @type {(error: EngineError) => void} */
  #onFatal;
  /** @type {typeof spawnEngineThread} */
  #spawn;
  /** @type {Thread | null} */
  #thread = null;
  #memory = new SharedArrayBuffer(GUARD_BYTES);
  /** @type {NodeJS.Timeout | undefined} */
  #timer;
  #lastId = 0;
  #stopping = false;
  /** @type {{ bundle: Bundle | null, env: Record<string, string | undefined> } | null} */
  #loaded = null;
  /** Requests without an answer, in the order they were sent. @type {Map<number, Pending>} */
  #pending = new Map();
  /** Live subscriptions by `sub`. @type {Map<number, Subscription & { listener: Listener, answered: boolean }>} */
  #subscriptions = new Map();
  /** @type {((ts: string) => void)[]} */
  #batchListeners = [];
  /** @type {(action: ScheduledAction) => void} */
  #actionListener = () => {};
  /** @type {(run: FunctionRun) => void} */
  #runListener = () => {};
  /** Jobs whose actions run; they live on when the engine's thread is lost. @type {Set<string>} */
  #runningActions = new Set();
  /** @type {number[]} */
  #crashes = [];
  /** Why the engine could not start, once that is known. @type {string | null} */
  #deadReason = null;

  /** Start the thread; what is wrong with it shows in the first `load`. */
  start() {
    this.#startThread(null);
  }

  /**
   * Activate functions; on failure the ones before keep serving.
   *
   * @param {Bundle | null} bundle  null: there are none yet
   * @param {Record<string, string | undefined>} env  the host's variables; the engine shows functions the ones they may see
   * @param {LoadOptions} [options]
   * @returns {Promise<Description>}
   * @throws {EngineError} with the engine's one line
   */
  async load(bundle, env, options = {}) {
    const reply = await this.ask({ op: "load", bundle, env, ...options });
    if (!reply.ok) throw new EngineError(reply.message, refusalOf(reply));
    this.#loaded = { bundle, env };
    this.description = JSON.parse(reply.value);
    return this.description;
  }

  /**
   * Run a query or mutation. The listener is called while the batch is read, before its updates.
   *
   * @param {Call} call
   * @param {Listener} listener
   */
  call({ kind, path, args, caller, once, at, request }, listener) {
    const arrived = this.#settings.record ? wallTime() : undefined;
    const id = ++this.#lastId;
    this.#post({ id, op: "call", kind, path, args, caller, once, at, request, arrived }, listener);
  }

  /**
   * Ask about functions that may not be served.
   *
   * @param {{ op: string } & Record<string, unknown>} message
   * @returns {Promise<any>} the answer's value
   * @throws {EngineError}
   */
  async inquire(message) {
    const reply = await this.ask(message);
    if (!reply.ok) throw new EngineError(reply.message, refusalOf(reply));
    return JSON.parse(reply.value);
  }

  /**
   * @param {{ op: string } & Record<string, unknown>} message
   * @returns {Promise<Reply>}
   */
  ask(message) {
    return new Promise((resolve) => this.#send(message, resolve));
  }

  /**
   * Run a query now and again whenever what it read has changed; the listener gets each outcome.
   *
   * @param {Subscription} subscription
   * @param {Listener} listener
   * @returns {number} what `unsubscribe` takes
   */
  subscribe({ path, args, caller, journal }, listener) {
    const sub = ++this.#lastId;
    const entry = { path, args, caller, journal, listener, answered: false };
    this.#subscriptions.set(sub, entry);
    this.#send({ op: "subscribe", sub, path, args, caller, journal }, (reply) => this.#deliver(sub, reply));
    return sub;
  }

  /** @param {number} sub */
  unsubscribe(sub) {
    if (this.#subscriptions.delete(sub)) this.#thread?.postMessage({ op: "unsubscribe", sub });
  }

  /** @param {(ts: string) => void} listener  called after all replies and updates of a batch */
  onBatch(listener) {
    this.#batchListeners.push(listener);
  }

  /** @param {(run: FunctionRun) => void} listener  told of each run that has ended */
  onRun(listener) {
    this.#runListener = listener;
  }

  /** @param {(action: ScheduledAction) => void} listener */
  onScheduledAction(listener) {
    this.#actionListener = listener;
  }

  /**
   * Tell how a scheduled action ended.
   *
   * @param {string} job
   * @param {{ ok: true } | { ok: false, message: string }} outcome
   */
  async finishAction(job, outcome) {
    await this.ask({ op: "finish", job, ...outcome });
    this.#runningActions.delete(job);
  }

  /**
   * Let the running batch commit and close the file.
   *
   * @param {number} deadlineMs  after this long the thread is ended where it is
   */
  async stop(deadlineMs) {
    this.#stopping = true;
    clearInterval(this.#timer);
    const thread = this.#thread;
    if (thread === null) return;
    const deadline = new Promise((resolve) => setTimeout(resolve, deadlineMs).unref());
    await Promise.race([this.ask({ op: "stop" }), deadline]);
    await thread.terminate();
  }

  /**
   * @param {{ op: string } & Record<string, unknown>} message
   * @param {Listener} listener
   * @param {boolean} resumes
   */
  #send(message, listener, resumes = false) {
    this.#post({ id: ++this.#lastId, ...message }, listener, resumes);
  }

  /**
   * @param {{ id: number } & Record<string, unknown>} message
   * @param {Listener} listener
   * @param {boolean} [resumes]
   */
  #post(message, listener, resumes = false) {
    if (this.#deadReason !== null) return listener({ ok: false, message: this.#deadReason, logLines: [] });
    this.#pending.set(message.id, { message, listener, resumes });
    this.#thread?.postMessage(message);
  }

  /** @param {{ job: string, message: string } | null} killed */
  #startThread(killed) {
    this.#memory = new SharedArrayBuffer(GUARD_BYTES);
    const thread = this.#spawn({
      ...this.#settings,
      guard: this.#memory,
      killed,
      running: [...this.#runningActions],
    });
    this.#thread = thread;
    const guard = new Guard(this.#memory, {
      ticks: (FUNCTION_LIMIT_S * 1000) / TICK_MS,
      tickMs: TICK_MS,
      processorTime: () => processorTime(thread),
    });
    thread.on("message", (message) =>
      "fault" in message ? this.#onFault(message) : this.#onBatchMessage(message),
    );
    thread.on("error", (error) => this.#onLost(thread, String(error?.message ?? error)));
    thread.on("exit", (code) => this.#onLost(thread, `exit code ${code}`));
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      const run = guard.tick();
      if (run !== null)
        this.#replaceThread(run, `Function execution timed out (maximum duration: ${FUNCTION_LIMIT_S}s)`);
    }, TICK_MS);
    this.#timer.unref();
  }

  /** @param {Batch} batch */
  #onBatchMessage({ ts, replies, updates, actions, runs }) {
    this.ts = ts;
    for (const reply of replies) this.#answer(reply.id, reply);
    for (const update of updates) for (const sub of update.subs) this.#deliver(sub, update);
    for (const listener of this.#batchListeners) listener(ts);
    for (const run of runs) this.#onRun(run);
    for (const { job } of actions) this.#runningActions.add(job);
    // In a turn of their own: where the batch answers a load, its caller takes up the functions first, these actions among them.
    if (actions.length > 0) setImmediate(() => actions.forEach((action) => this.#actionListener(action)));
  }

  /**
   * SQLite failed (a full disk, a broken file): nothing of the batch is written, and its thread ends.
   *
   * @param {{ fault: string, ids: number[] }} message
   */
  #onFault({ fault, ids }) {
    const message = `The database file cannot be used: ${fault}`;
    for (const id of ids) this.#answer(id, { ok: false, code: "DatabaseFault", message, logLines: [] });
    for (const listener of this.#batchListeners) listener(this.ts);
  }

  /** @param {FunctionRun} run */
  #onRun(run) {
    this.#runListener(run);
    if (run.caller !== "Scheduler") return;
    for (const line of run.logLines) this.#log(`${run.path}: ${line}`); // it has no caller to tell
    if (run.error !== undefined) this.#log(`${run.path}: [ERROR] ${run.error.trimEnd()}`);
  }

  /**
   * @param {number} id
   * @param {Reply} reply
   */
  #answer(id, reply) {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    pending.listener(reply);
  }

  /**
   * @param {number} sub
   * @param {Reply} reply
   */
  #deliver(sub, reply) {
    const subscription = this.#subscriptions.get(sub);
    if (subscription === undefined) return; // unsubscribed while the batch was under way
    subscription.answered = true;
    subscription.journal = reply.journal ?? null;
    subscription.listener(reply);
  }

  /**
   * @param {Thread} thread
   * @param {string} reason
   */
  #onLost(thread, reason) {
    if (this.#thread !== thread || this.#stopping) return;
    if (this.#loaded === null) {
      this.#thread = null;
      clearInterval(this.#timer);
      this.#deadReason = reason;
      for (const id of [...this.#pending.keys()])
        this.#answer(id, { ok: false, message: reason, logLines: [] });
      return;
    }
    const now = performance.now();
    this.#crashes = [...this.#crashes.filter((at) => now - at < CRASH_WINDOW_MS), now];
    if (this.#crashes.length > CRASH_LIMIT) {
      this.#thread = null;
      this.#onFatal(
        new EngineError(
          `The engine thread ended ${this.#crashes.length} times in a minute, the last time: ${reason}`,
        ),
      );
      return;
    }
    const run = readRun(this.#memory);
    this.#replaceThread(run, `The engine ended${run === null ? "" : " while this function ran"}: ${reason}`);
  }

  /**
   * End the thread, answer the run that it was in, and start the next one with everything that is still open.
   *
   * @param {Run | null} run
   * @param {string} message
   */
  #replaceThread(run, message) {
    const lost = this.#thread;
    this.restarts += 1;
    this.#thread = null; // requests wait from here on
    clearInterval(this.#timer);
    this.#log(`engine thread restarted: ${describeRun(run, this.#pending, this.#subscriptions)}: ${message}`);
    void (async () => {
      await lost?.terminate(); // the file is free, and every batch that was committed has been delivered
      if (this.#stopping) return;
      this.#failRun(run, message);
      this.#startThread(run?.kind === "job" ? { job: run.job, message } : null);
      this.#resume();
    })();
  }

  /** Send the functions, the live subscriptions and the open requests to a new thread. */
  #resume() {
    for (const [id, { message, resumes }] of this.#pending) {
      const ended = message.op === "subscribe" && !this.#subscriptions.has(message.sub);
      if (resumes || ended) this.#pending.delete(id);
    }
    const open = [...this.#pending.values()];
    this.#send({ op: "load", ...this.#loaded }, (reply) => this.#onReloaded(reply), true);
    for (const [sub, { answered, path, args, caller, journal }] of this.#subscriptions) {
      if (!answered) continue; // its subscribe is among the open requests
      this.#send(
        { op: "subscribe", sub, path, args, caller, journal },
        (reply) => this.#deliver(sub, reply),
        true,
      );
    }
    for (const { message } of open) this.#thread?.postMessage(message);
  }

  /** @param {Reply} reply */
  #onReloaded(reply) {
    if (!reply.ok)
      this.#onFatal(new EngineError(`The functions could not be loaded again: ${reply.message}`));
  }

  /**
   * @param {Run | null} run
   * @param {string} message
   */
  #failRun(run, message) {
    if (run === null || run.kind === "job") return;
    const reply = serverError(message);
    if (run.kind === "call") {
      const sub = this.#pending.get(run.id)?.message.sub;
      this.#answer(run.id, reply);
      if (sub !== undefined) this.#subscriptions.delete(sub);
    } else {
      this.#deliver(run.sub, reply);
      this.#subscriptions.delete(run.sub);
    }
    for (const listener of this.#batchListeners) listener(this.ts);
  }
}

/** @param {import("./engine-client.mjs").Reply & { refusal?: Refusal }} reply */
function refusalOf({ refusal }) {
  return refusal;
}

/**
 * @param {Thread} thread
 * @returns {Promise<number | null>} in ms; null: it has ended, or this Node cannot tell
 */
async function processorTime(thread) {
  try {
    const usage = await thread.cpuUsage?.();
    return usage === undefined ? null : (usage.user + usage.system) / 1000;
  } catch {
    return null;
  }
}

/**
 * @param {Run | null} run
 * @param {Map<number, { message: any }>} pending
 * @param {Map<number, { path: string }>} subscriptions
 */
function describeRun(run, pending, subscriptions) {
  if (run === null) return "no function ran";
  if (run.kind === "job") return `scheduled function ${run.job}`;
  if (run.kind === "update") return `subscription to ${subscriptions.get(run.sub)?.path ?? "an ended query"}`;
  return pending.get(run.id)?.message.path ?? "an answered call";
}

/**
 * The main thread's side of the actions threads.
 *
 * Actions may wait for the world, so they run apart from the engine, many at a time. What they ask of the database goes through
 * the main thread to the engine, each call a transaction of its own.
 */

import { Calls } from "../calls.mjs";
import { Tally } from "../engine/tally.mjs";
import { failureOf, serverError, withoutRequestId } from "../failures.mjs";
import { CONVEX_ACTION_LIMITS } from "./limits.mjs";
import { Slots } from "./slots.mjs";
import { answerSyscall } from "./syscalls.mjs";
import { ActionThreads } from "./threads.mjs";

/**
 * @typedef {import("../auth.mjs").Caller} Caller
 * @typedef {import("../engine-client.mjs").Bundle} Bundle
 * @typedef {import("../engine-client.mjs").Failure} Failure
 * @typedef {import("../engine-client.mjs").Reply} Reply
 * @typedef {import("./http.mjs").Part} Part
 * @typedef {import("../request-context.mjs").RequestContext} RequestContext
 * @typedef {{ path: string, args: string, caller: Caller, request: RequestContext, job?: string }} ActionCall  `job`: the scheduled function or cron that it is part of
 * @typedef {object} HttpCall
 * @property {string} method
 * @property {string} url
 * @property {[string, string][]} headers
 * @property {Uint8Array | null} body
 * @property {ActionCaller} caller
 * @property {RequestContext} request
 * @typedef {Caller & { refusal?: string }} ActionCaller  `refusal`: why a credential that was shown gives no identity
 * @typedef {{ kind: "action" | "http", path: string, caller: ActionCaller, job: string | undefined, request: RequestContext }} Origin
 * @typedef {Origin & { settle: (outcome: any) => void, onPart: (part: Part) => void, timer: NodeJS.Timeout }} Started
 */

export class ActionsClient {
  /**
   * @param {object} settings
   * @param {import("../engine-client.mjs").EngineClient} settings.engine
   * @param {(line: string) => void} settings.log
   * @param {Partial<import("./limits.mjs").ActionLimits>} [settings.limits]
   * @param {boolean} [settings.strict]  no module state lives on from one action to the next
   * @param {Float64Array | null} [settings.clock]  the virtual clock, see clock.mjs
   */
  constructor({ engine, log, limits = {}, strict = false, clock = null }) {
    const { seconds, running, waitMs, heapMb } = { ...CONVEX_ACTION_LIMITS, ...limits };
    this.#host = { engine, calls: new Calls(engine, this) };
    this.#seconds = seconds;
    this.#most = running;
    this.#slots = new Slots(running, waitMs);
    this.#log = log;
    this.#strict = strict;
    this.#threads = new ActionThreads(
      {
        onMessage: (message, post) => this.#onMessage(message, post),
        onLost: (run, reason) => this.#settle(run, serverError(`The action was cut off: ${reason}`)),
        log,
      },
      { clock, heapMb },
    );
  }

  /** Of actions, HTTP actions left out. */
  tally = new Tally();
  /** @type {import("./syscalls.mjs").Host} */
  #host;
  #seconds;
  #strict;
  #most;
  #slots;
  /** @type {(line: string) => void} */
  #log;
  #threads;
  #lastId = 0;
  /** @type {(run: import("../push/function-log.mjs").Run) => void} */
  #runListener = () => {};
  /** @type {Map<number, Started>} */
  #running = new Map();

  /**
   * Use these functions from now on; actions that run go on with theirs.
   *
   * @param {Bundle} bundle
   * @param {Record<string, string>} env
   * @param {import("../engine/import-phase.mjs").ImportPhase | null} [imported]  what modules see while they are evaluated; null: time goes on
   */
  load(bundle, env, imported = null) {
    this.#threads.load({ type: "load", bundle, env, strict: this.#strict, imported });
  }

  /**
   * @param {ActionCall} call  of a function that is an action and that this caller may call
   * @returns {Promise<Reply>}
   */
  async runAction(call) {
    const begun = performance.now();
    const reply = await this.#runChecked(call);
    const outcome = reply.ok ? "success" : reply.code === undefined ? "error" : "fault";
    this.tally.count("action", call.path, outcome, (performance.now() - begun) / 1000);
    return reply;
  }

  /** @param {ActionCall} call @returns {Promise<Reply>} */
  async #runChecked({ path, args, caller, job, request }) {
    const checked = await this.#check(path, "args", args);
    if (!checked.ok) return checked;
    const origin = /** @type {const} */ ({ kind: "action", path, caller, job, request });
    const reply = await this.#run(origin, { type: "action", path, args: checked.value });
    const logLines = [...reply.logLines, ...checked.logLines];
    if (!reply.ok) return { ...reply, logLines };
    const returned = await this.#check(path, "returns", reply.value);
    if (!returned.ok) return { ...returned, logLines };
    return { ...reply, value: returned.value, logLines: [...logLines, ...returned.logLines] };
  }

  /**
   * Run an HTTP action; its answer comes in parts.
   *
   * @param {HttpCall} call
   * @param {object} client
   * @param {(part: Part) => void} client.onPart  the head first
   * @param {AbortSignal} client.gone  aborted when the client goes away; the handler goes on, if it wants to
   * @returns {Promise<Reply>} when the handler is done; a failure before the head came is to be sent to the client
   */
  async runHttp({ caller, request, ...exchange }, { onPart, gone }) {
    const path = `${exchange.method} ${new URL(exchange.url).pathname}`;
    const origin = /** @type {const} */ ({ kind: "http", path, caller, job: undefined, request });
    const reply = await this.#run(origin, { type: "http", ...exchange }, onPart, gone);
    for (const line of reply.logLines) this.#log(`${path}: ${line}`);
    if (!reply.ok) this.#log(`${path}: [ERROR] ${withoutRequestId(reply.message).trimEnd()}`);
    return reply.ok ? reply : failureOf(reply, request.id);
  }

  /** How many run. */
  get size() {
    return this.#running.size;
  }

  /** End the threads; what runs is answered as failed. */
  async stop() {
    await this.#threads.stop();
  }

  /**
   * @param {string} path
   * @param {"args" | "returns"} part
   * @param {string} value  JSON text
   * @returns {Promise<Reply>} its value is this one, as the function or its caller gets it
   */
  #check(path, part, value) {
    return this.#host.engine.ask({ op: "check", path, part, value });
  }

  /**
   * @param {Origin} origin
   * @param {object} message
   * @param {(part: Part) => void} [onPart]
   * @param {AbortSignal} [gone]
   * @returns {Promise<Reply>}
   */
  async #run(origin, message, onPart = () => {}, gone) {
    if (!(await this.#slots.take({ patient: origin.job !== undefined }))) return this.#refusal();
    const began = performance.now();
    const id = ++this.#lastId;
    const onGone = () => this.#threads.post(id, { type: "abort", id });
    try {
      const reply = await new Promise((settle) => {
        const timer = setTimeout(() => this.#expire(id), this.#seconds * 1000).unref();
        this.#running.set(id, { ...origin, settle, onPart, timer });
        this.#threads.start(id, { id, ...message });
        if (gone?.aborted) onGone();
        else gone?.addEventListener("abort", onGone, { once: true });
      });
      this.#onRun(origin, reply, performance.now() - began);
      return reply;
    } finally {
      gone?.removeEventListener("abort", onGone);
      this.#slots.release();
    }
  }

  /**
   * @param {Origin} origin
   * @param {Reply} reply
   * @param {number} ms
   */
  #onRun({ kind, path, job, request }, reply, ms) {
    const caller = kind === "http" ? "HttpEndpoint" : job === undefined ? "HttpApi" : "Scheduler";
    const error = reply.ok ? {} : { error: withoutRequestId(reply.message) };
    this.#runListener({ kind, path, caller, logLines: reply.logLines, ms, request: request.id, ...error });
  }

  /** @param {(run: import("../push/function-log.mjs").Run) => void} listener  told of each run that has ended */
  onRun(listener) {
    this.#runListener = listener;
  }

  /** @returns {Failure} */
  #refusal() {
    const message = `Too many concurrent requests. Your backend is limited to ${this.#most} concurrent actions.`;
    return { ok: false, code: "TooManyConcurrentRequests", message, logLines: [] };
  }

  /** @param {number} id  of a run that is over its limit */
  #expire(id) {
    const run = this.#running.get(id);
    if (run === undefined) return;
    const name = run.path.slice(run.path.lastIndexOf(":") + 1);
    const message =
      run.kind === "http"
        ? `Function execution timed out (maximum duration: ${this.#seconds}s)`
        : `Action \`${name}\` execution timed out (maximum duration ${this.#seconds}s)`;
    this.#threads.end(id, { givenUp: true });
    this.#settle(id, serverError(message));
  }

  /**
   * @param {any} message
   * @param {(answer: unknown) => void} post
   */
  #onMessage(message, post) {
    switch (message.type) {
      case "outcome":
        this.#threads.end(message.id, { givenUp: false });
        return this.#settle(message.id, message.outcome);
      case "part":
        return this.#running.get(message.id)?.onPart(message.part);
      case "log":
        return this.#log(message.line);
      default: {
        const run = this.#running.get(message.run);
        if (run === undefined) return; // it was answered as timed out
        void answerSyscall(this.#host, message.op, message.args, run).then((outcome) =>
          post({ type: "syscall", id: message.id, outcome }),
        );
      }
    }
  }

  /**
   * @param {number} id
   * @param {Reply} outcome
   */
  #settle(id, outcome) {
    const run = this.#running.get(id);
    if (run === undefined) return;
    this.#running.delete(id);
    clearTimeout(run.timer);
    run.settle(outcome);
  }
}

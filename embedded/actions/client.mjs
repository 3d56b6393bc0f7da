/**
 * The main thread's side of the actions thread.
 *
 * Actions may wait for the world, so they run apart from the engine, many at a time. What they ask of the database goes through
 * the main thread to the engine, each call a transaction of its own.
 */

import { Worker } from "node:worker_threads";
import { Calls } from "../calls.mjs";
import { serverError } from "../failures.mjs";
import { answerSyscall } from "./syscalls.mjs";

/**
 * @typedef {import("../auth.mjs").Caller} Caller
 * @typedef {import("../engine-client.mjs").Bundle} Bundle
 * @typedef {import("../engine-client.mjs").Reply} Reply
 * @typedef {{ path: string, args: string, caller: Caller, job?: string }} ActionCall  `job`: the scheduled function that it is part of
 * @typedef {object} HttpCall
 * @property {string} method
 * @property {string} url
 * @property {[string, string][]} headers
 * @property {Uint8Array | null} body
 * @property {ActionCaller} caller
 * @typedef {Caller & { refusal?: string }} ActionCaller  `refusal`: why a credential that was shown gives no identity
 * @typedef {{ status: number, headers: [string, string][], body: Uint8Array }} HttpAnswer
 * @typedef {{ caller: ActionCaller, job: string | undefined, settle: (outcome: any) => void, timer: NodeJS.Timeout }} Run
 */

const ACTION_LIMIT_S = 600;
const MAX_RUNNING = 1_000; // refused rather than queued: a queue of actions that call actions would wait for itself

export class ActionsClient {
  /**
   * @param {object} settings
   * @param {import("../engine-client.mjs").EngineClient} settings.engine
   * @param {(line: string) => void} settings.log
   */
  constructor({ engine, log }) {
    this.#host = { engine, calls: new Calls(engine, this) };
    this.#log = log;
  }

  /** @type {import("./syscalls.mjs").Host} */
  #host;
  /** @type {(line: string) => void} */
  #log;
  /** @type {Worker | null} */
  #worker = null;
  /** @type {{ bundle: Bundle, env: Record<string, string> } | null} */
  #loaded = null;
  #lastId = 0;
  /** @type {Map<number, Run>} */
  #running = new Map();

  /**
   * Use these functions from now on; actions that run go on with theirs.
   *
   * @param {Bundle} bundle
   * @param {Record<string, string>} env
   */
  load(bundle, env) {
    this.#loaded = { bundle, env };
    this.#worker?.postMessage({ type: "load", ...this.#loaded });
  }

  /**
   * @param {ActionCall} call  of a function that is an action and that this caller may call
   * @returns {Promise<Reply>}
   */
  runAction({ path, args, caller, job }) {
    return this.#run(path, { caller, job }, { type: "action", path, args });
  }

  /**
   * @param {HttpCall} call
   * @returns {Promise<HttpAnswer | Reply>} a `Reply` only if no handler could answer
   */
  runHttp({ caller, ...request }) {
    return this.#run(
      `${request.method} ${new URL(request.url).pathname}`,
      { caller, job: undefined },
      {
        type: "http",
        ...request,
      },
    );
  }

  /** End the thread; what runs is answered as failed. */
  async stop() {
    await this.#worker?.terminate();
  }

  /**
   * @param {string} name
   * @param {Pick<Run, "caller" | "job">} origin
   * @param {Record<string, unknown>} message
   * @returns {Promise<any>}
   */
  #run(name, origin, message) {
    if (this.#running.size >= MAX_RUNNING) {
      return Promise.resolve(serverError(`Too many concurrent actions (limit: ${MAX_RUNNING})`));
    }
    const id = ++this.#lastId;
    return new Promise((settle) => {
      const overdue = `Action \`${name}\` execution timed out (maximum duration: ${ACTION_LIMIT_S}s)`;
      const timer = setTimeout(() => this.#settle(id, serverError(overdue)), ACTION_LIMIT_S * 1000).unref();
      this.#running.set(id, { ...origin, settle, timer });
      this.#thread().postMessage({ id, ...message });
    });
  }

  #thread() {
    if (this.#worker !== null) return this.#worker;
    const worker = new Worker(new URL("./thread.mjs", import.meta.url), { env: {} });
    this.#worker = worker;
    worker.on("message", (message) => this.#onMessage(worker, message));
    worker.on("error", (error) => this.#onLost(worker, error.message));
    worker.on("exit", () => this.#onLost(worker, "the host stops"));
    worker.postMessage({ type: "load", ...this.#loaded });
    return worker;
  }

  /**
   * @param {Worker} worker
   * @param {any} message
   */
  #onMessage(worker, message) {
    if (message.type === "outcome") return this.#settle(message.id, message.outcome);
    if (message.type === "log") return this.#log(message.line);
    const run = this.#running.get(message.run);
    if (run === undefined) return; // it was answered as timed out
    void answerSyscall(this.#host, message.op, message.args, run).then((outcome) =>
      worker.postMessage({ type: "syscall", id: message.id, outcome }),
    );
  }

  /**
   * @param {number} id
   * @param {unknown} outcome
   */
  #settle(id, outcome) {
    const run = this.#running.get(id);
    if (run === undefined) return;
    this.#running.delete(id);
    clearTimeout(run.timer);
    run.settle(outcome);
  }

  /**
   * @param {Worker} worker
   * @param {string} reason
   */
  #onLost(worker, reason) {
    if (this.#worker !== worker) return;
    this.#worker = null; // the next action starts another
    if (this.#running.size > 0)
      this.#log(`actions thread ended with ${this.#running.size} running: ${reason}`);
    for (const id of [...this.#running.keys()])
      this.#settle(id, serverError(`The action was cut off: ${reason}`));
  }
}

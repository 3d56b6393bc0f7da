/**
 * Runs functions for whoever wants them: calls, queries as of an earlier commit, live queries and scheduled mutations, each in a
 * savepoint of its own and in view of the guard.
 */

import { wallTime } from "../clock.mjs";
import { Call } from "./call.mjs";
import { MAX_RERUNS } from "./conflicts.mjs";
import { CallError, endText, SystemError } from "./errors.mjs";
import { Reads } from "./reads.mjs";
import { expected, failure, refusal } from "./replies.mjs";
import { RunMarker } from "./run-marker.mjs";

/**
 * @typedef {import("./call.mjs").Callable} Callable
 * @typedef {import("./call.mjs").Caller} Caller
 * @typedef {import("./scheduler.mjs").MutationOutcome} JobOutcome
 * @typedef {import("./scheduler.mjs").Work} Work
 * @typedef {import("./subscriptions.mjs").QueryRun} QueryRun
 * @typedef {import("./subscriptions.mjs").LiveQuery} LiveQuery
 *
 * @typedef {object} FunctionRun
 * @property {"query" | "mutation"} kind
 * @property {string} path
 * @property {"HttpApi" | "SyncWorker" | "Scheduler" | "Tester"} caller  HttpApi: also an action's
 * @property {string[]} logLines
 * @property {number} ms  how long it took
 * @property {string} [error]
 * @property {string} [request]  the id of the one that it ran for, if it is another one's
 * @property {boolean} [cached]  another one's result was taken
 *
 * @typedef {object} Parts
 * @property {import("./store.mjs").Store} store
 * @property {import("./tally.mjs").Tally} tally
 * @property {import("./conflicts.mjs").Conflicts | null} conflicts
 * @property {import("./recorder.mjs").Recorder | null} recorder
 * @property {SharedArrayBuffer} guard
 * @property {() => number} now  ms since the epoch
 * @property {() => number} moved  ms that a virtual clock has moved since the engine began, which keeps recorded runs apart
 * @property {() => import("./served.mjs").Served} served
 * @property {(ts?: bigint) => void} settle  counts what was written as one commit, made at `ts`
 */

const SCHEDULED_CALLER = { admin: true, identity: null };

export class FunctionRuns {
  /** @param {Parts} parts */
  constructor({ store, tally, conflicts, recorder, guard, now, moved, served, settle }) {
    this.#store = store;
    this.#tally = tally;
    this.#conflicts = conflicts;
    this.#recorder = recorder;
    this.#marker = new RunMarker(guard);
    this.#now = now;
    this.#moved = moved;
    this.#served = served;
    this.#settle = settle;
  }

  #store;
  #tally;
  #conflicts;
  #recorder;
  #marker;
  #now;
  #moved;
  #served;
  #settle;
  /** The one that runs. @type {Call | null} */
  #call = null;
  /** Whether a subscription runs for the first time (its caller waits) or again. @type {{ kind: "call" | "update", number: number }} */
  #live = { kind: "update", number: 0 };
  /** Since they were taken. @type {FunctionRun[]} */
  #runs = [];

  /** Functions' way to the engine. @type {import("./runtime.mjs").Handlers} */
  handlers = {
    syscall: (op, args) => {
      if (this.#call === null) throw new CallError("Can't use database at import time");
      return this.#call.syscall(op, args);
    },
    log: (line) => this.#call?.log(line),
  };

  /** @returns {FunctionRun[]} those that began with no other one, since the last time */
  take() {
    return this.#runs.splice(0);
  }

  /**
   * Run a query or mutation; one that has its outcome already, by `once`, is answered with that.
   *
   * @param {{ id: number, kind: "query" | "mutation" | "any", path: string, args: string, caller: Caller, once?: { session: string, request: number }, arrived?: number, request?: import("../request-context.mjs").RequestContext }} message
   * @param {number} [reruns]  after conflicts
   * @returns {object}
   */
  call(message, reruns = 0) {
    const { id, kind, path, args, caller, once, request } = message;
    if (once !== undefined) {
      const outcome = this.#store.outcome(once.session, once.request);
      if (outcome !== null) return JSON.parse(outcome);
    }
    const { app } = this.#served();
    if (app === null) return notLoaded();
    const reads = this.#recorder?.reads() ?? null;
    const call = new Call(app, { caller, now: this.#now(), reads, request });
    const mark = this.#store.savepoint();
    try {
      const entry = app.functions.find(path, kind, caller.admin);
      this.#marker.begin("call", id);
      const value = this.#run(call, entry, args, once === undefined ? "HttpApi" : "SyncWorker", request?.id);
      if (entry.kind === "mutation") this.#conflicts?.strike(this.#store.log);
      const wrote = this.#store.log.length > 0;
      const ts = String(wrote ? call.ts : this.#store.ts);
      const reply = { ok: true, value, ts, logLines: call.logLines };
      if (once !== undefined && wrote)
        this.#store.setOutcome(once.session, once.request, JSON.stringify(reply));
      this.#store.release();
      if (entry.kind === "mutation") this.#record(path, reads, false, message.arrived);
      this.#settle(call.ts);
      return reply;
    } catch (error) {
      this.#store.rollback(mark);
      if (error === this.#conflicts?.last && reruns < MAX_RERUNS) return this.call(message, reruns + 1);
      return failure(expected(error), call.logLines);
    } finally {
      this.#marker.end();
    }
  }

  /** @param {{ id: number, path: string, args: string, caller: Caller, at: string }} message  at: nanoseconds, in decimal */
  queryAsOf({ id, path, args, caller, at }) {
    const { app } = this.#served();
    if (app === null) return notLoaded();
    const ts = BigInt(at);
    const { oldestTs, ts: newestTs } = this.#store;
    if (ts < oldestTs || ts > newestTs) {
      const [code, message] =
        ts < oldestTs
          ? ["TimestampTooOld", `Timestamp ${ts} is too early, retry with a higher timestamp`]
          : ["TimestampTooNew", `Timestamp ${ts} is more recent than latest_ts ${newestTs}`];
      return { ok: false, code, message, logLines: [] };
    }
    const call = new Call(app, { caller, now: this.#now() });
    call.snapshotTs = ts;
    return this.#answerQuery(id, call, at, () => {
      const entry = app.functions.find(path, "query", caller.admin);
      return this.#store.asOf(ts, () => this.#run(call, entry, args, "HttpApi"));
    });
  }

  /**
   * Run the query that one module exports.
   *
   * @param {{ id: number, bundle: import("./runtime.mjs").Bundle, env: Record<string, string | undefined>, args: string, caller: Caller }} message
   */
  inlineQuery({ id, bundle, env, args, caller }) {
    const served = this.#served();
    if (served.app === null) return notLoaded();
    let prepared;
    try {
      prepared = served.prepareInline(served.app, { bundle, env });
    } catch (error) {
      return refusal(error);
    }
    const { app, entry } = prepared;
    const call = new Call(app, { caller, now: this.#now() });
    return this.#answerQuery(id, call, String(this.#store.ts), () => this.#run(call, entry, args, "Tester"));
  }

  /**
   * @param {number} id
   * @param {Call} call
   * @param {string} ts  of what it reads
   * @param {() => string} run
   */
  #answerQuery(id, call, ts, run) {
    this.#marker.begin("call", id);
    try {
      return { ok: true, value: run(), ts, logLines: call.logLines };
    } catch (error) {
      return failure(expected(error), call.logLines);
    } finally {
      this.#marker.end();
    }
  }

  /**
   * Begin a subscription, whose first result is the answer.
   *
   * @param {import("./subscriptions.mjs").Subscriptions} subscriptions
   * @param {{ id: number, sub: number, path: string, args: string, caller: Caller, journal: string | null }} message
   */
  subscribe(subscriptions, { id, sub, path, args, caller, journal }) {
    this.#live = { kind: "call", number: id };
    const before = this.#runs.length;
    const group = subscriptions.add(sub, { path, args, caller }, journal);
    this.#live = { kind: "update", number: 0 };
    const { result } = group;
    const isCached = this.#runs.length === before && result.ok;
    if (isCached && this.#served().app?.functions.get(path)?.native === undefined) {
      const { logLines } = result;
      this.#runs.push({ kind: "query", path, caller: "SyncWorker", logLines, ms: 0, cached: true });
    }
    return { ...result, journal: group.journal, ts: String(this.#store.ts) };
  }

  /**
   * Run the query of a subscription.
   *
   * @param {LiveQuery} query
   * @param {string | null} journal
   * @param {number} sub
   * @returns {QueryRun}
   */
  live({ path, args, caller }, journal, sub) {
    const reads = new Reads();
    const { app } = this.#served();
    if (app === null) return { result: notLoaded(), reads, journal };
    const call = new Call(app, { caller, now: this.#now(), reads, journal });
    const { kind, number } = this.#live;
    if (kind === "update") this.#tally.batches.reruns += 1;
    this.#marker.begin(kind, kind === "call" ? number : sub);
    try {
      const entry = app.functions.find(path, "query", caller.admin);
      const value = this.#run(call, entry, args, "SyncWorker");
      return { result: { ok: true, value, logLines: call.logLines }, reads, journal: call.journal };
    } catch (error) {
      return { result: failure(expected(error), call.logLines), reads, journal };
    } finally {
      this.#marker.end();
    }
  }

  /**
   * Run a scheduled mutation.
   *
   * @param {Work} work
   * @param {() => void} before  in its savepoint
   * @param {() => void} after
   * @returns {JobOutcome}
   */
  job({ job: id, path, args, isCron = false }, before, after) {
    const app = /** @type {import("./call.mjs").App} */ (this.#served().app);
    this.#settle();
    const reads = this.#recorder?.reads() ?? null;
    const job = isCron ? null : id;
    const call = new Call(app, { caller: SCHEDULED_CALLER, now: this.#now(), job, reads });
    const mark = this.#store.savepoint();
    this.#tally.batches.jobs += 1;
    this.#marker.beginJob(id);
    try {
      before();
      this.#run(call, app.functions.find(path, "mutation", true), args, "Scheduler");
      after();
      this.#conflicts?.strike(this.#store.log);
      this.#store.release();
      this.#record(path, reads, true);
      this.#settle(call.ts);
      return { ok: true };
    } catch (error) {
      this.#store.rollback(mark);
      const { message } = expected(error);
      if (!(error instanceof SystemError)) return { ok: false, message: endText(message) };
      return { ok: false, message, retry: error === this.#conflicts?.last ? "conflict" : "system" };
    } finally {
      this.#marker.end();
    }
  }

  /**
   * @param {Call} call
   * @param {Callable} entry
   * @param {string} args
   * @param {FunctionRun["caller"]} caller
   * @param {string} [request]  its id
   */
  #run(call, entry, args, caller, request) {
    const { kind, path } = entry;
    /** @type {"success" | "error" | "fault"} */
    let outcome = "success";
    this.#call = call;
    const began = performance.now();
    /** @type {FunctionRun} */
    const run = { kind, path, caller, logLines: call.logLines, ms: 0, request };
    try {
      return call.run(entry, args);
    } catch (error) {
      run.error = endText(/** @type {Error} */ (error).message);
      outcome = error instanceof SystemError ? "fault" : "error";
      throw error;
    } finally {
      this.#call = null;
      run.ms = performance.now() - began;
      if (entry.native === undefined) {
        this.#tally.count(kind, path, outcome, run.ms / 1000, call.bytes());
        this.#runs.push(run);
      }
    }
  }

  /**
   * @param {string} path
   * @param {Reads | null} reads
   * @param {boolean} scheduled
   * @param {number} [arrived]  ms on the clock of `wallTime`
   */
  #record(path, reads, scheduled, arrived = wallTime()) {
    this.#recorder?.begin({ path, scheduled, arrived: arrived + this.#moved(), reads });
  }
}

function notLoaded() {
  return failure(new CallError("No functions are loaded"));
}

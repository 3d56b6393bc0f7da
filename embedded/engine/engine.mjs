/**
 * Serves batches of messages: functions, subscriptions and scheduled work on one SQLite file, in strict order.
 *
 * A batch is one transaction. Whatever it answers is answered after its commit, in one message.
 */

import { wallTime } from "../clock.mjs";
import { requestId } from "../failures.mjs";
import { functionNotFound, NO_FUNCTIONS } from "../paths.mjs";
import { analyzePush, prepareInlineQuery, PUSHED } from "../push/ops.mjs";
import { changeEnvironment, expectEnvironment, readEnvironment } from "../system/environment.mjs";
import { advance } from "./advance.mjs";
import { Call } from "./call.mjs";
import { checkArgs, checkReturns } from "./call-values.mjs";
import { DocumentCounts } from "./document-counts.mjs";
import { applySchema, checkSchema, prepareDeployment, requiredVariables } from "./deployment.mjs";
import { Conflicts, MAX_RERUNS } from "./conflicts.mjs";
import { CallError, isFault, OperatorError, SystemError } from "./errors.mjs";
import { JobDocuments } from "./job-storage.mjs";
import { CONVEX_LIMITS, Usage } from "./limits.mjs";
import { Reads } from "./reads.mjs";
import { Recorder } from "./recorder.mjs";
import { RunMarker } from "./run-marker.mjs";
import { Scheduler } from "./scheduler.mjs";
import { Store } from "./store.mjs";
import { Subscriptions, toWrite } from "./subscriptions.mjs";
import { Tally } from "./tally.mjs";
import { vectorSearch } from "./vector-search.mjs";
import { VirtualClock } from "./virtual-clock.mjs";

/**
 * @typedef {import("./call.mjs").App} App
 * @typedef {import("./call.mjs").Callable} Callable
 * @typedef {import("./call.mjs").Caller} Caller
 * @typedef {import("./deployment.mjs").Deployment} Deployment
 * @typedef {import("./scheduler.mjs").MutationOutcome} JobOutcome
 * @typedef {import("./scheduler.mjs").Work} Work
 * @typedef {import("./subscriptions.mjs").Result} Result
 * @typedef {import("./subscriptions.mjs").QueryRun} QueryRun
 * @typedef {import("./subscriptions.mjs").LiveQuery} LiveQuery
 *
 * @typedef {object} Options
 * @property {string} file
 * @property {"full" | "normal"} synchronous
 * @property {SharedArrayBuffer} guard
 * @property {{ job: string, message: string } | null} [killed]  the scheduled function that took the last engine down
 * @property {readonly string[]} [running]  scheduled actions that outlived the last engine
 * @property {Iterable<string>} [running]  jobs whose actions outlived the last engine
 * @property {Partial<import("./limits.mjs").Limits>} [limits]
 * @property {boolean} [strict]  every call evaluates the modules anew: no state of theirs survives
 * @property {() => number} [now]  ms since the epoch
 * @property {{ rate: number, seed: number } | null} [conflicts]  lets mutations conflict at random
 * @property {boolean} [record]  keeps what mutations read and wrote
 * @property {Float64Array | null} [clock]  the virtual clock, in place of `now`; see clock.mjs
 *
 * @typedef {object} FunctionRun
 * @property {"query" | "mutation"} kind
 * @property {string} path
 * @property {"HttpApi" | "SyncWorker" | "Scheduler" | "Tester"} caller  HttpApi: also an action's
 * @property {string[]} logLines
 * @property {number} ms  how long it took
 * @property {string} [error]
 * @property {boolean} [cached]  another one's result was taken
 *
 * @typedef {object} Batch  see docs/embedded-host.md
 * @property {string} ts
 * @property {any[]} replies
 * @property {any[]} updates
 * @property {Work[]} actions
 * @property {FunctionRun[]} runs  every run of a function that began with no other one
 */

const COUNTED_JOBS = 100_000; // in one state; what more there are is not told in metrics
const JOBS_PER_BATCH = 32; // what was just asked for must not wait long behind a full schedule
const OUTCOME_LIFE_MS = 14 * 24 * 3600 * 1000; // as long as Convex remembers the requests of a WebSocket session
const PRUNE_INTERVAL_MS = 60_000;
const SCHEDULED_CALLER = { admin: true, identity: null };

export class Engine {
  /**
   * @param {Options} options
   * @throws {OperatorError} the file cannot be used
   */
  constructor({
    file,
    synchronous,
    guard,
    killed = null,
    running = [],
    limits = {},
    now = Date.now,
    clock = null,
    conflicts = null,
    record = false,
    strict = false,
  }) {
    this.#strict = strict;
    this.#recorder = record ? new Recorder() : null;
    this.#conflicts = conflicts === null ? null : new Conflicts(conflicts);
    this.#clock = clock === null ? null : new VirtualClock(clock);
    this.#now = this.#clock?.now ?? now;
    this.#limits = { ...CONVEX_LIMITS, ...limits };
    this.#store = new Store({ file, synchronous, now: this.#now });
    this.#clock?.resume(this.#store);
    this.#firstNow = this.#now();
    this.#marker = new RunMarker(guard);
    this.#scheduler = new Scheduler({
      storage: (this.#jobs = new JobDocuments(this.#store)),
      kindOf: (path) => this.#app?.functions.get(path)?.kind ?? null,
      hasModule: (module) => this.#app?.functions.hasModule(module) ?? false,
      runMutation: (work, before, after) => this.#runJob(work, before, after),
      random: this.#conflicts?.random ?? Math.random,
    });
    this.#subscriptions = new Subscriptions((query, journal, sub) => this.#runLive(query, journal, sub));
    this.#running = new Map(Array.from(running, (job) => [job, "an action of before the engine's restart"]));
    this.#scheduler.recover(killed, this.#now(), running);
    this.#store.settle();
    this.#store.commit();
  }

  #strict;
  #clock;
  #conflicts;
  #recorder;
  /** When the engine began; what a virtual clock has moved since then keeps recorded runs apart. */
  #firstNow;
  #now;
  #limits;
  #store;
  #marker;
  #scheduler;
  #subscriptions;
  /** What calls work on; null until functions are loaded. @type {App | null} */
  #app = null;
  /** Whether there are functions of the app's own, so that what is scheduled may run. */
  #serving = false;
  /** Of the functions that are served. @type {import("./runtime.mjs").Declared | null} */
  #declared = null;
  /** @type {readonly string[]} */
  #modules = [];
  /** @type {Call | null} */
  #call = null;
  /** Whether a subscription runs for the first time (its caller waits) or again. @type {{ kind: "call" | "update", number: number }} */
  #run = { kind: "update", number: 0 };
  #tally = new Tally();
  #jobs;
  /** Made when they are asked for first. @type {DocumentCounts | null} */
  #documents = null;
  /** Paths of the scheduled actions that were handed out and have not ended, by job. @type {Map<string, string>} */
  #running;
  /** Those of the open batch. @type {Work[]} */
  #started = [];
  /** Runs of scheduled functions since the last step of the virtual clock. */
  #ran = 0;
  /** Since the last batch. @type {FunctionRun[]} */
  #runs = [];
  #nextPrune = 0;
  stopped = false;

  /**
   * Serve messages and scheduled work that is due, as one transaction.
   *
   * @param {readonly any[]} messages
   * @returns {Batch}
   */
  serve(messages) {
    /** @type {any[]} */
    const replies = [];
    try {
      for (const message of messages) {
        const reply = this.#serveOne(message);
        if (reply !== null) replies.push({ id: message.id, ...reply });
      }
      this.#runDue();
      this.#prune();
      this.#settle();
      const updates = this.#subscriptions.refresh();
      this.#store.commit();
      this.#tally.countBatch(
        messages.length,
        updates.reduce((sum, { subs }) => sum + subs.length, 0),
      );
      this.#clock?.publish();
      const [actions, runs] = [this.#started.splice(0), this.#runs.splice(0)];
      return { ts: String(this.#store.ts), replies, updates, actions, runs };
    } catch (error) {
      this.#store.abort();
      this.#clock?.rewind();
      throw error;
    } finally {
      if (this.stopped) this.#store.close();
    }
  }

  /** @returns {number | null} ms since the epoch at which there is scheduled work; null: none */
  nextWake() {
    return this.#serving ? this.#scheduler.nextWake() : null;
  }

  /** @returns {number | null} ms from now to `nextWake`; null: not before something asks for it */
  untilWake() {
    const wake = this.nextWake();
    if (wake === null || (this.#clock !== null && wake > this.#now())) return null;
    return Math.max(0, wake - this.#now());
  }

  close() {
    this.#store.close();
  }

  #runDue() {
    if (!this.#serving) return;
    for (const work of this.#scheduler.runDue(this.#now(), JOBS_PER_BATCH)) {
      this.#ran += 1;
      this.#tally.batches.jobs += 1;
      this.#running.set(work.job, work.path);
      this.#started.push(work);
    }
  }

  /** @param {{ to: number, isFirst: boolean }} message  isFirst: what ran before is not counted */
  #advance({ to, isFirst }) {
    const clock = this.#clock;
    if (clock === null) return failure(new CallError("The clock is not virtual"), []);
    if (isFirst) this.#ran = 0;
    const reached = advance({
      to,
      clock,
      runDue: () => this.#runDue(),
      nextWake: () => this.nextWake(),
      isWaiting: () => this.#running.size > 0,
    });
    clock.save(this.#store);
    const ran = this.#ran;
    this.#ran = 0;
    const value = { now: clock.now(), ran, reached, waitingFor: [...this.#running.values()] };
    return { ok: true, value: JSON.stringify(value), ts: String(this.#store.ts), logLines: [] };
  }

  /**
   * @param {any} message
   * @returns {object | null} null when it has no answer
   */
  #serveOne(message) {
    switch (message.op) {
      case "call":
        return message.at === undefined ? this.#serveCall(message) : this.#serveQueryAsOf(message);
      case "subscribe":
        return this.#serveSubscribe(message);
      case "unsubscribe":
        this.#subscriptions.remove(message.sub);
        return null;
      case "load":
        return this.#load(message);
      case "analyze":
        return this.#refusable(() => JSON.stringify(analyzePush(this.#served(), message)));
      case "checkSchema":
        return this.#refusable(() => JSON.stringify(checkSchema(this.#store, message.schema)));
      case "environment":
        return this.#refusable(() => JSON.stringify(readEnvironment(this.#store)));
      case "stored":
        return this.#refusable(() => JSON.stringify(this.#store.meta(PUSHED)));
      case "evaluate":
        return this.#evaluate(message);
      case "schedule":
        return this.#answer(() => {
          const { path, args, at, parent } = message;
          new Usage(this.#limits).schedule(args.length);
          const job = this.#scheduler.schedule({ path, args: JSON.parse(args), at, parent }, this.#now());
          return JSON.stringify(job);
        });
      case "cancel":
        return this.#answer(() => {
          this.#scheduler.cancel(message.job, this.#now());
          return "null";
        });
      case "finish":
        return this.#answer(() => {
          const { job, ok, message: error = "" } = message;
          this.#running.delete(job);
          this.#scheduler.finishAction(job, ok ? { ok: true } : { ok: false, message: error }, this.#now());
          return "null";
        });
      case "check":
        return this.#check(message);
      case "advance":
        return this.#advance(message);
      case "recording":
        return this.#answer(() => {
          if (this.#recorder === null)
            throw new CallError("This host does not record: start it with --record");
          if (message.clear) return String(this.#recorder.clear());
          return JSON.stringify(this.#recorder.recording(this.#store.tables()));
        });
      case "vectorSearch":
        return this.#answer(() => vectorSearch(this.#store, JSON.parse(message.query)));
      case "tally":
        return this.#answer(() => JSON.stringify(this.#counts()));
      case "stop":
        this.stopped = true;
        return { ok: true, value: "null", ts: String(this.#store.ts), logLines: [] };
      default:
        return failure(new CallError(`Unknown message ${JSON.stringify(message.op)}`), []);
    }
  }

  /**
   * A change that no function makes.
   *
   * @param {() => string} change  answers with JSON text
   */
  #answer(change) {
    const mark = this.#store.savepoint();
    try {
      const value = change();
      this.#store.release();
      this.#settle();
      return { ok: true, value, ts: String(this.#store.ts), logLines: [] };
    } catch (error) {
      this.#store.rollback(mark);
      return failure(expected(error), []);
    }
  }

  /**
   * Hold what an action was given, or returns, against its validators; the action itself runs elsewhere.
   *
   * @param {{ path: string, part: "args" | "returns", value: string }} message
   */
  #check({ path, part, value }) {
    return this.#answer(() => {
      const app = this.#app;
      const entry = app?.functions.get(path);
      if (app === null || entry === undefined) throw new CallError(functionNotFound(path));
      if (part === "args") checkArgs(app, entry, value);
      else checkReturns(app, entry, value);
      return "null";
    });
  }

  /** @param {{ id: number, kind: "query" | "mutation" | "any", path: string, args: string, caller: Caller, once?: { session: string, request: number }, arrived?: number }} message @param {number} [reruns]  after conflicts @returns {object} */
  #serveCall(message, reruns = 0) {
    const { id, kind, path, args, caller, once } = message;
    if (once !== undefined) {
      const outcome = this.#store.outcome(once.session, once.request);
      if (outcome !== null) return JSON.parse(outcome);
    }
    const app = this.#app;
    if (app === null) return failure(new CallError("No functions are loaded"), []);
    const reads = this.#recorder?.reads() ?? null;
    const call = new Call(app, { caller, now: this.#now(), reads });
    const mark = this.#store.savepoint();
    try {
      const entry = app.functions.find(path, kind, caller.admin);
      this.#marker.begin("call", id);
      const value = this.#runCall(call, entry, args, once === undefined ? "HttpApi" : "SyncWorker");
      if (entry.kind === "mutation") this.#conflicts?.strike(this.#store.log);
      const wrote = this.#store.log.length > 0;
      const ts = String(wrote ? call.ts : this.#store.ts);
      const reply = { ok: true, value, ts, logLines: call.logLines };
      if (once !== undefined && wrote)
        this.#store.setOutcome(once.session, once.request, JSON.stringify(reply));
      this.#store.release();
      if (entry.kind === "mutation") this.#noteRun(path, reads, false, message.arrived);
      this.#settle(call.ts);
      return reply;
    } catch (error) {
      this.#store.rollback(mark);
      if (error === this.#conflicts?.last && reruns < MAX_RERUNS) return this.#serveCall(message, reruns + 1);
      return failure(expected(error), call.logLines);
    } finally {
      this.#marker.end();
    }
  }

  /** @param {{ id: number, path: string, args: string, caller: Caller, at: string }} message  at: nanoseconds, in decimal */
  #serveQueryAsOf({ id, path, args, caller, at }) {
    const app = this.#app;
    if (app === null) return failure(new CallError("No functions are loaded"), []);
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
    try {
      const entry = app.functions.find(path, "query", caller.admin);
      this.#marker.begin("call", id);
      const value = this.#store.asOf(ts, () => this.#runCall(call, entry, args, "HttpApi"));
      return { ok: true, value, ts: at, logLines: call.logLines };
    } catch (error) {
      return failure(expected(error), call.logLines);
    } finally {
      this.#marker.end();
    }
  }

  /**
   * @param {Call} call
   * @param {Callable} entry
   * @param {string} args
   * @param {FunctionRun["caller"]} caller
   */
  #runCall(call, entry, args, caller) {
    const { kind, path } = entry;
    /** @type {"success" | "error" | "fault"} */
    let outcome = "success";
    this.#call = call;
    const began = performance.now();
    /** @type {FunctionRun} */
    const run = { kind, path, caller, logLines: call.logLines, ms: 0 };
    try {
      return call.run(entry, args);
    } catch (error) {
      run.error = /** @type {Error} */ (error).message;
      outcome = error instanceof SystemError ? "fault" : "error";
      throw error;
    } finally {
      this.#call = null;
      run.ms = performance.now() - began;
      if (entry.native === undefined) {
        this.#tally.count(kind, path, outcome, run.ms / 1000);
        this.#runs.push(run);
      }
    }
  }

  /** @returns {import("../http/metrics.mjs").EngineCounts} */
  #counts() {
    this.#documents ??= new DocumentCounts(this.#store);
    const counted = (/** @type {string} */ state) => this.#jobs.countJobs(state, COUNTED_JOBS);
    return {
      functions: this.#tally.functions,
      ...this.#tally.batches,
      ...this.#subscriptions.size,
      conflicts: this.#conflicts?.count ?? 0,
      running: this.#running.size,
      scheduled: {
        pending: counted("pending"),
        inProgress: counted("inProgress"),
        failed: counted("failed"),
      },
      tables: this.#documents.read(this.#store.tables().filter(({ name }) => !name.startsWith("_"))),
    };
  }

  /** @param {{ id: number, sub: number, path: string, args: string, caller: Caller, journal: string | null }} message */
  #serveSubscribe({ id, sub, path, args, caller, journal }) {
    this.#run = { kind: "call", number: id };
    const before = this.#runs.length;
    const group = this.#subscriptions.add(sub, { path, args, caller }, journal);
    this.#run = { kind: "update", number: 0 };
    if (
      this.#runs.length === before &&
      group.result.ok &&
      this.#app?.functions.get(path)?.native === undefined
    ) {
      const { logLines } = group.result;
      this.#runs.push({ kind: "query", path, caller: "SyncWorker", logLines, ms: 0, cached: true });
    }
    return { ...group.result, journal: group.journal, ts: String(this.#store.ts) };
  }

  /**
   * @param {LiveQuery} query
   * @param {string | null} journal
   * @param {number} sub
   * @returns {QueryRun}
   */
  #runLive({ path, args, caller }, journal, sub) {
    const reads = new Reads();
    const app = this.#app;
    if (app === null)
      return { result: failure(new CallError("No functions are loaded"), []), reads, journal };
    const call = new Call(app, { caller, now: this.#now(), reads, journal });
    const { kind, number } = this.#run;
    if (kind === "update") this.#tally.batches.reruns += 1;
    this.#marker.begin(kind, kind === "call" ? number : sub);
    try {
      const entry = app.functions.find(path, "query", caller.admin);
      const value = this.#runCall(call, entry, args, "SyncWorker");
      return { result: { ok: true, value, logLines: call.logLines }, reads, journal: call.journal };
    } catch (error) {
      return { result: failure(expected(error), call.logLines), reads, journal };
    } finally {
      this.#marker.end();
    }
  }

  /**
   * @param {Work} work
   * @param {() => void} before
   * @param {() => void} after
   * @returns {JobOutcome}
   */
  #runJob({ job, path, args }, before, after) {
    const app = /** @type {App} */ (this.#app);
    this.#settle();
    const reads = this.#recorder?.reads() ?? null;
    const call = new Call(app, { caller: SCHEDULED_CALLER, now: this.#now(), job, reads });
    const mark = this.#store.savepoint();
    this.#ran += 1;
    this.#tally.batches.jobs += 1;
    this.#marker.beginJob(job);
    try {
      before();
      this.#runCall(call, app.functions.find(path, "mutation", true), args, "Scheduler");
      after();
      this.#conflicts?.strike(this.#store.log);
      this.#store.release();
      this.#noteRun(path, reads, true);
      this.#settle(call.ts);
      return { ok: true };
    } catch (error) {
      this.#store.rollback(mark);
      const { message } = expected(error);
      if (!(error instanceof SystemError)) return { ok: false, message };
      return { ok: false, message, retry: error === this.#conflicts?.last ? "conflict" : "system" };
    } finally {
      this.#marker.end();
    }
  }

  /** Functions' way to the engine. @type {import("./runtime.mjs").Handlers} */
  #handlers = {
    syscall: (op, args) => {
      if (this.#call === null) throw new CallError("Can't use database at import time");
      return this.#call.syscall(op, args);
    },
    log: (line) => this.#call?.log(line),
  };

  /**
   * Activate functions, keep what was pushed and change variables: all of it or nothing.
   *
   * @param {object} message
   * @param {import("./runtime.mjs").Bundle | null} message.bundle  null: there are none yet
   * @param {Record<string, string | undefined>} message.env
   * @param {import("../system/environment.mjs").Change[]} [message.changes]  of variables in the file
   * @param {string} [message.pushed]  kept in the file
   * @param {Record<string, string>} [message.expected]  refused when the file's variables are others
   */
  #load({ bundle, env, changes = [], pushed, expected }) {
    const mark = this.#store.savepoint();
    try {
      if (expected !== undefined) expectEnvironment(this.#store, expected);
      if (changes.length > 0) changeEnvironment(this.#store, changes, requiredVariables(this.#declared));
      if (pushed !== undefined) this.#store.setMeta(PUSHED, pushed);
      const deployment = prepareDeployment(
        bundle ?? NO_FUNCTIONS,
        env,
        this.#handlers,
        this.#now(),
        this.#store,
        { strict: this.#strict },
      );
      if (bundle !== null) applySchema(this.#store, deployment.schema);
      const before = this.#app;
      this.#activate(deployment);
      try {
        if (bundle !== null) this.#scheduler.setCrons(deployment.crons, this.#now());
      } catch (error) {
        this.#app = before;
        throw error;
      }
      this.#serving = bundle !== null;
      this.#declared = deployment.declared;
      this.#modules = bundle?.modules ?? [];
      this.#store.release();
      this.#settle();
      this.#subscriptions.touchAll();
      return { ok: true, value: deployment.description, ts: String(this.#store.ts), logLines: [] };
    } catch (error) {
      this.#store.rollback(mark);
      return refusal(error);
    }
  }

  /** @returns {import("../push/ops.mjs").Served} */
  #served() {
    const [app, declared, modules, store] = [this.#app, this.#declared, this.#modules, this.#store];
    return { app, declared, modules, store, handlers: this.#handlers, now: this.#now() };
  }

  /** @param {() => string} answer  JSON text */
  #refusable(answer) {
    try {
      return { ok: true, value: answer(), ts: String(this.#store.ts), logLines: [] };
    } catch (error) {
      return refusal(error);
    }
  }

  /**
   * Run the query that one module exports.
   *
   * @param {{ id: number, bundle: import("./runtime.mjs").Bundle, env: Record<string, string | undefined>, args: string, caller: Caller }} message
   */
  #evaluate({ id, bundle, env, args, caller }) {
    const served = this.#served();
    if (served.app === null) return failure(new CallError("No functions are loaded"), []);
    let prepared;
    try {
      prepared = prepareInlineQuery({ ...served, app: served.app }, { bundle, env });
    } catch (error) {
      return refusal(error);
    }
    const call = new Call(prepared.app, { caller, now: served.now });
    this.#marker.begin("call", id);
    try {
      const value = this.#runCall(call, prepared.entry, args, "Tester");
      return { ok: true, value, ts: String(this.#store.ts), logLines: call.logLines };
    } catch (error) {
      return failure(expected(error), call.logLines);
    } finally {
      this.#marker.end();
    }
  }

  /** @param {Deployment} deployment */
  #activate({ runtime, functions, schema }) {
    const [store, scheduler, limits] = [this.#store, this.#scheduler, this.#limits];
    this.#app = { store, scheduler, limits, runtime, functions, schema };
  }

  /**
   * Count what was written as one commit, and find the subscriptions that it touches.
   *
   * @param {bigint} [ts]  at which it was made
   */
  #settle(ts) {
    const writes = this.#store.settle(ts);
    this.#documents?.follow(writes);
    const touched = writes.length > 0 ? this.#subscriptions.touch(writes) : 0;
    this.#recorder?.commit(this.#store.ts, writes.map(toWrite), touched);
  }

  /**
   * @param {string} path
   * @param {Reads | null} reads
   * @param {boolean} scheduled
   * @param {number} [arrived]  ms on the clock of `wallTime`
   */
  #noteRun(path, reads, scheduled, arrived = wallTime()) {
    const moved = this.#clock === null ? 0 : this.#now() - this.#firstNow;
    this.#recorder?.begin({ path, scheduled, arrived: arrived + moved, reads });
  }

  #prune() {
    const now = this.#now();
    if (now < this.#nextPrune || this.#app === null) return;
    this.#store.pruneOutcomes(now - OUTCOME_LIFE_MS);
    this.#nextPrune = this.#scheduler.prune(now) ? now : now + PRUNE_INTERVAL_MS;
  }
}

/**
 * What a client may be told of; a fault of the disk ends the batch instead.
 *
 * @param {unknown} error
 * @returns {Error & { data?: string, code?: string }}
 */
function expected(error) {
  if (error instanceof Error && !isFault(error)) return error;
  throw error;
}

/**
 * What is wrong with functions that cannot be served, for the operator and in Convex's words.
 *
 * @param {unknown} error
 */
function refusal(error) {
  if (!(error instanceof OperatorError)) throw error;
  return { ok: false, message: error.message, refusal: error.refusal, logLines: [] };
}

/**
 * @param {Error & { data?: string, code?: string }} error  code: of the system's failures alone
 * @param {string[]} logLines
 * @returns {Extract<Result, { ok: false }>}
 */
function failure({ message, data, code }, logLines) {
  return {
    ok: false,
    message: `[Request ID: ${requestId()}] Server Error\n${message}`,
    logLines,
    ...(data === undefined ? {} : { data }),
    ...(code === undefined ? {} : { code }),
  };
}

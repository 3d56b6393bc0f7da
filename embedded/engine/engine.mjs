/**
 * Serves batches of messages: functions, subscriptions and scheduled work on one SQLite file, in strict order.
 *
 * A batch is one transaction. Whatever it answers is answered after its commit, in one message.
 */

import { PUSHED } from "../push/ops.mjs";
import { readEnvironment } from "../system/environment.mjs";
import { advance } from "./advance.mjs";
import { Conflicts } from "./conflicts.mjs";
import { checkSchema } from "./deployment.mjs";
import { DocumentCounts } from "./document-counts.mjs";
import { CallError } from "./errors.mjs";
import { FunctionRuns } from "./function-runs.mjs";
import { JobDocuments } from "./job-storage.mjs";
import { CONVEX_LIMITS, Usage } from "./limits.mjs";
import { Recorder } from "./recorder.mjs";
import { expected, failure, refusal } from "./replies.mjs";
import { Scheduler } from "./scheduler.mjs";
import { Served } from "./served.mjs";
import { Store } from "./store.mjs";
import { Subscriptions, toWrite } from "./subscriptions.mjs";
import { Tally } from "./tally.mjs";
import { vectorSearch } from "./vector-search.mjs";
import { VirtualClock } from "./virtual-clock.mjs";

/**
 * @typedef {import("./function-runs.mjs").FunctionRun} FunctionRun
 * @typedef {import("./scheduler.mjs").Work} Work
 *
 * @typedef {object} Options
 * @property {string} file
 * @property {"full" | "normal"} synchronous
 * @property {SharedArrayBuffer} guard
 * @property {{ job: string, message: string } | null} [killed]  the scheduled function that took the last engine down
 * @property {readonly string[]} [running]  scheduled actions that outlived the last engine
 * @property {Partial<import("./limits.mjs").Limits>} [limits]
 * @property {boolean} [strict]  every call evaluates the modules anew: no state of theirs survives
 * @property {() => number} [now]  ms since the epoch
 * @property {{ rate: number, seed: number } | null} [conflicts]  lets mutations conflict at random
 * @property {boolean} [record]  keeps what mutations read and wrote
 * @property {Float64Array | null} [clock]  the virtual clock, in place of `now`; see clock.mjs
 * @property {typeof import("./deployment.mjs").prepareDeployment} [prepare]  evaluates what `load` is given
 *
 * @typedef {object} Batch  see docs/embedded-host.md
 * @property {string} ts
 * @property {any[]} replies
 * @property {any[]} updates
 * @property {Work[]} actions
 * @property {FunctionRun[]} runs  every run of a function that began with no other one
 */

const COUNTED_JOBS = 100_000; // in one state; what more there are is not told in metrics
const JOBS_PER_ROUND = 16; // what was just asked for must not wait long behind a full schedule
const ROUNDS_PER_BATCH = 2; // a wake-up and the work that it asks for are one commit, and what they change is told once
const OUTCOME_LIFE_MS = 14 * 24 * 3600 * 1000; // as long as Convex remembers the requests of a WebSocket session
const PRUNE_INTERVAL_MS = 60_000;

export class Engine {
  /**
   * @param {Options} options
   * @throws {import("./errors.mjs").OperatorError} the file cannot be used
   */
  constructor({
    file,
    synchronous,
    guard,
    killed = null,
    running = [],
    limits = {},
    now: realNow = Date.now,
    clock = null,
    conflicts = null,
    record = false,
    strict = false,
    prepare,
  }) {
    this.#recorder = record ? new Recorder() : null;
    this.#conflicts = conflicts === null ? null : new Conflicts(conflicts);
    this.#clock = clock === null ? null : new VirtualClock(clock);
    const now = (this.#now = this.#clock?.now ?? realNow);
    this.#limits = { ...CONVEX_LIMITS, ...limits };
    const store = (this.#store = new Store({ file, synchronous, now }));
    this.#clock?.resume(store);
    const firstNow = now();
    this.#runs = new FunctionRuns({
      store,
      tally: this.#tally,
      conflicts: this.#conflicts,
      recorder: this.#recorder,
      guard,
      now,
      moved: () => (this.#clock === null ? 0 : now() - firstNow),
      served: () => this.#served,
      settle: (ts) => this.#settle(ts),
    });
    this.#jobs = new JobDocuments(store);
    const scheduler = (this.#scheduler = new Scheduler({
      storage: this.#jobs,
      kindOf: (path) => this.#served.app?.functions.get(path)?.kind ?? null,
      hasModule: (module) => this.#served.app?.functions.hasModule(module) ?? false,
      runMutation: (work, before, after) => this.#runs.job(work, before, after),
      now,
      random: this.#conflicts?.random ?? Math.random,
    }));
    const { handlers } = this.#runs;
    this.#served = new Served({ store, scheduler, limits: this.#limits, handlers, now, strict, prepare });
    this.#subscriptions = new Subscriptions((query, journal, sub) => this.#runs.live(query, journal, sub));
    this.#running = new Map(Array.from(running, (job) => [job, "an action of before the engine's restart"]));
    scheduler.recover(killed, now(), running);
    store.settle();
    store.commit();
  }

  #clock;
  #conflicts;
  #recorder;
  #now;
  #limits;
  #store;
  #runs;
  #scheduler;
  /** @type {Served} */
  #served;
  #subscriptions;
  #tally = new Tally();
  #jobs;
  /** Made when they are asked for first. @type {DocumentCounts | null} */
  #documents = null;
  /** Paths of the scheduled actions that were handed out and have not ended, by job. @type {Map<string, string>} */
  #running;
  /** Those of the open batch. @type {Work[]} */
  #started = [];
  /** How many scheduled functions had run at the last step of the virtual clock. */
  #ranBefore = 0;
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
      const [actions, runs] = [this.#started.splice(0), this.#runs.take()];
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
    return this.#served.isActive ? this.#scheduler.nextWake() : null;
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

  /** Run what is due, and then what that has scheduled for at once. */
  #runDue() {
    if (!this.#served.isActive) return;
    for (let round = 0; round < ROUNDS_PER_BATCH; round++) {
      for (const work of this.#scheduler.runDue(this.#now(), JOBS_PER_ROUND)) {
        this.#tally.batches.jobs += 1;
        this.#running.set(work.job, work.path);
        this.#started.push(work);
      }
    }
  }

  /** @param {{ to: number, isFirst: boolean }} message  isFirst: what ran before is not counted */
  #advance({ to, isFirst }) {
    const clock = this.#clock;
    if (clock === null) return failure(new CallError("The clock is not virtual"));
    const { batches } = this.#tally;
    if (isFirst) this.#ranBefore = batches.jobs;
    const reached = advance({
      to,
      clock,
      runDue: () => this.#runDue(),
      nextWake: () => this.nextWake(),
      isWaiting: () => this.#running.size > 0,
    });
    clock.save(this.#store);
    const ran = batches.jobs - this.#ranBefore;
    this.#ranBefore = batches.jobs;
    const value = { now: clock.now(), ran, reached, waitingFor: [...this.#running.values()] };
    return this.#success(JSON.stringify(value));
  }

  /**
   * @param {any} message
   * @returns {object | null} null when it has no answer
   */
  #serveOne(message) {
    switch (message.op) {
      case "call":
        return message.at === undefined ? this.#runs.call(message) : this.#runs.queryAsOf(message);
      case "subscribe":
        return this.#runs.subscribe(this.#subscriptions, message);
      case "unsubscribe":
        this.#subscriptions.remove(message.sub);
        return null;
      case "load":
        return this.#refusable(() => {
          const value = this.#served.load(message);
          this.#settle();
          this.#subscriptions.touchAll();
          return value;
        });
      case "analyze":
        return this.#refusable(() => JSON.stringify(this.#served.analyze(message)));
      case "checkSchema":
        return this.#refusable(() => JSON.stringify(checkSchema(this.#store, message.schema)));
      case "environment":
        return this.#refusable(() => JSON.stringify(readEnvironment(this.#store)));
      case "stored":
        return this.#refusable(() => JSON.stringify(this.#store.meta(PUSHED)));
      case "evaluate":
        return this.#runs.inlineQuery(message);
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
      case "check": {
        /** @type {string[]} */
        let logLines = [];
        const reply = this.#answer(() => {
          const checked = this.#served.check(message);
          logLines = checked.logLines;
          return checked.value;
        });
        return { ...reply, logLines };
      }
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
        return this.#success("null");
      default:
        return failure(new CallError(`Unknown message ${JSON.stringify(message.op)}`));
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
      return this.#success(value);
    } catch (error) {
      this.#store.rollback(mark);
      return failure(expected(error));
    }
  }

  /**
   * What answers about functions that may not be fit to be served.
   *
   * @param {() => string} answer  JSON text
   */
  #refusable(answer) {
    try {
      return this.#success(answer());
    } catch (error) {
      return refusal(error);
    }
  }

  /** @param {string} value  JSON text */
  #success(value) {
    return { ok: true, value, ts: String(this.#store.ts), logLines: [] };
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

  /**
   * Count what was written as one commit, and find the subscriptions that it touches.
   *
   * @param {bigint} [ts]  at which it was made
   */
  #settle(ts) {
    const writes = this.#store.settle(ts);
    this.#documents?.follow(writes);
    const touched = writes.length > 0 ? this.#subscriptions.touch(writes) : 0;
    this.#recorder?.commit(
      this.#store.ts,
      writes.map((write) => toWrite(write)),
      touched,
    );
  }

  #prune() {
    const now = this.#now();
    if (now < this.#nextPrune || this.#served.app === null) return;
    this.#store.pruneOutcomes(now - OUTCOME_LIFE_MS);
    this.#nextPrune = this.#scheduler.prune(now) ? now : now + PRUNE_INTERVAL_MS;
  }
}

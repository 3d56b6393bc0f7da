/**
 * The durable scheduler: runs a scheduled mutation exactly once, a scheduled action at most once.
 *
 * Jobs are documents of the system table `_scheduled_functions`, which users read; crons are rows of `_cron_jobs`, which they do not.
 * The engine keeps both behind `JobStorage`; every call here is synchronous and part of the transaction that is open around it, so
 * what the scheduler decides is committed with what the functions wrote, or not at all. Time is passed in.
 *
 * A mutation and the success of its job are one savepoint; a mutation that fails is undone and its job has failed. An action's job is
 * committed as in progress before the action starts, and one that was lost on the way has failed: it is never started again.
 */

import { canonicalPath, modulePath } from "../paths.mjs";
import { nextRun, nextRunSkipping } from "./cron.mjs";
import { Retries } from "./retries.mjs";

/**
 * @typedef {import("./cron.mjs").CronSpec} CronSpec
 * @typedef {import("./cron.mjs").Schedule} Schedule
 * @typedef {import("./values.mjs").Encoded} Encoded
 *
 * @typedef {{ kind: "pending" } | { kind: "inProgress" } | { kind: "success" } | { kind: "canceled" } | { kind: "failed", error: string }} JobState
 * @typedef {object} JobFields  of a document of `_scheduled_functions`
 * @property {string} name  "folder/mod.js:fn"
 * @property {Encoded[]} args  one object
 * @property {number} scheduledTime  ms
 * @property {number} [completedTime]  ms; set when the state is final
 * @property {JobState} state
 * @typedef {JobFields & { _id: string }} Job
 *
 * @typedef {object} CronFields  of a row of `_cron_jobs`
 * @property {string} name
 * @property {string} path  canonical
 * @property {string} args  JSON text of a one-element array
 * @property {string} schedule  JSON text
 * @property {number} nextRun  ms; while the cron is in progress when that run was due
 * @property {boolean} inProgress  its action runs
 * @typedef {CronFields & { _id: string }} Cron
 *
 * @typedef {object} JobStorage
 * @property {(job: JobFields) => string} insertJob  answers the new id
 * @property {(id: string) => boolean} isJobId  whether it is an id of `_scheduled_functions`, of a job that is there or not
 * @property {(id: string) => Job | null} getJob  null for ids of other tables too
 * @property {(id: string, job: JobFields) => void} replaceJob
 * @property {(id: string) => void} deleteJob
 * @property {(now: number, limit: number) => string[]} dueJobs  ids of pending jobs with `scheduledTime <= now`, in that order
 * @property {(apart: { size: number, has: (id: string) => boolean }) => number | null} nextDue  `scheduledTime` of the first pending job, some left out
 * @property {(limit: number) => string[]} jobsInProgress  ids, in any order
 * @property {(before: number, limit: number) => string[]} jobsCompletedBefore  ids with `completedTime < before`
 * @property {() => Cron[]} crons
 * @property {(cron: CronFields) => string} insertCron
 * @property {(id: string, cron: CronFields) => void} replaceCron
 * @property {(id: string) => void} deleteCron
 *
 * @typedef {object} Work  one function to run
 * @property {string} job  id of the job or cron; names it in `finishAction` and `recover`
 * @property {string} path  canonical
 * @property {string} args  JSON text of a one-element array
 * @property {boolean} [isCron]
 * @typedef {{ ok: true } | { ok: false, message: string }} Outcome
 * @typedef {Outcome & { retry?: "conflict" | "system" }} MutationOutcome  retry: not the function failed, it is to run again later
 *
 * @typedef {object} SchedulerHost
 * @property {JobStorage} storage
 * @property {(path: string) => "query" | "mutation" | "action" | null} kindOf  of a loaded function
 * @property {(module: string) => boolean} hasModule  whether it is loaded and has functions
 * @property {(work: Work, before: () => void, after: () => void) => MutationOutcome} runMutation  opens a savepoint, calls `before`, runs the
 *   function and, if it succeeded, calls `after` and releases; else rolls all of it back
 * @property {() => number} now  ms; asked when a cron's mutation has ended
 * @property {() => number} [random]  from 0 to 1; spreads what is tried again
 */

const PAGE = 100; // jobs that one maintenance step touches
const PARALLEL = 8; // jobs that run at a time: Convex's number for small deployments
const RETENTION_MS = 7 * 24 * 3600 * 1000;
const MAX_DISTANCE_MS = 5 * 366 * 24 * 3600 * 1000; // tells a time in the wrong unit from one that is meant
const LOST_ACTION = "Transient error while executing action";

/** A call of the scheduler that Convex refuses; the message is Convex's text. */
export class SchedulerError extends Error {}

export class Scheduler {
  /** @param {SchedulerHost} host */
  constructor({ storage, kindOf, hasModule, runMutation, now, random = Math.random }) {
    this.#retries = new Retries(random);
    this.#storage = storage;
    this.#kindOf = kindOf;
    this.#hasModule = hasModule;
    this.#runMutation = runMutation;
    this.#now = now;
  }

  #storage;
  #kindOf;
  #hasModule;
  #runMutation;
  #now;
  #retries;
  /** Jobs whose actions were handed out and have not ended. @type {Set<string>} */
  #handedOut = new Set();
  /** The crons of the storage by id; null: to be read again. @type {Map<string, Cron> | null} */
  #cronCache = null;

  /**
   * @param {object} call
   * @param {string} call.path  canonical
   * @param {Encoded[]} call.args  one object
   * @param {number} call.at  ms
   * @param {string} [call.parent]  id of the job whose function schedules this one
   * @param {number} now
   * @returns {string} the job's id
   * @throws {SchedulerError}
   */
  schedule({ path, args, at, parent }, now) {
    checkTime(at, now);
    this.#checkExists(path);
    const name = modulePath(path);
    const canceled = parent !== undefined && this.#storage.getJob(parent)?.state.kind === "canceled";
    return this.#storage.insertJob(
      canceled
        ? { name, args, scheduledTime: now, completedTime: now, state: { kind: "canceled" } }
        : { name, args, scheduledTime: at, state: { kind: "pending" } },
    );
  }

  /** @param {string} path  canonical @throws {SchedulerError} */
  #checkExists(path) {
    if (this.#kindOf(path) !== null) return;
    const colon = path.lastIndexOf(":");
    const module = `${path.slice(0, colon)}.js`;
    if (!this.#hasModule(path.slice(0, colon))) {
      throw new SchedulerError(`Attempted to schedule function at nonexistent path: ${module}`);
    }
    throw new SchedulerError(
      `Attempted to schedule function, but no exported function ${path.slice(colon + 1)} found in the file: ${module}. Did you forget to export it?`,
    );
  }

  /**
   * A job that has not ended is canceled. A mutation may cancel itself; an action that runs is not stopped, but what it schedules from
   * then on is canceled at once. A job that has ended or is gone stays as it is.
   *
   * @param {string} id
   * @param {number} now
   * @throws {SchedulerError}
   */
  cancel(id, now) {
    if (!this.#storage.isJobId(id)) {
      throw new SchedulerError(
        "Invalid scheduled function ID. The ID must be an ID on the '_scheduled_functions' table.",
      );
    }
    this.#complete(id, { kind: "canceled" }, now);
  }

  /**
   * Run what is due: mutations in here, while actions are marked as started and handed out. While eight actions run no job is
   * started, as in Convex; a cron has its own place.
   *
   * @param {number} now
   * @param {number} limit  of functions
   * @returns {Work[]} actions, to be started once all of this is committed
   */
  runDue(now, limit) {
    /** @type {Work[]} */
    const actions = [];
    let room = limit;
    for (const cron of this.#crons.values()) {
      if (room === 0) return actions;
      if (cron.inProgress || cron.nextRun > now || this.#retries.at(cron._id) > now) continue;
      room -= 1;
      this.#runCron(cron, now, actions);
    }
    for (const id of this.#storage.dueJobs(now, room + this.#retries.ids.size)) {
      if (this.#handedOut.size >= PARALLEL) break;
      if (this.#retries.at(id) > now) continue;
      const job = this.#storage.getJob(id);
      if (job?.state.kind === "pending") this.#runJob(job, now, actions); // one before it may have canceled it
    }
    return actions;
  }

  /**
   * @param {Job} job
   * @param {number} now
   * @param {Work[]} actions
   */
  #runJob(job, now, actions) {
    const { _id: id, args } = job;
    const path = canonicalPath(job.name);
    const work = { job: id, path, args: JSON.stringify(args) };
    const start = () => this.#replaceJob(job, { kind: "inProgress" });
    switch (this.#kindOf(path)) {
      case "mutation": {
        const outcome = this.#runMutation(work, start, () => this.#complete(id, { kind: "success" }, now));
        if (outcome.ok) return;
        if (outcome.retry === undefined) this.#complete(id, { kind: "failed", error: outcome.message }, now);
        else this.#retries.failed(id, outcome.retry, now);
        return;
      }
      case "action":
        start();
        this.#handedOut.add(id);
        actions.push(work);
        return;
      case "query": {
        const [module, name] = job.name.split(":");
        const error = `Unsupported function type. "${name}" in module "${module}" is defined as a Query. Only Mutation and Action can be scheduled.`;
        this.#complete(id, { kind: "failed", error }, now);
        return;
      }
      default:
        this.#complete(
          id,
          {
            kind: "failed",
            error: `Could not find function for '${path}'. Did you forget to run \`npx convex dev\` or \`npx convex deploy\`?`,
          },
          now,
        );
    }
  }

  /**
   * @param {Cron} cron
   * @param {number} now
   * @param {Work[]} actions
   */
  #runCron(cron, now, actions) {
    const work = { job: cron._id, path: cron.path, args: cron.args, isCron: true };
    const kind = this.#kindOf(cron.path);
    if (kind === "action") {
      this.#replaceCron({ ...cron, inProgress: true });
      actions.push(work);
      return;
    }
    const advance = () => this.#advanceCron(cron, Math.max(now, this.#now()));
    const outcome = kind === "mutation" ? this.#runMutation(work, () => undefined, advance) : null;
    if (outcome?.ok === false && outcome.retry !== undefined) {
      this.#cronCache = null; // it may have been advanced before all was undone
      return this.#retries.failed(cron._id, "cron", now);
    }
    this.#retries.forget(cron._id);
    if (outcome?.ok !== true) advance();
  }

  /**
   * An action ended. What is told twice, or of a job that is canceled or gone, changes nothing.
   *
   * @param {string} id  `job` of its `Work`
   * @param {Outcome} outcome
   * @param {number} now
   */
  finishAction(id, outcome, now) {
    this.#handedOut.delete(id);
    const cron = this.#crons.get(id);
    if (cron?.inProgress) this.#advanceCron(cron, now);
    if (cron !== undefined || this.#storage.getJob(id)?.state.kind !== "inProgress") return;
    this.#complete(id, outcome.ok ? { kind: "success" } : { kind: "failed", error: outcome.message }, now);
  }

  /**
   * After a start: actions that run no more have failed, and so has the function that took the thread down.
   *
   * @param {{ job: string, message: string } | null} killed
   * @param {number} now
   * @param {Iterable<string>} [running]  jobs and crons whose actions outlived the thread
   */
  recover(killed, now, running = []) {
    const alive = new Set(running);
    for (const id of alive) if (this.#storage.isJobId(id)) this.#handedOut.add(id);
    if (killed !== null) {
      this.#complete(killed.job, { kind: "failed", error: killed.message }, now);
      const cron = this.#crons.get(killed.job);
      if (cron !== undefined && cron.nextRun <= now) this.#advanceCron(cron, now);
    }
    for (const cron of this.#crons.values()) {
      if (cron.inProgress && !alive.has(cron._id)) this.#advanceCron(cron, now);
    }
    for (;;) {
      const page = this.#storage.jobsInProgress(PAGE + alive.size);
      const lost = page.filter((id) => !alive.has(id));
      if (lost.length === 0) return;
      for (const id of lost) this.#complete(id, { kind: "failed", error: LOST_ACTION }, now);
    }
  }

  /**
   * Take the crons of newly loaded functions. One whose schedule is as before keeps its beat; a new schedule starts anew.
   *
   * @param {CronSpec[]} specs
   * @param {number} now
   */
  setCrons(specs, now) {
    try {
      const gone = new Map([...this.#crons.values()].map((cron) => [cron.name, cron]));
      for (const spec of specs) {
        this.#setCron(spec, gone.get(spec.name), now);
        gone.delete(spec.name);
      }
      for (const { _id: id } of gone.values()) {
        this.#storage.deleteCron(id);
        this.#retries.forget(id);
      }
    } finally {
      this.#cronCache = null; // the functions may yet be refused and all of this undone
    }
  }

  /**
   * @param {CronSpec} spec
   * @param {Cron | undefined} known
   * @param {number} now
   */
  #setCron({ name, path, args, schedule }, known, now) {
    const spec = { name, path, args, schedule: JSON.stringify(schedule) };
    const anew = () => nextRun(schedule, now, { first: true });
    if (known === undefined) {
      this.#storage.insertCron({ ...spec, nextRun: anew(), inProgress: false });
    } else if (known.schedule !== spec.schedule && !known.inProgress) {
      this.#replaceCron({ ...known, ...spec, nextRun: anew() });
    } else if (known.schedule !== spec.schedule || known.path !== path || known.args !== args) {
      this.#replaceCron({ ...known, ...spec });
    }
  }

  /**
   * Delete one page of jobs that ended more than 7 days ago.
   *
   * @param {number} now
   * @returns {boolean} whether there may be more
   */
  prune(now) {
    const ids = this.#storage.jobsCompletedBefore(now - RETENTION_MS, PAGE);
    for (const id of ids) this.#storage.deleteJob(id);
    return ids.length === PAGE;
  }

  /** @returns {number | null} ms at which `runDue` will have something to do; null: not before something is scheduled */
  nextWake() {
    const full = this.#handedOut.size >= PARALLEL; // then the end of an action is what comes next
    let next = full ? Infinity : (this.#storage.nextDue(this.#retries.ids) ?? Infinity);
    for (const [id, cron] of this.#crons) {
      if (!cron.inProgress && !this.#retries.ids.has(id)) next = Math.min(next, cron.nextRun);
    }
    for (const [id, { at }] of this.#retries.ids) {
      if (!full || this.#crons.has(id)) next = Math.min(next, at);
    }
    return next === Infinity ? null : next;
  }

  /**
   * Give a job its final state, unless it has one or is gone.
   *
   * @param {string} id
   * @param {JobState} state
   * @param {number} now
   */
  #complete(id, state, now) {
    const job = this.#storage.getJob(id);
    this.#retries.forget(id);
    if (job?.state.kind !== "pending" && job?.state.kind !== "inProgress") return;
    this.#replaceJob({ ...job, completedTime: now }, state);
  }

  /**
   * @param {Job} job
   * @param {JobState} state
   */
  #replaceJob({ _id: id, name, args, scheduledTime, completedTime }, state) {
    const fields = { name, args, scheduledTime, state };
    this.#storage.replaceJob(id, completedTime === undefined ? fields : { ...fields, completedTime });
  }

  get #crons() {
    this.#cronCache ??= new Map(this.#storage.crons().map((cron) => [cron._id, cron]));
    return this.#cronCache;
  }

  /** @param {Cron} cron */
  #replaceCron(cron) {
    const { _id: id, name, path, args, schedule, nextRun: next, inProgress } = cron;
    this.#storage.replaceCron(id, { name, path, args, schedule, nextRun: next, inProgress });
    this.#crons.set(id, cron);
  }

  /**
   * A run of a cron is over: the next one is the first that is not past.
   *
   * @param {Cron} cron
   * @param {number} now
   */
  #advanceCron(cron, now) {
    const schedule = /** @type {Schedule} */ (JSON.parse(cron.schedule));
    this.#replaceCron({ ...cron, nextRun: nextRunSkipping(schedule, cron.nextRun, now), inProgress: false });
  }
}

/**
 * @param {number} at
 * @param {number} now
 */
function checkTime(at, now) {
  const distance = at - now;
  if (Math.abs(distance) <= MAX_DISTANCE_MS) return;
  throw new SchedulerError(
    `UnixTimestamp(${at / 1000}s) is more than 5 years in the ${distance < 0 ? "past" : "future"}`,
  );
}

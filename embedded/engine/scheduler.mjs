/**
 * The durable scheduler: which function runs when, exactly once or at most once.
 *
 * Jobs are documents of the system table `_scheduled_functions`, crons rows of `_cron_jobs` (hidden from user code). The engine
 * stores both through `JobStorage`; every method is synchronous and works inside the engine's open batch transaction.
 */

/**
 * @typedef {import("./values.mjs").Encoded} Encoded
 * @typedef {{ kind: "pending" | "inProgress" | "success" | "canceled" } | { kind: "failed", error: string }} JobState
 * @typedef {object} JobFields  of a `_scheduled_functions` document, without `_id` and `_creationTime`
 * @property {string} name  "folder/mod.js:fn"
 * @property {Encoded[]} args  one object
 * @property {number} scheduledTime  ms
 * @property {number} [completedTime]  ms
 * @property {JobState} state
 * @typedef {JobFields & { _id: string, _creationTime: number }} Job
 * @typedef {object} CronFields  of a `_cron_jobs` document
 * @property {string} name
 * @property {string} path  canonical
 * @property {string} args  JSON text of a one-element array
 * @property {string} schedule  JSON text
 * @property {number} nextRun  ms; of the run in progress while there is one
 * @property {boolean} inProgress  an action of it is running
 * @typedef {CronFields & { _id: string, _creationTime: number }} Cron
 *
 * @typedef {object} JobStorage
 * @property {(job: JobFields) => string} insertJob  answers the new id
 * @property {(id: string) => Job | null} getJob  null also for an id of another table
 * @property {(id: string, job: JobFields) => void} replaceJob
 * @property {(id: string) => void} deleteJob
 * @property {(now: number, limit: number) => Job[]} dueJobs  pending with scheduledTime <= now, by scheduledTime
 * @property {() => number | null} nextDue  scheduledTime of the first pending job
 * @property {(limit: number) => Job[]} jobsInProgress
 * @property {(before: number, limit: number) => string[]} jobsCompletedBefore  ids with completedTime < before, oldest first
 * @property {() => Cron[]} crons
 * @property {(cron: CronFields) => void} insertCron
 * @property {(id: string, cron: CronFields) => void} replaceCron
 * @property {(id: string) => void} deleteCron
 *
 * @typedef {object} Work  one function to run now
 * @property {string} job  id of the job or cron
 * @property {string} path  canonical
 * @property {string} args  JSON text of a one-element array
 * @typedef {{ ok: true } | { ok: false, message: string }} Outcome
 * @typedef {object} SchedulerHost
 * @property {JobStorage} storage
 * @property {(path: string) => "query" | "mutation" | "action" | null} kindOf  of a loaded function
 * @property {(work: Work, before: () => void, after: () => void) => Outcome} runMutation  opens a savepoint, calls `before`, runs the
 *   function, calls `after` and releases; a function that fails rolls all of it back
 */

/** A call of the scheduler that Convex refuses; the message is Convex's text. */
export class SchedulerError extends Error {}

export class Scheduler {
  /** @param {SchedulerHost} host */
  constructor(host) {}
  /**
   * @param {{ path: string, args: Encoded[], at: number, parent?: string }} call  parent: id of the job that schedules it
   * @param {number} now
   * @returns {string} the job's id @throws {SchedulerError}
   */
  schedule(call, now) { return ""; }
  /** @param {string} id @param {number} now @throws {SchedulerError} */
  cancel(id, now) {}
  /** Runs due mutations and marks due actions as started. @param {number} now @param {number} limit @returns {Work[]} actions to start once this is committed */
  runDue(now, limit) { return []; }
  /** @param {string} job @param {Outcome} outcome @param {number} now */
  finishAction(job, outcome, now) {}
  /** After a start: actions that were running have failed. @param {{ job: string, message: string } | null} killed @param {number} now */
  recover(killed, now) {}
  /** @param {import("./cron.mjs").CronSpec[]} specs @param {number} now */
  setCrons(specs, now) {}
  /** Deletes one page of results older than 7 days. @param {number} now @returns {boolean} more are left */
  prune(now) { return false; }
  /** @param {number} now @returns {number | null} ms of the next job or cron, null when there is none */
  nextWake(now) { return null; }
}

/** Counts what one mutation schedules. */
export class ScheduleLimits {
  /** @param {number} argsBytes @throws {SchedulerError} */
  add(argsBytes) {}
}

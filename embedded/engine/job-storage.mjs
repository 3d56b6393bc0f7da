/** Keeps the scheduler's jobs and crons as documents of system tables. */

import { inFieldOrder } from "./field-order.mjs";
import { versionOf } from "./store.mjs";
import { encodeIndexKey, keySuccessor } from "./values.mjs";

/**
 * @typedef {import("./scheduler.mjs").Job} Job
 * @typedef {import("./scheduler.mjs").JobFields} JobFields
 * @typedef {import("./scheduler.mjs").Cron} Cron
 * @typedef {import("./scheduler.mjs").CronFields} CronFields
 * @typedef {import("./store.mjs").Document} Document
 * @typedef {import("./store.mjs").Index} Index
 * @typedef {import("./store.mjs").Store} Store
 * @typedef {import("./store.mjs").Table} Table
 */

/** Names that no schema can declare, so functions cannot query them. */
const BY_STATE = { name: "_by_state", fields: ["state.kind", "scheduledTime"] };
const BY_COMPLETION = { name: "_by_completion", fields: ["completedTime"] };

const PENDING = encodeIndexKey(["pending"]);
const IN_PROGRESS = encodeIndexKey(["inProgress"]);
const EARLIEST_COMPLETION = encodeIndexKey([0]); // above the jobs that have none

/** @type {ReadonlySet<string>} */
const NONE = new Set();

/** What `JobStorage` of the scheduler asks for. */
export class JobDocuments {
  /** @param {Store} store */
  constructor(store) {
    this.#store = store;
    const jobs = this.#jobs;
    if (jobs.indexes.length === 0) store.setIndexes(jobs, [BY_STATE, BY_COMPLETION]);
  }

  #store;
  /**
   * A time before which no pending job is due, so that a batch need not look: exact, or too early after a rollback.
   * Null: there is none; undefined: not known. @type {number | null | undefined}
   */
  #earliest;

  /** Looked up each time: the store makes its tables anew after a rollback. */
  get #jobs() {
    return /** @type {Table} */ (this.#store.table("_scheduled_functions"));
  }

  get #crons() {
    return /** @type {Table} */ (this.#store.table("_cron_jobs"));
  }

  /** @param {JobFields} job */
  insertJob(job) {
    if (this.#earliest !== undefined && job.state.kind === "pending") {
      this.#earliest = Math.min(this.#earliest ?? Infinity, job.scheduledTime);
    }
    return this.#insert(this.#jobs, job);
  }

  /** @param {string} id @returns {Job | null} */
  getJob(id) {
    const place = this.#store.locate(id);
    const row = place?.table === this.#jobs ? this.#store.get(place, id) : undefined;
    return row === undefined ? null : JSON.parse(row.json);
  }

  /** @param {string} id @param {JobFields} job */
  replaceJob(id, job) {
    this.#earliest = undefined;
    this.#replace(id, job);
  }

  /** @param {string} id */
  deleteJob(id) {
    this.#earliest = undefined;
    this.#replace(id, null);
  }

  /** @param {string} id */
  isJobId(id) {
    return this.#store.locate(id)?.table === this.#jobs;
  }

  /** @param {number} now @param {number} limit */
  dueJobs(now, limit) {
    if ((this.nextDue() ?? Infinity) > now) return [];
    this.#earliest = undefined;
    const high = keySuccessor(encodeIndexKey(["pending", now]));
    return this.#scanJobs(BY_STATE.name, PENDING, high, limit).map(({ _id }) => _id);
  }

  /** @param {{ size: number, has: (id: string) => boolean }} [apart]  ids of jobs that do not count @returns {number | null} */
  nextDue(apart = NONE) {
    if (apart.size > 0) {
      const first = this.#scanJobs(BY_STATE.name, PENDING, keySuccessor(PENDING), apart.size + 1);
      return first.find(({ _id }) => !apart.has(_id))?.scheduledTime ?? null;
    }
    if (this.#earliest === undefined) {
      const [first] = this.#scanJobs(BY_STATE.name, PENDING, keySuccessor(PENDING), 1);
      this.#earliest = first?.scheduledTime ?? null;
    }
    return this.#earliest;
  }

  /**
   * @param {string} state
   * @param {number} most
   * @returns {number} jobs in it, `most` if there are more
   */
  countJobs(state, most) {
    const key = encodeIndexKey([state]);
    const by = /** @type {Index} */ (this.#jobs.indexes.find(({ name }) => name === BY_STATE.name));
    const end = /** @type {Buffer} */ (keySuccessor(key)); // null only after the last possible key
    return this.#store.countKeys(by, key, end, most);
  }

  /** @param {number} limit */
  jobsInProgress(limit) {
    return this.#scanJobs(BY_STATE.name, IN_PROGRESS, keySuccessor(IN_PROGRESS), limit).map(({ _id }) => _id);
  }

  /** @param {number} before @param {number} limit */
  jobsCompletedBefore(before, limit) {
    const jobs = this.#scanJobs(BY_COMPLETION.name, EARLIEST_COMPLETION, encodeIndexKey([before]), limit);
    return jobs.map(({ _id }) => _id);
  }

  /** @returns {Cron[]} */
  crons() {
    return [...this.#store.rows(this.#crons)].map(({ json }) => JSON.parse(json));
  }

  /** @param {CronFields} cron */
  insertCron(cron) {
    return this.#insert(this.#crons, cron);
  }

  /** @param {string} id @param {CronFields} cron */
  replaceCron(id, cron) {
    this.#replace(id, cron);
  }

  /** @param {string} id */
  deleteCron(id) {
    this.#replace(id, null);
  }

  /**
   * @param {string} index
   * @param {Buffer} low
   * @param {Buffer | null} high
   * @param {number} limit
   * @returns {Job[]}
   */
  #scanJobs(index, low, high, limit) {
    const jobs = this.#jobs;
    const by = /** @type {Index} */ (jobs.indexes.find(({ name }) => name === index));
    return this.#store.scan(jobs, by, low, high, false, limit).map(({ json }) => JSON.parse(json));
  }

  /**
   * @param {Table} table
   * @param {object} fields
   * @returns {string} the new id
   */
  #insert(table, fields) {
    const document = this.#store.newDocument(table, /** @type {any} */ (fields));
    this.#store.insert(table, versionOf(document));
    return document._id;
  }

  /**
   * @param {string} id
   * @param {object | null} fields  null: delete
   */
  #replace(id, fields) {
    const place = this.#store.locate(id);
    const row = place === null ? undefined : this.#store.get(place, id);
    if (place === null || row === undefined) return;
    const version =
      fields === null
        ? null
        : versionOf(inFieldOrder(/** @type {Document} */ ({ ...fields, _creationTime: row.ct, _id: id })));
    this.#store.replace(place.table, row, version);
  }
}

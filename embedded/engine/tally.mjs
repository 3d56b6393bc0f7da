/**
 * Counts what the engine does since its thread began: the runs of each function as Convex would bill them (calls, scheduled runs, and
 * each run of a subscription), how they ended and how long they took, and the batches.
 */

/** Upper ends of the buckets of durations, in seconds; the limit of a run is 1 s. */
export const SECONDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];
/** Upper ends of the buckets of messages in a batch. */
export const MESSAGES = [0, 1, 2, 4, 8, 16, 32, 64];

/**
 * @typedef {object} FunctionTally
 * @property {"query" | "mutation" | "action"} kind
 * @property {string} path
 * @property {number} runs
 * @property {number} errors  runs that the function, or what it was given, let fail
 * @property {number} faults  runs that the system let fail: conflicts, overload
 * @property {number} seconds  all runs together
 * @property {number[]} durations  runs by bucket of `SECONDS`, and one for those above
 * @property {number} bytesRead  of documents, as the limits count them; none of an action
 * @property {number} bytesWritten
 *
 * @typedef {object} BatchTally
 * @property {number} batches
 * @property {number} messages
 * @property {number[]} sizes  batches by bucket of `MESSAGES`, and one for those above
 * @property {number} reruns  of subscriptions
 * @property {number} updates  new results of subscriptions
 * @property {number} jobs  scheduled functions that ran or began
 */

export class Tally {
  /** @type {Map<string, FunctionTally>} */
  #functions = new Map();
  /** @type {BatchTally} */
  batches = {
    batches: 0,
    messages: 0,
    sizes: emptyBuckets(MESSAGES),
    reruns: 0,
    updates: 0,
    jobs: 0,
  };

  /**
   * @param {FunctionTally["kind"]} kind
   * @param {string} path
   * @param {"success" | "error" | "fault"} outcome
   * @param {number} seconds
   * @param {{ bytesRead: number, bytesWritten: number }} [usage]
   */
  count(kind, path, outcome, seconds, usage) {
    let row = this.#functions.get(path);
    if (row === undefined) {
      const none = { runs: 0, errors: 0, faults: 0, seconds: 0, bytesRead: 0, bytesWritten: 0 };
      row = { kind, path, ...none, durations: emptyBuckets(SECONDS) };
      this.#functions.set(path, row);
    }
    row.kind = kind; // a load may have made something else of it
    row.runs += 1;
    if (outcome === "error") row.errors += 1;
    else if (outcome === "fault") row.faults += 1;
    row.seconds += seconds;
    row.bytesRead += usage?.bytesRead ?? 0;
    row.bytesWritten += usage?.bytesWritten ?? 0;
    addToBucket(row.durations, SECONDS, seconds);
  }

  /**
   * @param {number} messages
   * @param {number} updates
   */
  countBatch(messages, updates) {
    this.batches.batches += 1;
    this.batches.messages += messages;
    this.batches.updates += updates;
    addToBucket(this.batches.sizes, MESSAGES, messages);
  }

  /** @returns {FunctionTally[]} */
  get functions() {
    return [...this.#functions.values()];
  }
}

/** @param {readonly number[]} bounds */
function emptyBuckets(bounds) {
  return new Array(bounds.length + 1).fill(0);
}

/**
 * @param {number[]} buckets
 * @param {readonly number[]} bounds
 * @param {number} value
 */
function addToBucket(buckets, bounds, value) {
  let i = 0;
  while (i < bounds.length && value > /** @type {number} */ (bounds[i])) i++;
  buckets[i] = (buckets[i] ?? 0) + 1;
}

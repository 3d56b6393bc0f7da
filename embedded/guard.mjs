/**
 * Watches from outside how long the engine thread stays in one run of a function.
 *
 * The engine only writes shared memory (see docs/embedded-host.md, "The guard"), so watching costs a call nothing.
 */

export const GUARD_BYTES = 64;

const RUN = 0;
const KIND = 1;
const NUMBER = 2;
const JOB_OFFSET = 12;

/** @typedef {{ kind: "call", id: number } | { kind: "update", sub: number } | { kind: "job", job: string }} Run */

/**
 * What the engine thread runs at this moment.
 *
 * @param {SharedArrayBuffer} memory
 * @returns {Run | null}
 */
export function readRun(memory) {
  const words = new Int32Array(memory);
  if (Atomics.load(words, RUN) === 0) return null;
  const number = words[NUMBER] ?? 0;
  switch (words[KIND]) {
    case 1:
      return { kind: "call", id: number };
    case 2:
      return { kind: "update", sub: number };
    case 3:
      return {
        kind: "job",
        job: Buffer.from(memory, JOB_OFFSET, Math.min(number, GUARD_BYTES - JOB_OFFSET)).toString("latin1"),
      };
    default:
      return null;
  }
}

const PATIENCE = 10; // times the limit for a run that is given little or no processor time

/**
 * Counts the watcher's own ticks in one run, and the processor time that the run was given meanwhile: a process that was stopped does not
 * tick, and a thread that was starved by others has not had its time.
 */
export class Guard {
  /**
   * @param {SharedArrayBuffer} memory
   * @param {object} limits
   * @param {number} limits.ticks  a run that is seen on this many ticks after its first is over its limit, if it was given the time
   * @param {number} limits.tickMs
   * @param {() => Promise<number | null>} [limits.processorTime]  of the engine's thread in ms; null, or no function: not known, the ticks decide
   */
  constructor(memory, { ticks, tickMs, processorTime = async () => null }) {
    this.#memory = memory;
    this.#limitTicks = ticks;
    this.#limitMs = (ticks - 1) * tickMs; // the newest sample is a tick old
    this.#processorTime = processorTime;
  }

  /** @type {SharedArrayBuffer} */
  #memory;
  #limitTicks;
  #limitMs;
  #processorTime;
  #run = 0;
  #ticks = 0;
  /** When this run was first seen, and when last. @type {{ first: number, last: number } | null} */
  #sampled = null;

  /**
   * Look once.
   *
   * @returns {Run | null} the run that is over its limit
   */
  tick() {
    const run = Atomics.load(new Int32Array(this.#memory), RUN);
    const isSame = run !== 0 && run === this.#run;
    this.#ticks = isSame ? this.#ticks + 1 : 0;
    if (!isSame) this.#sampled = null;
    this.#run = run;
    if (run !== 0) void this.#sample(run);
    return this.#isOver() ? readRun(this.#memory) : null;
  }

  #isOver() {
    if (this.#ticks < this.#limitTicks) return false;
    if (this.#sampled === null || this.#ticks >= this.#limitTicks * PATIENCE) return true;
    return this.#sampled.last - this.#sampled.first >= this.#limitMs;
  }

  /** @param {number} run */
  async #sample(run) {
    const now = await this.#processorTime();
    if (now === null || run !== this.#run) return;
    this.#sampled = { first: this.#sampled?.first ?? now, last: now };
  }
}

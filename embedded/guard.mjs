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

/** Counts the watcher's own ticks in one run: a process that was stopped, or starved, does not tick. */
export class Guard {
  /**
   * @param {SharedArrayBuffer} memory
   * @param {number} limitTicks  a run that is seen on this many ticks after its first is over its limit
   */
  constructor(memory, limitTicks) {
    this.#memory = memory;
    this.#limitTicks = limitTicks;
  }

  /** @type {SharedArrayBuffer} */
  #memory;
  /** @type {number} */
  #limitTicks;
  #run = 0;
  #ticks = 0;

  /**
   * Look once.
   *
   * @returns {Run | null} the run that is over its limit
   */
  tick() {
    const run = Atomics.load(new Int32Array(this.#memory), RUN);
    this.#ticks = run !== 0 && run === this.#run ? this.#ticks + 1 : 0;
    this.#run = run;
    return this.#ticks >= this.#limitTicks ? readRun(this.#memory) : null;
  }
}

/**
 * Keeps the process small.
 *
 * V8 lets each thread's young generation grow to 48 MB before it collects, which for short calls is only garbage that waits. Code that
 * favours size would save another 10 MB, and takes half as long again over a control plane's work.
 *
 * So small a generation is collected by the thread that filled it: helpers would have to be woken each time, and take its core.
 */

import v8 from "node:v8";

/** Of the engine's thread: three spaces of 3 MB. @type {import("node:worker_threads").ResourceLimits} */
export const SMALL_HEAP = { maxYoungGenerationSizeMb: 9 };

const FLAGS = ["--semi-space-growth-factor=1", "--max-semi-space-size=2", "--no-parallel-scavenge"];

/** Call it when everything is loaded: V8 takes no compiled code from a cache, Node's own modules included, once flags are others than they were for it. */
export function keepSmall() {
  for (const flag of FLAGS) v8.setFlagsFromString(flag);
}

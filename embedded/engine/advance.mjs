/** Moves the virtual clock from one due moment to the next, so that each scheduled function runs at its own time. */

const SLICE_MS = 25; // of the machine's time: calls that came meanwhile wait no longer than this

/**
 * Go on until the wanted time is reached and nothing is due, a scheduled action runs, or the slice is used up.
 *
 * @param {object} work
 * @param {number} work.to  ms; a time that is past only lets what is due run
 * @param {import("./virtual-clock.mjs").VirtualClock} work.clock
 * @param {() => void} work.runDue  runs scheduled mutations that are due now, and hands out actions
 * @param {() => number | null} work.nextWake  ms at which something is due
 * @param {() => boolean} work.isWaiting  for an action: time may not go on past it
 * @returns {boolean} whether `to` is reached and all that was due by then has ended
 */
export function advance({ to, clock, runDue, nextWake, isWaiting }) {
  const end = performance.now() + SLICE_MS;
  for (;;) {
    runDue();
    const next = nextWake() ?? Infinity;
    const isDue = next <= clock.now();
    if (!isDue) {
      if (isWaiting()) return false;
      clock.advance(Math.min(next, to));
      if (next > to) return true;
    }
    if (performance.now() >= end) return false;
  }
}

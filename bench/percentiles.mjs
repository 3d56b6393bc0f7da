/**
 * @param {number[]} times  ms
 * @returns {{ p50_ms: number, p99_ms: number, calls: number }}
 */
export function percentiles(times) {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (/** @type {number} */ share) => Number(sorted[Math.floor(sorted.length * share)]?.toFixed(4));
  return { p50_ms: at(0.5), p99_ms: at(0.99), calls: times.length };
}

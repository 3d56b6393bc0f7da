/**
 * What modules see of time and chance while they are evaluated: the time when their code was first served, and the same random numbers
 * each time, in functions of every kind, as on Convex; a restart of the host or of a thread, and a change of variables, leave them.
 */

import { createHash, randomFillSync } from "node:crypto";

const META = "import phase";

/** @typedef {{ at: number, seeds: [number, number, number] }} ImportPhase  at: ms since the epoch */

/**
 * @param {import("./store.mjs").Store} store  remembers it for the code that was served last
 * @param {string} code  of the bundle
 * @param {number} now  ms since the epoch
 * @returns {ImportPhase}
 */
export function importPhase(store, code, now) {
  const hash = createHash("sha256").update(code).digest("base64");
  const known = JSON.parse(store.meta(META) ?? "null");
  if (known?.hash === hash && known.at <= now) return { at: known.at, seeds: known.seeds };
  const [first = 0, second = 0, third = 0] = randomFillSync(new Int32Array(3));
  const phase = { at: now, seeds: /** @type {[number, number, number]} */ ([first, second, third]) };
  store.setMeta(META, JSON.stringify({ hash, ...phase }));
  return phase;
}

/**
 * Lets `Date` and `Math.random` tell what Convex's do: the virtual clock's time, if there is one, and while modules are evaluated what the
 * code was given when it was first served. Timers and `performance` keep the machine's time: what actions wait for is real.
 */

import { readFileSync } from "node:fs";
import path from "node:path";
import { Script } from "node:vm";
import { reader } from "../clock.mjs";
import { REALM_SCRIPTS } from "../host-files.mjs";

const seeded = new Script(readFileSync(path.join(REALM_SCRIPTS, "realm/random.js"), "utf8"), {
  filename: "random.js",
}).runInThisContext()();

/** Null while no modules are evaluated. @type {import("../engine/import-phase.mjs").ImportPhase | null} */
let importing = null;

/** @param {Float64Array | null} clock  see clock.mjs */
export function followClock(clock) {
  const running = reader(clock);
  const now = () => importing?.at ?? running();
  const RealDate = Date;
  RealDate.now = now;
  // A proxy keeps `Date.prototype` and `instanceof` as they are, also for dates that Node itself makes.
  globalThis.Date = new Proxy(RealDate, {
    apply: () => new RealDate(now()).toString(),
    construct: (target, args, newTarget) =>
      Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget),
  });
  RealDate.prototype.constructor = globalThis.Date;
  const { random } = Math;
  Math.random = () => (importing === null ? random() : seeded.random());
}

/**
 * @template T
 * @param {import("../engine/import-phase.mjs").ImportPhase | null} phase  null: time goes on
 * @param {() => T} evaluate
 * @returns {T}
 */
export function importedIn(phase, evaluate) {
  const before = importing;
  importing = phase;
  if (phase !== null) seeded.seed(...phase.seeds);
  try {
    return evaluate();
  } finally {
    importing = before;
  }
}

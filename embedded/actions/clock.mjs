/** Lets `Date` tell the virtual clock's time in this thread. Timers and `performance` keep the machine's: what actions wait for is real. */

import { reader } from "../clock.mjs";

/** @param {Float64Array} clock  see clock.mjs */
export function followClock(clock) {
  const now = reader(clock);
  const RealDate = Date;
  RealDate.now = now;
  // A proxy keeps `Date.prototype` and `instanceof` as they are, also for dates that Node itself makes.
  globalThis.Date = new Proxy(RealDate, {
    apply: () => new RealDate(now()).toString(),
    construct: (target, args, newTarget) =>
      Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget),
  });
  RealDate.prototype.constructor = globalThis.Date;
}

/** A seeded source of random numbers and of Convex values that like to be close to each other, for property tests. */

import { convexToJson } from "convex/values";

/** @typedef {import("convex/values").Value} Value */

const CHARACTERS = [
  "",
  "\0",
  "\x01",
  "\x02",
  "a",
  "b",
  "\x7f",
  "\u0080",
  "é",
  "\ud7ff",
  "\ue000",
  "\uffff",
  "😀",
];
const NUMBERS = [0, -0, 1, -1, 0.5, 1e300, -1e-300, Number.MAX_SAFE_INTEGER, NaN, Infinity, -Infinity];
const INTEGERS = [0n, 1n, -1n, 127n, 128n, -128n, -129n, 65536n, 2n ** 63n - 1n, -(2n ** 63n)];

export class Random {
  /** @param {number} seed  the same seed gives the same numbers */
  constructor(seed) {
    this.#state = seed >>> 0;
  }

  #state;

  /** @param {number} bound @returns {number} an integer from 0 to below `bound` */
  below(bound) {
    // mulberry32
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  }

  /** @template T @param {readonly T[]} choices @returns {T} */
  pick(choices) {
    return /** @type {T} */ (choices[this.below(choices.length)]);
  }

  /** @template T @param {number} most @param {() => T} make @returns {T[]} up to `most` things */
  list(most, make) {
    return Array.from({ length: this.below(most + 1) }, make);
  }

  /** @param {number} [depth]  containers allowed inside each other @returns {Value} */
  value(depth = 3) {
    switch (this.below(depth > 0 ? 8 : 6)) {
      case 0:
        return this.pick([null, true, false]);
      case 1:
        return this.pick(INTEGERS);
      case 2:
        return this.pick(NUMBERS);
      case 3:
        return this.below(1000) / 8 - 50;
      case 4:
        return this.text(6);
      case 5:
        return new Uint8Array(this.list(4, () => this.pick([0, 1, 2, 0x7f, 0xff]))).buffer;
      case 6:
        return this.list(3, () => this.value(depth - 1));
      default:
        return Object.fromEntries(
          this.list(3, () => [this.pick(["", "a", "b", "ab"]), this.value(depth - 1)]),
        );
    }
  }

  /** @param {number} most @returns {string} */
  text(most) {
    return this.list(most, () => this.pick(CHARACTERS)).join("");
  }

  /** @returns {[Value | undefined, import("./values.mjs").Encoded | undefined]} a value or a missing one, with its encoding */
  field() {
    if (this.below(12) === 0) return [undefined, undefined];
    const value = this.value();
    return [value, /** @type {any} */ (convexToJson(value))];
  }
}

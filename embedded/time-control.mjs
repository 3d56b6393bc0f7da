/** Advances the virtual clock on demand, a slice at a time, so that calls are served in between. */

const REQUEST_LIMIT_MS = 30_000; // an answer comes by then, with how far the clock has got
const ACTION_POLL_MS = 5; // while time waits for scheduled actions

/**
 * @typedef {object} Advanced
 * @property {number} now  ms since the epoch
 * @property {number} ran  scheduled functions that ran
 * @property {number} [target]  ms; where the clock should have got to, if it did not
 * @property {string} [reason]  why it did not
 * @typedef {{ now: number, ran: number, reached: boolean, waitingFor: string[] }} Step  what the engine answers; `ran` since the step before
 */

export class TimeControl {
  /**
   * @param {Pick<import("./engine-client.mjs").EngineClient, "ask">} engine
   * @param {Float64Array} clock
   * @param {number} [limitMs]
   */
  constructor(engine, clock, limitMs = REQUEST_LIMIT_MS) {
    this.#engine = engine;
    this.#clock = clock;
    this.#limitMs = limitMs;
  }

  #engine;
  #clock;
  #limitMs;
  /** One after the other, so that two advances by an hour are two hours. @type {Promise<unknown>} */
  #last = Promise.resolve();

  /** Ms since the epoch. */
  get now() {
    return /** @type {number} */ (this.#clock[0]);
  }

  /**
   * Run everything that falls due up to a time, each at its own time.
   *
   * @param {(now: number) => number} target  ms, from the time at which this advance begins; a past one only runs what is due
   * @returns {Promise<Advanced>}
   * @throws {Error} the engine is gone
   */
  advance(target) {
    const advanced = this.#last.then(() => this.#advanceTo(target(this.now)));
    this.#last = advanced.catch(() => {});
    return advanced;
  }

  /** @param {number} to @returns {Promise<Advanced>} */
  async #advanceTo(to) {
    const end = performance.now() + this.#limitMs;
    let ran = 0;
    for (let isFirst = true; ; isFirst = false) {
      const step = await this.#step(to, isFirst);
      ran += step.ran;
      if (step.reached) return { now: step.now, ran };
      if (performance.now() >= end) return { now: step.now, ran, target: to, reason: this.#reason(step) };
      if (step.waitingFor.length > 0) await new Promise((resolve) => setTimeout(resolve, ACTION_POLL_MS));
    }
  }

  /** @param {number} to @param {boolean} isFirst @returns {Promise<Step>} */
  async #step(to, isFirst) {
    const reply = await this.#engine.ask({ op: "advance", to, isFirst });
    if (!reply.ok) throw new Error(reply.message);
    return JSON.parse(reply.value);
  }

  /** @param {Step} step */
  #reason({ waitingFor: [path, ...others] }) {
    const seconds = this.#limitMs / 1000;
    if (path === undefined) return `there is more to run than ${seconds} s are enough for: advance again`;
    const more = others.length === 0 ? "" : ` and ${others.length} more`;
    return `after ${seconds} s the clock still waits for the scheduled action ${path}${more}: advance again`;
  }
}

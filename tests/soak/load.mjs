/** A mixed load on a host that will be killed, and what it was told before that. */

import { ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";

const { ledger, jobs } = anyApi;

const HTTP_WRITERS = 2;
const SOCKET_WRITERS = 2; // on one socket, where the host runs them in order
const PLANNED = ["once", "chain", "act", "refuse"];
const LONGEST_DELAY_MS = 300; // so that some jobs fall due while the host is down
const LONGEST_PAUSE_MS = 3; // between the calls of one writer; the machine has other work

/**
 * @typedef {{ id: string, writer: string, n: number }} Added
 * @typedef {{ key: string, job: string }} Planned
 *
 * @typedef {object} Told  what clients learnt in a round
 * @property {Added[]} added  acknowledged entries
 * @property {Planned[]} planned  acknowledged jobs
 * @property {Set<string>} canceled  keys of jobs whose cancellation was acknowledged
 * @property {Map<string, any>} seen  entries that a subscriber was shown, by id
 * @property {{ count: number } | null} shown  the newest value of the subscription
 * @property {string[]} problems
 */

/** Starts what a round needs on one host and stops it; every method may be called once. */
export class Load {
  /**
   * @param {object} options
   * @param {number} options.round
   * @param {() => number} options.random  0 to 1
   * @param {string} options.url
   * @param {import("convex/browser").ConvexClient} options.writer  writes over a WebSocket
   * @param {import("convex/browser").ConvexClient} options.watcher  subscribes
   */
  constructor({ round, random, url, writer, watcher }) {
    this.#round = round;
    this.#random = random;
    this.#url = url;
    this.#writer = writer;
    this.#watcher = watcher;
  }

  /** @type {Told} */
  told = { added: [], planned: [], canceled: new Set(), seen: new Map(), shown: null, problems: [] };
  #round;
  #random;
  #url;
  #writer;
  #watcher;
  #stopping = false;
  /** @type {Promise<void>[]} */
  #running = [];
  #unsubscribe = () => {};
  #underWay = Promise.withResolvers();

  /** @returns {Promise<unknown>} resolves when the first write is acknowledged: on a busy machine the load needs a while to begin */
  start() {
    const watched = { round: this.#round };
    this.#unsubscribe = this.#watcher.onUpdate(
      ledger.watch,
      watched,
      (value) => this.#show(value),
      (error) => this.told.problems.push(`the subscription failed: ${error.message}`),
    );
    for (let i = 0; i < HTTP_WRITERS; i++) this.#run((client, n) => this.#add(client, `http ${i}`, n));
    for (let i = 0; i < SOCKET_WRITERS; i++) this.#run((_, n) => this.#add(this.#writer, `socket ${i}`, n));
    this.#run((client, n) => this.#act(client, n));
    this.#run((client, n) => this.#plan(client, n));
    this.#run((client) => this.#refuse(client));
    return this.#underWay.promise;
  }

  /** Run a mutation of some hundred milliseconds, apart from the load. @returns {Promise<unknown>} */
  async busy() {
    await this.#client().mutation(ledger.busy, {});
  }

  /** Let the writers end: what they wait for is answered, or refused by a closed connection. */
  async stop() {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  /** @param {number} count  at least this must be shown before `deadline`, in ms of `performance.now` @param {number} deadline */
  async untilShown(count, deadline) {
    while ((this.told.shown?.count ?? 0) < count && performance.now() < deadline) await pause(5);
  }

  unsubscribe() {
    this.#unsubscribe();
  }

  /** @param {(client: ConvexHttpClient, n: number) => Promise<void>} step */
  #run(step) {
    const client = this.#client();
    const loop = async () => {
      for (let n = 0; !this.#stopping; n++) {
        try {
          await step(client, n);
        } catch (error) {
          if (!isEndOfHost(error)) this.told.problems.push(`a call failed: ${error.message}`);
          return;
        }
        await pause(this.#random() * LONGEST_PAUSE_MS);
      }
    };
    this.#running.push(loop());
  }

  /**
   * @param {{ mutation: Function }} client
   * @param {string} writer
   * @param {number} n
   */
  async #add(client, writer, n) {
    const id = await client.mutation(ledger.add, { round: this.#round, writer, n });
    this.told.added.push({ id, writer, n });
    this.#underWay.resolve(undefined);
  }

  /** @param {ConvexHttpClient} client @param {number} n */
  async #act(client, n) {
    const call = { round: this.#round, writer: "action", n: 2 * n };
    const [first, second] = await client.action(ledger.addTwice, call);
    this.told.added.push(
      { id: first, writer: "action", n: 2 * n },
      { id: second, writer: "action", n: 2 * n + 1 },
    );
  }

  /** @param {ConvexHttpClient} client @param {number} n */
  async #plan(client, n) {
    const kind = PLANNED[Math.floor(this.#random() * PLANNED.length)];
    const delayMs = this.#random() < 0.5 ? 0 : Math.floor(this.#random() * LONGEST_DELAY_MS);
    const key = `${kind} ${n}`;
    const job = await client.mutation(jobs.plan, { round: this.#round, key, kind, delayMs });
    this.told.planned.push({ key, job });
    if (delayMs === 0 || this.#random() < 0.7) return;
    if ((await client.mutation(jobs.cancel, { job })) === "canceled") this.told.canceled.add(key);
  }

  /** @param {ConvexHttpClient} client */
  async #refuse(client) {
    try {
      await client.mutation(ledger.refuse, { round: this.#round });
    } catch (error) {
      if (!error.message.includes("refused on purpose")) throw error;
      return;
    }
    this.told.problems.push("a mutation that throws was acknowledged");
  }

  /** @param {{ count: number, entries: any[] }} value */
  #show(value) {
    if (value.count < (this.told.shown?.count ?? 0))
      this.told.problems.push(
        `a subscriber was shown ${value.count} entries after ${this.told.shown?.count}`,
      );
    this.told.shown = value;
    for (const entry of value.entries) this.told.seen.set(entry._id, entry);
  }

  #client() {
    return new ConvexHttpClient(this.#url, { logger: false });
  }
}

/** @param {number} ms */
export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * Node's fetch says "fetch failed", or "terminated" in the middle of an answer; a host that stops says so to whoever waits for an action.
 *
 * @param {any} error
 */
function isEndOfHost(error) {
  return (
    (error instanceof TypeError && /^(fetch failed|terminated)$/.test(error.message)) ||
    error.message.endsWith("The action was cut off: the host stops\n")
  );
}

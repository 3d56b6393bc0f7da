/**
 * Kills a loaded host again and again and checks after each restart that nothing acknowledged is lost, nothing is half-written
 * and every job has run once.
 */

import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { checkFile } from "../../embedded/engine/file-check.mjs";
import { SYSTEM_TABLES } from "../../embedded/engine/layout.mjs";
import { PLACES } from "../../embedded/engine/tables.mjs";
import { HostProcess } from "../host_process.mjs";
import { auditBeats, auditRound } from "./audit.mjs";
import { Load, pause } from "./load.mjs";

const FUNCTIONS = fileURLToPath(new URL("./convex", import.meta.url));
const SETTLE_MS = 10_000; // a job's longest delay, and what a busy machine may add
const STALL_MS = 1_500; // above the guard's limit of 1 s
const BUSY_MS = 15; // after this long a busy function most likely runs, and has not ended
const ROUND_IS_OVER = 2; // rounds after which a round's documents are deleted
/** What the host must never say of itself in a round. */
const COMPLAINT = /engine thread restarted|fault of the host|could not|out of memory|Error: /;

/**
 * @typedef {object} Plan  what happens in a round; all of it from its seed
 * @property {"kill" | "term" | "term twice" | "stall" | "kill starting"} ending
 * @property {number} loadMs
 * @property {number} laterMs  until the second signal
 * @property {"full" | "normal"} synchronous
 * @property {boolean} checks  the file, before the host opens it again
 */

/**
 * @param {() => number} random
 * @returns {Plan}
 */
function planRound(random) {
  const dice = random();
  const ending =
    dice < 0.6
      ? "kill"
      : dice < 0.7
        ? "term"
        : dice < 0.8
          ? "term twice"
          : dice < 0.9
            ? "kill starting"
            : "stall";
  return {
    ending,
    loadMs: Math.floor(60 + random() * 300),
    laterMs: Math.floor(random() * (ending === "term twice" ? 8 : 250)),
    synchronous: random() < 0.5 ? "full" : "normal",
    checks: random() < 0.5,
  };
}

/** One file, one host at a time, and two clients that live through all of its deaths. */
export class Soak {
  /**
   * @param {object} options
   * @param {number} options.rounds
   * @param {number} options.seed
   * @param {(line: string) => void} options.log
   */
  constructor({ rounds, seed, log }) {
    this.#rounds = rounds;
    this.#seed = seed;
    this.#log = log;
  }

  #rounds;
  #seed;
  #log;
  #host = new HostProcess({ functions: FUNCTIONS });
  /** Of the newest entry that was ever read. */
  #last = { id: "", creationTime: 0 };
  #tally = { entries: 0, jobs: 0, seen: 0 };
  /** @type {ConvexClient | null} */
  #writer = null;
  /** @type {ConvexClient | null} */
  #watcher = null;

  /** @returns {Promise<string[]>} problems, one line each, with the round's seed */
  async run() {
    globalThis.window ??= /** @type {any} */ (new EventTarget()); // clients come back when it says "online", not seconds later
    const problems = [];
    await this.#host.start();
    [this.#writer, this.#watcher] = [this.#connect(), this.#connect()];
    try {
      for (let round = 0; round < this.#rounds && problems.length === 0; round++) {
        const seed = this.#seed + round;
        const plan = planRound(randomFrom(seed));
        const found = await this.#round(round, plan, randomFrom(seed ^ 0x5bd1e995)).catch((error) => [
          error.stack,
        ]);
        for (const problem of found) problems.push(`${JSON.stringify({ seed, ...plan })}: ${problem}`);
        if ((round + 1) % 20 === 0) this.#log(`${round + 1} rounds: ${JSON.stringify(this.#tally)}`);
      }
      if (problems.length === 0) problems.push(...(await this.#end()));
      return problems;
    } finally {
      await Promise.all([this.#writer.close(), this.#watcher.close()]);
      await this.#host[Symbol.asyncDispose]();
    }
  }

  /**
   * @param {number} round
   * @param {Plan} plan
   * @param {() => number} random
   */
  async #round(round, plan, random) {
    const host = this.#host;
    const load = new Load({ round, random, url: host.url, writer: this.#writer, watcher: this.#watcher });
    await load.start();
    await pause(plan.loadMs);
    if (plan.ending === "stall") await this.#stall(load);
    const problems = await this.#die(plan);
    const ended = load.stop(); // mutations on a socket are answered after the restart
    if (plan.checks) problems.push(...checkFile(host.file).problems);
    await this.#restart(plan);
    await ended;
    const stored = await this.#settled(round, load);
    problems.push(...auditRound(load.told, stored, this.#last));
    this.#remember(load.told, stored);
    const complaint = host.log
      .split("\n")
      .find((line) => COMPLAINT.test(line) && !line.includes("on purpose"));
    if (complaint !== undefined) problems.push(`the host said: ${complaint}`);
    load.unsubscribe();
    await this.#call("mutation", anyApi.audit.forget, { round: round - ROUND_IS_OVER });
    return problems;
  }

  /** The machine stands still for longer than a function may run, in the middle of one that may. @param {Load} load */
  async #stall(load) {
    const busy = load.busy();
    await pause(BUSY_MS);
    this.#host.signal("SIGSTOP");
    await pause(STALL_MS);
    this.#host.signal("SIGCONT");
    await busy;
  }

  /** @param {Plan} plan @returns {Promise<string[]>} */
  async #die({ ending, laterMs }) {
    if (ending !== "term" && ending !== "term twice") {
      await this.#host.end("SIGKILL");
      return [];
    }
    const ended = this.#host.end("SIGTERM");
    if (ending === "term") {
      const code = await ended;
      return code === 0 ? [] : [`SIGTERM ended the host with ${code}`];
    }
    const again = setTimeout(() => this.#host.signal("SIGTERM"), laterMs);
    const code = await ended;
    clearTimeout(again);
    return code === 0 || code === 1 ? [] : [`two SIGTERM ended the host with ${code}`];
  }

  /** @param {Plan} plan */
  async #restart({ ending, laterMs, synchronous }) {
    this.#host.flags = ["--synchronous", synchronous];
    if (ending === "kill starting") {
      this.#host.spawn();
      await pause(laterMs);
      await this.#host.end("SIGKILL");
    }
    await this.#host.start();
    globalThis.window.dispatchEvent(new Event("online"));
  }

  /** @param {number} round @param {Load} load */
  async #settled(round, load) {
    const deadline = performance.now() + SETTLE_MS;
    while (!(await this.#call("query", anyApi.audit.isQuiet, {}))) {
      if (performance.now() > deadline)
        throw new Error(`jobs have not ended ${SETTLE_MS} ms after the restart`);
      await pause(10);
    }
    const stored = await this.#call("query", anyApi.audit.round, { round });
    await load.untilShown(stored.entries.length, deadline);
    return stored;
  }

  /** @param {import("./load.mjs").Told} told @param {import("./audit.mjs").Stored} stored */
  #remember({ seen }, { entries, plans }) {
    const newest = entries.at(-1);
    if (newest !== undefined) this.#last = { id: newest._id, creationTime: newest._creationTime };
    this.#tally.entries += entries.length;
    this.#tally.jobs += plans.length;
    this.#tally.seen += seen.size;
  }

  /** Crons still run, none has run twice for one time, and the file is whole. @returns {Promise<string[]>} */
  async #end() {
    const restarted = Date.now();
    const deadline = performance.now() + SETTLE_MS;
    const both = (/** @type {any[]} */ beats) =>
      new Set(beats.filter(({ at }) => at > restarted).map(({ cron }) => cron)).size === 2;
    let beats = [];
    while (!both(beats) && performance.now() < deadline) {
      await pause(100);
      beats = await this.#call("query", anyApi.audit.beats, {});
    }
    await this.#host.end("SIGTERM");
    const problems = [
      ...checkFile(this.#host.file).problems,
      ...auditBeats(beats, cronTimes(this.#host.file)),
    ];
    if (!both(beats)) problems.push("a cron has not run since the last restart");
    return problems;
  }

  #connect() {
    return new ConvexClient(this.#host.url, { logger: false, unsavedChangesWarning: false });
  }

  /** As the operator. @param {"query" | "mutation"} kind @param {any} reference @param {object} args */
  async #call(kind, reference, args) {
    const client = new ConvexHttpClient(this.#host.url, { logger: false });
    client.setAdminAuth(this.#host.adminKey);
    return client[kind](reference, args);
  }
}

/**
 * When crons run next, which no function may ask.
 *
 * @param {string} file
 * @returns {Map<string, number>} ms since the epoch, by the cron's name
 */
function cronTimes(file) {
  const database = new DatabaseSync(file, { readOnly: true });
  const start = SYSTEM_TABLES._cron_jobs * PLACES;
  const rows = database.prepare("SELECT json FROM docs WHERE pk >= ? AND pk < ?").all(start, start + PLACES);
  database.close();
  const crons = rows.map(({ json }) => JSON.parse(String(json)));
  return new Map(crons.map(({ name, nextRun }) => [name, nextRun]));
}

/** mulberry32: the same numbers for the same seed. @param {number} seed @returns {() => number} 0 to 1 */
function randomFrom(seed) {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

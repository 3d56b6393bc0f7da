/** What the dashboard is tried on: the embedded host with the built pages, a browser, keys, and workers whose every word is chosen. */
import { ConvexHttpClient } from "convex/browser";
import { makeFunctionReference } from "convex/server";
import { createHash, randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll } from "vitest";
import { HostProcess } from "../../tests/host_process.mjs";
import { openBrowser } from "./browser.mjs";
import { visit } from "./visit.mjs";

const FUNCTIONS = fileURLToPath(new URL("../../convex", import.meta.url));

/** @typedef {"viewer" | "submit" | "operator" | "worker"} Role */

/** One stage for the test file that calls this. */
export function useStage() {
  const stage = new Stage();
  beforeAll(() => stage.start());
  afterAll(() => stage[Symbol.asyncDispose]());
  return stage;
}

export class Stage {
  host = new HostProcess({ functions: FUNCTIONS, flags: ["--no-watch"] });
  /** @type {import("playwright-core").Browser | undefined} */
  browser;

  async start() {
    [this.browser] = await Promise.all([openBrowser(), this.host.start()]);
    this.key.operator = await this.newKey("operator");
    this.key.worker = await this.newKey("worker");
  }

  /** @type {Record<string, string>} */
  key = {};
  #workers = 0;

  get url() {
    return this.host.url;
  }

  /**
   * @param {string} name  of a function
   * @param {"query" | "mutation"} kind
   * @param {object} args
   */
  async #call(name, kind, args, admin = false) {
    const client = new ConvexHttpClient(this.url, { logger: false });
    if (admin) client.setAdminAuth(this.host.adminKey);
    return client[kind](makeFunctionReference(name), args);
  }

  /** @param {string} name @param {object} [args] @param {string} [key] */
  query = (name, args = {}, key = this.key.operator) => this.#call(name, "query", { key, ...args });
  /** @param {string} name @param {object} [args] @param {string} [key] */
  mutate = (name, args = {}, key = this.key.operator) => this.#call(name, "mutation", { key, ...args });

  /**
   * @param {Role} role
   * @param {{ queues?: string[], label?: string }} [more]
   * @returns {Promise<string>}
   */
  async newKey(role, { queues, label = role } = {}) {
    const prefix = { viewer: "sbv_", submit: "sbs_", operator: "sbo_", worker: "sbw_" }[role];
    const key = prefix + randomBytes(32).toString("base64url");
    const hash = createHash("sha256").update(key).digest("hex");
    await this.#call(
      "operator:createKey",
      "mutation",
      { hash, role, label, ...(queues ? { queues } : {}) },
      true,
    );
    return key;
  }

  /** @param {string} label */
  async revokeKey(label) {
    const keys = await this.#call("operator:listKeys", "query", {}, true);
    const { key } = keys.find((row) => row.label === label);
    await this.#call("operator:revokeKey", "mutation", { key }, true);
  }

  /** Submit one task. @param {object} [spec] @returns {Promise<string>} */
  async submit(spec = {}) {
    const [answer] = await this.mutate("tasks:submit", {
      tasks: [{ agent: "echo", input: "null", ...spec }],
    });
    if (!answer.ok) throw new Error(answer.message);
    return answer.task;
  }

  /** Submit many at once. @param {number} count @param {object} [spec] */
  async submitMany(count, spec = {}) {
    for (let left = count; left > 0; left -= 200) {
      const tasks = Array.from({ length: Math.min(left, 200) }, () => ({
        agent: "echo",
        input: "null",
        ...spec,
      }));
      const refused = (await this.mutate("tasks:submit", { tasks })).find(({ ok }) => !ok);
      if (refused !== undefined) throw new Error(refused.message);
    }
  }

  /** A worker that does what the test says. @param {object} [more] */
  async worker(more = {}) {
    this.#workers += 1;
    const name = more.worker ?? `w${this.#workers}`;
    const { session } = await this.mutate(
      "worker:register",
      {
        ...{
          worker: name,
          incarnation: "1",
          queues: ["default"],
          labels: [],
          llm: true,
          capacity: 50,
          version: "e2e",
        },
        agents: [{ name: "echo", description: "says what it is told", capabilities: [] }],
        ...more,
      },
      this.key.worker,
    );
    return new ScriptedWorker(this, session, name);
  }

  /**
   * Open a page of the dashboard with the operator's key, or another.
   *
   * @param {string} path
   * @param {Omit<NonNullable<Parameters<typeof visit>[2]>, "path">} [more]
   */
  open(path, more = {}) {
    return visit(this.browser, this.url, { path, key: this.key.operator, ...more });
  }

  /** How often each public function has run, as the host counts it. @returns {Promise<Record<string, number>>} */
  async calls() {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    const found = {};
    for (const [, path, runs] of text.matchAll(/^convex_function_calls_total\{.*path="([^"]+)"\} (\d+)$/gm))
      found[path] = (found[path] ?? 0) + Number(runs);
    return found;
  }

  async [Symbol.asyncDispose]() {
    await this.browser?.close();
    await this.host[Symbol.asyncDispose]();
  }
}

const BEAT_MS = 4_000; // a third of the lease that a worker with runs has

export class ScriptedWorker {
  /** @param {Stage} stage @param {string} session @param {string} name */
  constructor(stage, session, name) {
    Object.assign(this, { stage, session, name });
    setInterval(() => void this.sync().catch(() => {}), BEAT_MS).unref(); // the host may be down, or the session over
  }

  /** What each sync tells of its clocks, as a worker's do. @type {object | undefined} */
  clocks;

  /** Syncs go one after the other, as a worker's do. @type {Promise<unknown>} */
  #last = Promise.resolve();

  #seq = 0;
  /** @type {Map<string, number>} of each run */
  #chunks = new Map();

  /** @param {object} [more] */
  sync(more = {}) {
    const { session, clocks } = this;
    const empty = { accepted: [], chunks: [], finished: [], acknowledged: [] };
    const answer = this.#last.then(() => {
      this.#seq += 1;
      return this.stage.mutate(
        "worker:sync",
        { session, seq: this.#seq, ...empty, ...(clocks === undefined ? {} : { clocks }), ...more },
        this.stage.key.worker,
      );
    });
    this.#last = answer.catch(() => {});
    return answer;
  }

  /** Take what is assigned to it, waiting for the first. @returns {Promise<{ run: string, task: string }[]>} */
  async take(count = 1) {
    const taken = [];
    while (taken.length < count) {
      const { assigned } = await this.stage.query(
        "worker:inbox",
        { session: this.session },
        this.stage.key.worker,
      );
      if (assigned.length > 0) await this.sync({ accepted: assigned.map(({ run }) => run) });
      else await new Promise((resolve) => setTimeout(resolve, 20));
      taken.push(...assigned);
    }
    return taken;
  }

  /** @param {string} run @param {string} text @param {{ call?: number, attempt?: number, kind?: string }} [label] */
  chunk(run, text, label = {}) {
    const seq = this.#chunks.get(run) ?? 0;
    this.#chunks.set(run, seq + 1);
    return { run, seq, call: 1, attempt: 1, kind: "text", text, ...label };
  }

  /** @param {string} run @param {string} text @param {object} [label] */
  write(run, text, label) {
    return this.sync({ chunks: [this.chunk(run, text, label)] });
  }

  /** @param {string} run @param {object} [outcome] */
  finish(run, outcome = { kind: "succeeded", output: '"done"' }) {
    const usage = { model: "scripted-writer", calls: 1, inputTokens: 20, outputTokens: 80 };
    return this.sync({ finished: [{ run, outcome, usage }] });
  }

  /** @param {string} run @param {string} code @param {boolean} [retryable] */
  fail(run, code, retryable = false, message = "as the test has it") {
    return this.finish(run, { kind: "failed", error: { code, message }, retryable, notBeforeMs: 0 });
  }
}

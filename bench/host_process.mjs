/**
 * Times the host as its clients see it, over sockets and between processes; one JSON line for each figure.
 *
 *     node bench/host_process.mjs [--documents N] [--calls N] [--sockets N]
 *
 * cold start:  from the start of the process to its first answered query, on a file with N documents
 * http:        one request after the other on one keep-alive connection
 * update:      from the start of a mutation in one process to the new value in another one that subscribes; each is timed without a pause
 *              between the mutations and with 10 ms. `floor` is the same between plain Node processes without a host's work: a body goes in by
 *              HTTP and out on a WebSocket
 * fan-out:     from the start of a mutation until the last of N sockets on one query has the new value
 * memory:      resident, after all of it
 */

import { fork, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { percentiles } from "./percentiles.mjs";

const HOST = fileURLToPath(new URL("../embedded/main.mjs", import.meta.url));
const FUNCTIONS = fileURLToPath(new URL("./functions", import.meta.url));
const SUBSCRIBER = fileURLToPath(new URL("./subscriber.mjs", import.meta.url));
const RELAY = fileURLToPath(new URL("./relay.mjs", import.meta.url));
const ADMIN_KEY = "signalbox|development-admin-key";
const FILL_PER_CALL = 500;
const STARTS = 7;
const WARM_UP = 300;
const PAUSE_MS = 10;

const { values: options } = parseArgs({
  options: {
    documents: { type: "string", default: "100000" },
    calls: { type: "string", default: "1000" },
    sockets: { type: "string", default: "200" },
  },
});

/** ms, of a clock that all processes share */
const now = () => Number(process.hrtime.bigint()) / 1e6;
const sleep = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {string} name @param {number[]} times @param {Record<string, unknown>} [more] */
function print(name, times, more = {}) {
  process.stdout.write(`${JSON.stringify({ bench: name, ...more, ...percentiles(times) })}\n`);
}

/** One keep-alive connection. */
class Connection {
  /** @param {string} url */
  constructor(url) {
    this.#url = url;
  }

  #url;
  #agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

  /** @param {string} endpoint @param {unknown} body @returns {Promise<any>} */
  post(endpoint, body) {
    const text = JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const headers = {
        "content-type": "application/json",
        "content-length": Buffer.byteLength(text),
        authorization: `Convex ${ADMIN_KEY}`,
      };
      const request = http.request(
        this.#url + endpoint,
        { method: "POST", agent: this.#agent, headers },
        (response) => {
          /** @type {Buffer[]} */
          const parts = [];
          response.on("data", (part) => parts.push(part));
          response.on("end", () => {
            const answer = JSON.parse(Buffer.concat(parts).toString() || "{}");
            if (answer.status === "error") reject(new Error(answer.errorMessage));
            else resolve(answer);
          });
        },
      );
      request.on("error", reject);
      request.end(text);
    });
  }

  /** @param {string} name @param {object} args */
  mutation(name, args) {
    return this.post("/api/mutation", { path: `bench:${name}`, args });
  }

  close() {
    this.#agent.destroy();
  }
}

/** @param {string} data @returns {Promise<{ url: string, pid: number, stop: () => Promise<void> }>} */
async function startHost(data) {
  const child = spawn(
    process.execPath,
    [HOST, "--functions", FUNCTIONS, "--data", data, "--port", "0", "--site-port", "0"],
    {
      stdio: ["ignore", "pipe", "inherit"],
      env: { MALLOC_ARENA_MAX: "1", ...process.env }, // as `signalbox host` starts it
    },
  );
  const line = await new Promise((resolve, reject) => {
    child.stdout.once("data", (text) => resolve(String(text)));
    child.once("exit", (code) => reject(new Error(`the host ended with ${code}`)));
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const stop = async () => {
    child.kill("SIGTERM");
    await ended;
  };
  return { ...JSON.parse(line), stop };
}

/** A process with sockets that subscribe, or a relay; it tells when each value came. */
class Process {
  /** @param {string} script @param {string[]} args */
  constructor(script, args) {
    this.#child = fork(script, args);
    this.#child.on("message", (/** @type {any} */ { value, at }) => {
      this.#seen.set(value, at);
      this.#wake();
    });
  }

  #child;
  /** @type {Map<unknown, any>} */
  #seen = new Map();
  #wake = () => {};

  /** @param {unknown} value @returns {Promise<any>} when it came, ms */
  async when(value) {
    while (!this.#seen.has(value)) await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
    return this.#seen.get(value);
  }

  stop() {
    this.#child.kill();
  }
}

/**
 * @param {(n: number) => Promise<unknown>} write
 * @param {Process} reader
 * @param {number} first  the values are counted from here on
 * @param {number} count
 * @param {number} pauseMs
 * @returns {Promise<number[]>} ms of each update
 */
async function timeUpdates(write, reader, first, count, pauseMs) {
  const times = [];
  for (let n = first; n < first + count; n++) {
    const start = now();
    const written = write(n);
    times.push((await reader.when(n)) - start);
    await written;
    if (pauseMs > 0) await sleep(pauseMs);
  }
  return times;
}

/**
 * @param {string} name
 * @param {(n: number) => Promise<unknown>} write
 * @param {Process} reader
 * @param {number} calls
 */
async function benchUpdates(name, write, reader, calls) {
  await timeUpdates(write, reader, 1, WARM_UP, 0);
  print(name, await timeUpdates(write, reader, 1 + WARM_UP, calls, 0), { pause_ms: 0 });
  const paused = Math.min(calls, 400);
  const times = await timeUpdates(write, reader, 1 + WARM_UP + calls, paused, PAUSE_MS);
  print(name, times, { pause_ms: PAUSE_MS });
}

const data = mkdtempSync(path.join(tmpdir(), "signalbox-bench-"));
try {
  const [documents, calls] = [Number(options.documents), Number(options.calls)];
  let host = await startHost(data);
  let connection = new Connection(host.url);
  for (let i = 0; i < documents; i += FILL_PER_CALL) {
    await connection.mutation("fill", { count: Math.min(FILL_PER_CALL, documents - i) });
  }
  connection.close();
  await host.stop();

  const starts = [];
  for (let i = 0; i < STARTS; i++) {
    const start = now();
    host = await startHost(data);
    connection = new Connection(host.url);
    await connection.post("/api/query", { path: "bench:count", args: {} });
    starts.push(now() - start);
    if (i < STARTS - 1) {
      connection.close();
      await host.stop();
    }
  }
  print("cold start", starts, { documents });

  for (const [name, args] of /** @type {const} */ ([
    ["noop", {}],
    ["claim", { worker: "w" }],
  ])) {
    for (let i = 0; i < WARM_UP; i++) await connection.mutation(name, args);
    const times = [];
    for (let i = 0; i < calls; i++) {
      const start = now();
      await connection.mutation(name, args);
      times.push(now() - start);
    }
    print(`http ${name}`, times, { documents });
  }

  const relay = new Process(RELAY, []);
  const relayUrl = await relay.when("url");
  const relayReader = new Process(SUBSCRIBER, [relayUrl, "1", "plain"]);
  await relayReader.when("ready");
  const relayConnection = new Connection(relayUrl);
  await benchUpdates("floor", (n) => relayConnection.post("/", { n }), relayReader, calls);
  relayConnection.close();
  relayReader.stop();
  relay.stop();

  const write = (/** @type {number} */ n) => connection.mutation("setCount", { n });
  const reader = new Process(SUBSCRIBER, [host.url, "1"]);
  await reader.when("ready");
  await benchUpdates("update", write, reader, calls);
  reader.stop();

  const many = new Process(SUBSCRIBER, [host.url, options.sockets]);
  await many.when("ready");
  const first = 1e6;
  await timeUpdates(write, many, first, 50, 0);
  const fanOut = await timeUpdates(write, many, first + 50, Math.min(calls, 200), PAUSE_MS);
  print("fan-out", fanOut, { sockets: Number(options.sockets) });
  many.stop();

  const status = await readFile(`/proc/${host.pid}/status`, "utf8").catch(() => "");
  const [, kib = "NaN"] = /VmRSS:\s+(\d+)/.exec(status) ?? [];
  process.stdout.write(
    `${JSON.stringify({ bench: "memory", rss_mb: Math.round((Number(kib) * 1024) / 1e6) })}\n`,
  );
  connection.close();
  await host.stop();
} finally {
  rmSync(data, { recursive: true, force: true });
}

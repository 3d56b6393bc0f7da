/** Starts the embedded host as a process of its own, for tests that talk to it over real sockets. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

const MAIN = path.join(import.meta.dirname, "../embedded/main.mjs");
/** Compiling the host is a fifth of what its start costs: the first one keeps the compiled code for the others. */
const NODE_COMPILE_CACHE = path.join(import.meta.dirname, "../node_modules/.cache/node");

/** One embedded host. The first start takes free ports and every later start the same ones, so clients can reconnect. */
export class HostProcess {
  /**
   * @param {object} options
   * @param {string} options.functions  the functions folder
   * @param {string} [options.data]  default: a temporary folder, which `end` removes
   * @param {string[]} [options.flags]  more of the host's flags
   * @param {Record<string, string>} [options.env]  added to the environment
   * @param {string} [options.main]  the file that starts it
   */
  constructor({ functions, data, flags = [], env = {}, main = MAIN }) {
    this.functions = functions;
    this.main = main;
    this.data = data ?? "";
    this.flags = flags;
    this.env = env;
    this.#isTemporary = data === undefined;
  }

  adminKey = "signalbox|test-admin-key";
  /** Base URL of the API and the WebSocket. */
  url = "";
  /** Base URL of the HTTP actions. */
  siteUrl = "";
  /** What the host said on stderr, over all starts. */
  log = "";

  #isTemporary;
  #ports = ["0", "0"];
  /** @type {import("node:child_process").ChildProcessByStdio<null, import("node:stream").Readable, import("node:stream").Readable> | null} */
  #child = null;

  get isRunning() {
    return this.#child !== null;
  }

  get file() {
    return path.join(this.data, "host.sqlite");
  }

  /** Start the host's process; `ready` resolves when it serves. */
  spawn() {
    const child = spawn(
      process.execPath,
      [
        ...[
          "--disable-warning=ExperimentalWarning",
          this.main,
          "--functions",
          this.functions,
          "--data",
          this.data,
        ],
        ...["--port", this.#ports[0], "--site-port", this.#ports[1], "--admin-key", this.adminKey],
        ...this.flags,
      ],
      { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, NODE_COMPILE_CACHE, ...this.env } },
    );
    child.stderr.setEncoding("utf8").on("data", (text) => (this.log += text));
    this.#child = child;
  }

  /**
   * Start the host and wait until it serves.
   *
   * @throws {Error} it ended instead; the message holds what it said
   */
  async start() {
    if (this.data === "") this.data = await mkdtemp(path.join(tmpdir(), "host-"));
    this.spawn();
    const child = this.#child;
    const exited = new AbortController();
    child.once("close", () => exited.abort());
    const line = await once(child.stdout, "data", { signal: exited.signal }).catch(() => null);
    if (line === null) {
      this.#child = null;
      throw new Error(`the host did not start: ${this.log.slice(-2000)}`);
    }
    const ready = JSON.parse(line[0]);
    this.url = ready.url;
    this.siteUrl = ready.siteUrl;
    this.#ports = [new URL(ready.url).port, new URL(ready.siteUrl).port];
    return this;
  }

  /** @param {NodeJS.Signals} signal */
  signal(signal) {
    this.#child?.kill(signal);
  }

  /**
   * Send a signal that ends the host, and wait until it has ended.
   *
   * @param {NodeJS.Signals} signal
   * @returns {Promise<number | NodeJS.Signals>} its exit code, or the signal that killed it
   */
  async end(signal) {
    const child = this.#child;
    this.#child = null;
    if (child === null) throw new Error("the host does not run");
    const closed = once(child, "close");
    child.kill(signal);
    const [code, killedBy] = await closed;
    return code ?? killedBy;
  }

  /** Stop the host, and remove its data if they are temporary. */
  async [Symbol.asyncDispose]() {
    if (this.#child !== null) await this.end("SIGTERM");
    if (this.#isTemporary && this.data !== "") await rm(this.data, { recursive: true });
  }
}

/** Reads the command line of the host into checked options. */

import { parseArgs } from "node:util";
import path from "node:path";
import { DEVELOPMENT_ADMIN_KEY, isDevelopmentKey, secretOf } from "./admin-key.mjs";
import { parseMoment } from "./clock.mjs";
import { FaultError, parseFaults } from "./faults.mjs";
import { REPOSITORY } from "./host-files.mjs";

/**
 * @typedef {object} Options
 * @property {string} functions  absolute path of the functions folder
 * @property {boolean} explicit  the functions folder was asked for, so nothing else is served
 * @property {boolean} watch     serve the folder anew whenever it changes
 * @property {string} data       absolute path of the folder that holds `host.sqlite`
 * @property {number} port       API and WebSocket; 0 takes a free port
 * @property {number} sitePort   HTTP actions; 0 takes a free port
 * @property {string} host       address to listen on
 * @property {string} adminKey
 * @property {"full" | "normal"} synchronous  full: a commit is on the disk before its answer; normal: a power cut may lose the last ones
 * @property {{ startMs?: number }} [clock]  a virtual clock; startMs: ms since the epoch, the machine's time by default
 * @property {import("./faults.mjs").FaultSettings} [faults]  what is disturbed between clients and the host
 * @property {string | null} [dashboard]  absolute path of the folder with the built dashboard; null: it is not served
 * @property {boolean} [strict]  every call evaluates the modules anew, as on Convex
 * @property {boolean} [record]  keep what mutations read and wrote, for the conflict matrix
 * @property {{ rate: number, seed: number }} [conflicts]  rate: share of the runs of mutations that are undone as a conflict, 0 to 1
 */

/** A command line that cannot be served; the message is one line for the operator. */
export class UsageError extends Error {}

const LOOPBACK = new Set(["127.0.0.1", "::1", "localhost"]);

const DEFAULT_FUNCTIONS = "./convex";
const BUILT_DASHBOARD = path.join(REPOSITORY, "dashboard", "dist");

/** @type {import("node:util").ParseArgsOptionsConfig} */
const FLAGS = {
  functions: { type: "string" },
  "no-watch": { type: "boolean", default: false },
  data: { type: "string", default: "./.signalbox/host" },
  port: { type: "string", default: "3210" },
  "site-port": { type: "string", default: "3211" },
  host: { type: "string", default: "127.0.0.1" },
  "admin-key": { type: "string", default: DEVELOPMENT_ADMIN_KEY },
  synchronous: { type: "string", default: "normal" },
  clock: { type: "string", default: "real" },
  conflicts: { type: "string", default: "0" },
  record: { type: "boolean", default: false },
  dashboard: { type: "string", default: BUILT_DASHBOARD },
  strict: { type: "boolean", default: false },
  faults: { type: "string", default: "none" },
};

/**
 * @param {string[]} argv  the arguments after the script's name
 * @param {string} cwd     relative paths start here
 * @returns {Options}
 * @throws {UsageError}
 */
export function parseOptions(argv, cwd) {
  const { text: flags, on } = readFlags(argv);
  const synchronous = flags("synchronous");
  if (synchronous !== "full" && synchronous !== "normal") {
    throw new UsageError(`--synchronous takes full or normal, not '${synchronous}'`);
  }
  const options = {
    functions: path.resolve(cwd, on("functions") ? flags("functions") : DEFAULT_FUNCTIONS),
    explicit: on("functions"),
    watch: !on("no-watch"),
    data: path.resolve(cwd, flags("data")),
    port: readPort("--port", flags("port")),
    sitePort: readPort("--site-port", flags("site-port")),
    host: flags("host"),
    adminKey: flags("admin-key"),
    synchronous: /** @type {"full" | "normal"} */ (synchronous),
    clock: readClock(flags("clock")),
    conflicts: readConflicts(flags("conflicts")),
    record: on("record"),
    dashboard: flags("dashboard") === "none" ? null : path.resolve(cwd, flags("dashboard")),
    strict: on("strict"),
    faults: readFaults(flags("faults")),
  };
  if (options.port !== 0 && options.port === options.sitePort) {
    throw new UsageError(`--port and --site-port are both ${options.port}: give two different ports`);
  }
  if (!/^[\x21-\x7e]+$/.test(options.adminKey)) {
    throw new UsageError("--admin-key must be printable ASCII without spaces");
  }
  if (secretOf(options.adminKey) === "") {
    throw new UsageError("--admin-key has nothing behind its '|': that would let anybody in");
  }
  if (isDevelopmentKey(options.adminKey) && !LOOPBACK.has(options.host)) {
    throw new UsageError(
      `--host ${options.host} with the built-in development admin key lets anybody in: give an own --admin-key`,
    );
  }
  return options;
}

/**
 * @param {string[]} argv
 * @returns {{ text: (name: string) => string, on: (name: string) => boolean }} text: the value of a flag, never empty
 */
function readFlags(argv) {
  /** @type {Record<string, unknown>} */
  let values;
  try {
    ({ values } = parseArgs({ args: argv, options: FLAGS, strict: true, allowPositionals: false }));
  } catch (error) {
    const [line = ""] = /** @type {Error} */ (error).message.split("\n");
    throw new UsageError(
      `${line} (flags: ${Object.keys(FLAGS)
        .map((name) => `--${name}`)
        .join(", ")})`,
    );
  }
  return {
    text: (name) => {
      const value = values[name];
      if (typeof value !== "string" || value === "") throw new UsageError(`--${name} must not be empty`);
      return value;
    },
    on: (name) => values[name] !== undefined && values[name] !== false,
  };
}

/**
 * @param {string} flag
 * @param {string} text
 */
function readPort(flag, text) {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  if (!(port <= 65535)) throw new UsageError(`${flag} takes a number from 0 to 65535, not '${text}'`);
  return port;
}

/** @param {string} text @returns {Options["clock"]} */
function readClock(text) {
  if (text === "real") return undefined;
  if (text === "virtual") return {};
  const [, start] = /^virtual:(.+)$/.exec(text) ?? [];
  const startMs = parseMoment(start);
  if (startMs === null)
    throw new UsageError(`--clock takes real, virtual or virtual:2026-01-01T00:00:00Z, not '${text}'`);
  return { startMs };
}

/** @param {string} text @returns {Options["conflicts"]} */
function readConflicts(text) {
  const [, share, seed = "1"] = /^(\d+|\d*\.\d+)(?::(\d{1,9}))?$/.exec(text) ?? [];
  const rate = Number(share);
  if (!(rate <= 1)) {
    throw new UsageError(
      `--conflicts takes RATE or RATE:SEED, a share from 0 to 1 and a whole number, not '${text}'`,
    );
  }
  return rate === 0 ? undefined : { rate, seed: Number(seed) };
}

/** @param {string} text @returns {Options["faults"]} */
function readFaults(text) {
  if (text === "none") return undefined;
  try {
    return parseFaults(text);
  } catch (error) {
    if (!(error instanceof FaultError)) throw error;
    throw new UsageError(`--faults takes delay=MS,drop=SHARE,disconnect=SHARE,seed=N: ${error.message}`);
  }
}

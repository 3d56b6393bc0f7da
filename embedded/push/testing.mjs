/** The real CLI of npm `convex` as a subprocess, in a project of its own, against a host in this process. */

import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { stripVTControlCharacters } from "node:util";
import { temporaryFolder, writeFunctions } from "../engine/testing.mjs";
import { startHost } from "../host.mjs";

const MODULES = fileURLToPath(new URL("../../node_modules", import.meta.url));
const CLI = path.join(MODULES, "convex/bin/main.js");
/** Compiling the CLI is a fifth of what a command costs: the first one keeps the compiled code for the others. */
const NODE_COMPILE_CACHE = path.join(MODULES, ".cache/node");
export const ADMIN_KEY = "signalbox|test-admin-key";

/**
 * @typedef {{ code: number | null, stdout: string, stderr: string }} Ran
 * @typedef {Awaited<ReturnType<typeof startHost>>} Host
 */

/**
 * @param {string} data  folder for the file
 * @param {Partial<import("../options.mjs").Options>} [settings]
 * @returns {Promise<{ host: Host, url: string, lines: string[] }>}
 */
export async function startTestHost(data, settings = {}) {
  /** @type {string[]} */
  const lines = [];
  const options = {
    functions: path.join(data, "no-such-folder"),
    explicit: false,
    watch: false,
    data,
    port: 0,
    sitePort: 0,
    host: "127.0.0.1",
    adminKey: ADMIN_KEY,
    synchronous: /** @type {const} */ ("normal"),
    ...settings,
  };
  const log = (/** @type {string} */ line) => void lines.push(line);
  const host = await startHost(/** @type {import("../options.mjs").Options} */ (options), {
    log,
    onFatal: (error) => log(error.message),
  });
  return { host, url: String(host.ready.url), lines };
}

export class Project {
  /** @param {Record<string, string>} files  of the functions folder, texts by path */
  constructor(files) {
    this.root = temporaryFolder();
    this.write(files);
    writeFileSync(path.join(this.root, "package.json"), '{ "dependencies": { "convex": "*" } }');
  }

  /** Replace the functions folder. @param {Record<string, string>} files */
  write(files) {
    this.folder = writeFunctions(this.root, files);
  }

  /**
   * @param {string[]} args
   * @param {{ url: string, byFlags?: boolean, key?: string, stdin?: string, env?: Record<string, string> }} deployment  byFlags: named by --url and --admin-key, not by the environment
   */
  start(args, { url, byFlags = false, key = ADMIN_KEY, env = {} }) {
    const flags = byFlags ? ["--url", url, "--admin-key", key] : [];
    // Outside of CI a failing command reports to a server on the internet before it ends.
    const environment = byFlags ? {} : { CONVEX_SELF_HOSTED_URL: url, CONVEX_SELF_HOSTED_ADMIN_KEY: key };
    return spawn(process.execPath, [CLI, ...args, ...flags], {
      cwd: this.root,
      env: {
        PATH: process.env.PATH,
        HOME: this.root,
        NO_COLOR: "1",
        CI: "1",
        NODE_COMPILE_CACHE,
        ...environment,
        ...env,
      },
    });
  }

  /**
   * Run a command to its end.
   *
   * @param {string[]} args
   * @param {{ url: string, byFlags?: boolean, key?: string, stdin?: string }} deployment
   * @returns {Promise<Ran>}
   */
  async run(args, deployment) {
    const child = this.start(args, deployment);
    child.stdin.end(deployment.stdin ?? "");
    const [stdout, stderr, code] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      new Promise((resolve) => child.once("close", resolve)),
    ]);
    const plain = (/** @type {string} */ output) => stripVTControlCharacters(output).trim();
    return { code, stdout: plain(stdout), stderr: plain(stderr) };
  }
}

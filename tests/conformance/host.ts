/** Starts the embedded host as a process of its own, as an operator would. */

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

const MAIN = path.join(import.meta.dirname, "../../embedded/main.mjs");
export const FUNCTIONS = path.join(import.meta.dirname, "functions");

const PACKAGES = path.join(import.meta.dirname, "../../node_modules");

/**
 * A project with a copy of the suite's functions and more files beside them.
 *
 * @param files  their text by their path in the functions folder
 * @returns the functions folder, and what removes the project
 */
async function copyFunctions(files: Record<string, string>) {
  const project = await mkdtemp(path.join(tmpdir(), "project-"));
  const functions = path.join(project, "convex");
  await cp(FUNCTIONS, functions, { recursive: true });
  await symlink(PACKAGES, path.join(project, "node_modules"));
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(functions, name), text);
  return { functions, remove: () => rm(project, { recursive: true }) };
}

export interface HostOptions {
  /** The functions folder; by default the one of this suite. */
  functions?: string;
  /** Files that a copy of this suite's folder gets, their text by their path. */
  files?: Record<string, string>;
  /** More flags of the command line. */
  flags?: string[];
  env?: Record<string, string>;
}

/** One embedded host on free ports with a data folder of its own, which lasts over restarts as the ports do. */
export class Host {
  readonly adminKey = "signalbox|conformance-admin-key";
  url = "";
  siteUrl = "";
  /** What the host said on stderr, over all starts. */
  log = "";
  #ports: [string, string] = ["0", "0"];
  #process: ChildProcess | null = null;

  private constructor(
    readonly data: string,
    private readonly functions: string,
    private readonly options: HostOptions,
    private readonly removeFunctions: () => Promise<void>,
  ) {}

  static async start(options: HostOptions = {}): Promise<Host> {
    const { functions, remove } =
      options.files === undefined
        ? { functions: options.functions ?? FUNCTIONS, remove: async () => {} }
        : await copyFunctions(options.files);
    const host = new Host(await mkdtemp(path.join(tmpdir(), "conformance-")), functions, options, remove);
    try {
      await host.start();
    } catch (error) {
      await host.dispose();
      throw error;
    }
    return host;
  }

  /** Resolves when the host serves; rejects with what it said when it does not start. */
  async start(): Promise<void> {
    const flags = [
      ...["--functions", this.functions, "--data", this.data],
      ...["--port", this.#ports[0], "--site-port", this.#ports[1], "--admin-key", this.adminKey],
      ...(this.options.flags ?? []),
    ];
    const child = spawn(process.execPath, [MAIN, ...flags], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...this.options.env },
    });
    this.#process = child;
    child.stderr.setEncoding("utf8").on("data", (text: string) => (this.log += text));
    const line = await new Promise<string>((resolve, reject) => {
      createInterface(child.stdout).once("line", resolve);
      child.once("exit", () => reject(new Error(`the host did not start: ${this.log}`)));
    });
    const ready = JSON.parse(line) as { url: string; siteUrl: string };
    this.url = ready.url;
    this.siteUrl = ready.siteUrl;
    this.#ports = [new URL(this.url).port, new URL(this.siteUrl).port];
  }

  /** End the host as a power cut would. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** End the host in good order; resolves with its exit code. */
  async stop(): Promise<number | null> {
    return await this.#end("SIGTERM");
  }

  /** Stop the host and remove its data. */
  async dispose(): Promise<void> {
    await this.stop();
    await rm(this.data, { recursive: true, force: true });
    await this.removeFunctions();
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null)
      return child?.exitCode ?? null;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
    return child.exitCode;
  }
}

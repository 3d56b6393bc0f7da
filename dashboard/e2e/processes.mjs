/** What plays beside the host: `signalbox worker` as a process of its own, and the scripted model server, which is simulated. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PYTHON = path.join(ROOT, ".venv/bin/python");

/** A process that is ended with its test, and whose words are kept for whoever looks for a fault. */
class Process {
  said = "";
  /** @type {number | NodeJS.Signals | null} its exit code, or the signal that killed it; null while it runs */
  ended = null;

  /** @param {string} command @param {string[]} args @param {NodeJS.ProcessEnv} [env] */
  constructor(command, args, env = process.env) {
    this.child = spawn(command, args, { cwd: ROOT, env, stdio: ["ignore", "pipe", "pipe"] });
    this.closed = once(this.child, "close").then(([code, signal]) => (this.ended = code ?? signal));
    for (const output of [this.child.stdout, this.child.stderr])
      output.setEncoding("utf8").on("data", (text) => (this.said += text));
  }

  async [Symbol.asyncDispose]() {
    this.child.kill("SIGKILL");
    await this.closed;
  }
}

/**
 * The scripted model server. It is no language model and says so: what it is called stands in each of its answers.
 *
 * @returns {Promise<Process & { url: string, baseUrl: string, server: string }>}
 */
export async function startModel() {
  const server = new Process(process.execPath, [path.join(ROOT, "scripted_model/server.mjs"), "--port", "0"]);
  const line = await Promise.race([once(server.child.stdout, "data"), server.closed.then(() => null)]);
  if (line === null) throw new Error(`the scripted model server did not start: ${server.said}`);
  const { url, baseUrl, server: name } = JSON.parse(String(line[0]));
  return Object.assign(server, { url, baseUrl, server: name });
}

/**
 * `signalbox worker`; its agents are those of the registry, its tools those of the modules.
 *
 * @param {import("./stage.mjs").Stage} stage
 * @param {{ baseUrl: string }} model
 * @param {{ name: string, queues: string[], modules?: string[] }} options
 */
export function startWorker(stage, model, { name, queues, modules = [] }) {
  const several = (flag, values) => values.flatMap((value) => [flag, value]);
  const options = ["--name", name, ...several("--queue", queues), ...several("--agents", modules)];
  return new Process(PYTHON, ["-m", "worker", "worker", ...options], {
    ...process.env,
    CONVEX_URL: stage.url,
    SIGNALBOX_KEY: stage.key.worker,
    SIGNALBOX_MODEL_BASE_URL: model.baseUrl,
    SIGNALBOX_MODEL: "scripted-writer",
  });
}

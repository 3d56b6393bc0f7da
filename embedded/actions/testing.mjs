/** A whole host on a fixture's functions, for tests of what only shows with real threads and sockets. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseOptions } from "../options.mjs";
import { startHost } from "../host.mjs";

export const ADMIN_KEY = "signalbox|test-admin-key";
const FIXTURE = fileURLToPath(new URL("../fixtures/actions/convex", import.meta.url));

/**
 * @param {{ functions?: string, data?: string, seconds?: number }} [options]  seconds: the limit of one action
 */
export async function startTestHost({ functions = FIXTURE, data, seconds = 600 } = {}) {
  const folder = data ?? (await mkdtemp(path.join(tmpdir(), "actions-")));
  /** @type {string[]} */
  const lines = [];
  const argv = ["--functions", functions, "--data", folder, "--port", "0", "--site-port", "0"];
  process.env.ACTIONS_USER_TIMEOUT_SECS = String(seconds);
  const host = await startHost(parseOptions([...argv, "--admin-key", ADMIN_KEY], folder), {
    log: (line) => lines.push(line),
    onFatal: (error) => lines.push(error.message),
  });
  const url = String(host.ready.url);
  const siteUrl = String(host.ready.siteUrl);

  /**
   * @param {string} kind
   * @param {string} name
   * @param {object} args
   * @param {string} key
   * @returns {Promise<any>} the whole answer
   */
  async function reply(kind, name, args = {}, key = ADMIN_KEY) {
    const response = await fetch(`${url}/api/${kind}`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Convex ${key}` },
      body: JSON.stringify({ path: name, args, format: "convex_encoded_json" }),
    });
    return response.json();
  }
  return {
    lines,
    url,
    siteUrl,
    folder,
    reply,
    /** @param {string} name @param {object} [args] @returns {Promise<any>} the value of an action that has to succeed */
    async act(name, args) {
      const answer = await reply("action", name, args);
      if (answer.status !== "success") throw new Error(answer.errorMessage);
      return answer.value;
    },
    /** @param {string} name @param {object} [args] @returns {Promise<any>} */
    query: async (name, args) => (await reply("query", name, args)).value,
    /** @param {boolean} [keep]  the data, for another host */
    async stop(keep = false) {
      await host.stop();
      if (!keep) await rm(folder, { recursive: true });
    },
  };
}

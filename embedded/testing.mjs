/** A host in this process for tests of its aids: functions from texts, requests with the admin key. */

import { rmSync } from "node:fs";
import { temporaryFolder, writeFunctions } from "./engine/testing.mjs";
import { startHost } from "./host.mjs";
import { parseOptions } from "./options.mjs";

export const ADMIN_KEY = "signalbox|test-admin-key";

/** First line of a functions file: the builders and references that `_generated` would give. */
const IMPORTS = `import {
  actionGeneric as action, anyApi as api, anyApi as internal, cronJobs, internalActionGeneric as internalAction,
  internalMutationGeneric as internalMutation, mutationGeneric as mutation, queryGeneric as query } from "convex/server";
`;

export class TestHost {
  /** Where the functions and the file are. */
  root = temporaryFolder();
  url = "";
  siteUrl = "";
  /** What the host told its operator. @type {string[]} */
  lines = [];
  /** @type {Awaited<ReturnType<typeof startHost>> | null} */
  #host = null;

  /**
   * @param {Record<string, string>} files  texts of the functions folder by path, `IMPORTS` left out
   * @param {Partial<import("./options.mjs").Options>} [options]
   */
  async start(files, options = {}) {
    const texts = Object.entries(files).map(([name, text]) => [name, IMPORTS + text]);
    const functions = writeFunctions(this.root, Object.fromEntries(texts));
    const flags = ["--functions", functions, "--data", this.root, "--admin-key", ADMIN_KEY];
    const defaults = parseOptions([...flags, "--port", "0", "--site-port", "0"], this.root);
    const settings = { ...defaults, watch: false, ...options };
    const tell = (/** @type {string} */ line) => void this.lines.push(line);
    this.#host = await startHost(settings, { log: tell, onFatal: ({ message }) => tell(message) });
    this.url = String(this.#host.ready.url);
    this.siteUrl = String(this.#host.ready.siteUrl);
  }

  /** Stop the host and keep its file. */
  async stop() {
    await this.#host?.stop();
    this.#host = null;
  }

  async dispose() {
    await this.stop();
    rmSync(this.root, { recursive: true, force: true });
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @param {string | null} [key]  null: nobody's
   * @returns {Promise<any>} the answer's JSON, with `status` of HTTP if it is not 200
   */
  async request(method, path, body, key = ADMIN_KEY) {
    const response = await fetch(this.url + path, {
      method,
      headers: {
        "content-type": "application/json",
        ...(key === null ? {} : { authorization: `Convex ${key}` }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const answer = /** @type {any} */ (await response.json());
    return response.status === 200 ? answer : { httpStatus: response.status, ...answer };
  }

  /** @param {string} path @param {object} body @param {string | null} [key] */
  post(path, body, key) {
    return this.request("POST", path, body, key);
  }

  /**
   * @param {"query" | "mutation" | "action"} kind
   * @param {string} path
   * @param {object} [args]
   * @returns {Promise<any>} the value
   * @throws {Error} with the whole answer
   */
  async call(kind, path, args = {}) {
    const answer = await this.post(`/api/${kind}`, { path, args });
    if (answer.status !== "success") throw new Error(JSON.stringify(answer));
    return answer.value;
  }
}

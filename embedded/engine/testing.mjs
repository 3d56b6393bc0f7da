/** An engine on a file of its own for tests: functions from a folder or from texts, calls that answer with values. */

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { bundleFunctions } from "../bundle.mjs";
import { Engine } from "./engine.mjs";

/** @typedef {import("./call.mjs").Caller} Caller */

export const FIXTURE = fileURLToPath(new URL("../fixtures/engine/convex", import.meta.url));
const NODE_MODULES = fileURLToPath(new URL("../../node_modules", import.meta.url));
/** @type {Caller} */
export const ADMIN = { admin: true, identity: null };
/** @type {Caller} */
export const ANYONE = { admin: false, identity: null };
export const GUARD_BYTES = 64;

/** @returns {string} a new folder, to be removed with `rmSync` */
export function temporaryFolder() {
  return mkdtempSync(path.join(tmpdir(), "signalbox-engine-"));
}

/**
 * Write a functions folder, with npm `convex` in reach.
 *
 * @param {string} root
 * @param {Record<string, string>} files  texts by path
 * @returns {string} the functions folder
 */
export function writeFunctions(root, files) {
  const folder = path.join(root, "convex");
  rmSync(folder, { recursive: true, force: true });
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(folder, file)), { recursive: true });
    writeFileSync(path.join(folder, file), text);
  }
  rmSync(path.join(root, "node_modules"), { force: true });
  symlinkSync(NODE_MODULES, path.join(root, "node_modules"));
  return folder;
}

/** A failed call, as its client sees it. */
export class CallFailed extends Error {
  /** @param {{ message: string, data?: string, logLines: string[] }} failure */
  constructor({ message, data, logLines }) {
    super(message);
    this.data = data === undefined ? undefined : JSON.parse(data);
    this.logLines = logLines;
  }
}

export class TestEngine {
  /** @param {Partial<import("./engine.mjs").Options> & { root?: string }} [options]  root: where the file is, a folder of its own by default */
  constructor({ root = temporaryFolder(), ...options } = {}) {
    this.root = root;
    this.file = path.join(root, "host.sqlite");
    this.#options = options;
    this.engine = this.#open(options);
  }

  #options;
  #lastId = 0;
  /** Every batch that was served, oldest first. @type {import("./engine.mjs").Batch[]} */
  batches = [];

  /** @param {Partial<import("./engine.mjs").Options>} options */
  #open(options) {
    return new Engine({
      file: this.file,
      synchronous: "normal",
      guard: new SharedArrayBuffer(GUARD_BYTES),
      ...options,
    });
  }

  /** Close the file and open it again, as after a restart. @param {Partial<import("./engine.mjs").Options>} [options] */
  reopen(options = {}) {
    this.engine.close();
    this.engine = this.#open({ ...this.#options, ...options });
  }

  dispose() {
    this.engine.close();
    rmSync(this.root, { recursive: true, force: true });
  }

  /**
   * @param {string} folder
   * @param {Record<string, string>} [env]
   * @returns {Promise<any>} the description of the functions
   * @throws {CallFailed}
   */
  async load(folder = FIXTURE, env = {}) {
    return this.send({ op: "load", bundle: await bundleFunctions(folder), env });
  }

  /**
   * @param {string} path
   * @param {object} [args]
   * @param {{ caller?: Caller, kind?: "query" | "mutation" | "any", once?: { session: string, request: number } }} [options]
   * @returns {any} the value in Convex's encoding
   * @throws {CallFailed}
   */
  call(path, args = {}, options = {}) {
    return JSON.parse(this.reply(path, args, options).value);
  }

  /**
   * As `call`, with all that the engine answers.
   *
   * @param {string} path
   * @param {object} [args]
   * @param {{ caller?: Caller, kind?: "query" | "mutation" | "any", once?: { session: string, request: number } }} [options]
   * @returns {any}
   */
  reply(path, args = {}, { caller = ADMIN, kind = "any", once } = {}) {
    const [reply] = this.serve([
      this.message(path, args, { caller, kind, ...(once === undefined ? {} : { once }) }),
    ]).replies;
    if (!reply.ok) throw new CallFailed(reply);
    return reply;
  }

  /**
   * @param {string} path
   * @param {object} args
   * @param {object} [rest]
   */
  message(path, args, rest = {}) {
    return {
      id: ++this.#lastId,
      op: "call",
      kind: "any",
      caller: ADMIN,
      path,
      args: JSON.stringify([args]),
      ...rest,
    };
  }

  /** @param {object} message @returns {any} the value of its answer */
  send(message) {
    const [reply] = this.serve([{ id: ++this.#lastId, ...message }]).replies;
    if (!reply.ok) throw new CallFailed(reply);
    return JSON.parse(reply.value);
  }

  /** @param {any[]} messages */
  serve(messages) {
    const batch = this.engine.serve(messages);
    this.batches.push(batch);
    return batch;
  }

  /**
   * @param {number} sub
   * @param {string} path
   * @param {object} [args]
   * @param {{ caller?: Caller, journal?: string | null }} [options]
   * @returns {any} the whole answer, also of a query that failed
   */
  subscribe(sub, path, args = {}, { caller = ADMIN, journal = null } = {}) {
    const id = ++this.#lastId;
    return this.serve([{ id, op: "subscribe", sub, path, args: JSON.stringify([args]), caller, journal }])
      .replies[0];
  }

  /** @returns {any[]} the values that the last batch pushed, with who got them */
  updates() {
    return (this.batches.at(-1)?.updates ?? []).flatMap(({ subs, ok, value, message }) =>
      subs.map((/** @type {number} */ sub) => ({ sub, value: ok ? JSON.parse(value) : message })),
    );
  }
}

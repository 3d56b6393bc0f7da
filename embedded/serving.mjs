/** Decides which functions are served, and brings them to the engine and the actions: a folder as it is now, or pushed code. */

import path from "node:path";
import { BundleError, buildFunctions } from "./bundle.mjs";
import { functionEnvironment } from "./env.mjs";
import { FolderWatch } from "./folder-watch.mjs";

/**
 * @typedef {import("./bundle.mjs").Build} Build
 * @typedef {import("./bundle.mjs").Bundle} Bundle
 * @typedef {object} Parts
 * @property {import("./engine-client.mjs").EngineClient} engine
 * @property {import("./actions/client.mjs").ActionsClient} actions
 * @property {Record<string, string | undefined>} environment  the host's variables, of which functions see some
 * @property {(line: string) => void} log
 */

export class Serving {
  /** @param {Parts} parts */
  constructor(parts) {
    this.#parts = parts;
  }

  /** @type {Parts} */
  #parts;
  /** What runs now. @type {Bundle | null} */
  #bundle = null;
  /** Loads come one after the other. @type {Promise<void>} */
  #last = Promise.resolve();
  /** @type {FolderWatch | null} */
  #watch = null;
  /** Why the last reload was refused. @type {string | null} */
  #refused = null;

  /**
   * Serve what a folder exports.
   *
   * @param {string} folder
   * @param {{ watch: boolean }} options  watch: and again whenever it changes; a version that is refused leaves the one before serving
   * @throws {Error} the first version is refused, with file and line
   */
  async serveFolder(folder, { watch }) {
    const startedAt = Date.now();
    const built = await buildFunctions(folder);
    await this.#inOrder(() => this.#activate(built.bundle));
    if (!watch) return;
    this.#watch = new FolderWatch({ onChange: () => void this.#reload(folder), log: this.#parts.log });
    await this.#watch.set(watched(folder, built), startedAt);
  }

  /** Stop watching. */
  close() {
    this.#watch?.close();
    this.#watch = null;
  }

  /** @param {string} folder */
  async #reload(folder) {
    await this.#inOrder(async () => {
      const watch = this.#watch;
      if (watch === null) return;
      const startedAt = Date.now();
      try {
        const built = await buildFunctions(folder);
        await watch.set(watched(folder, built), startedAt);
        const changed = built.bundle.code !== this.#bundle?.code;
        if (changed) await this.#activate(built.bundle);
        if (changed || this.#refused !== null) this.#parts.log("functions reloaded");
        this.#refused = null;
      } catch (error) {
        const { message } = /** @type {Error} */ (error);
        if (message !== this.#refused) {
          this.#parts.log(`functions not reloaded, the last good version keeps serving: ${message}`);
        }
        this.#refused = message;
        if (error instanceof BundleError) await watch.set(watched(folder, error), startedAt);
      }
    });
  }

  /** @param {Bundle} bundle */
  async #activate(bundle) {
    const { engine, actions, environment } = this.#parts;
    const { env } = await engine.load(bundle, environment);
    actions.load(bundle, functionEnvironment(environment, env));
    this.#bundle = bundle;
  }

  /**
   * @param {() => Promise<void>} step
   * @returns {Promise<void>}
   */
  #inOrder(step) {
    const done = this.#last.then(step);
    this.#last = done.catch(() => {});
    return done;
  }
}

/**
 * @param {string} folder
 * @param {Pick<Build, "files" | "folders">} seen
 */
function watched(folder, { files, folders }) {
  const settings = [folder, path.dirname(folder)].map((place) => path.join(place, "tsconfig.json"));
  return { folders: folders.length > 0 ? folders : [folder], files: [...files, ...settings] };
}

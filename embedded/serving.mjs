/** Decides which functions are served, and brings them to the engine and the actions: a folder as it is now, or pushed code. */

import path from "node:path";
import { beginBuild, beginToServe, BundleError, buildFunctions } from "./bundle.mjs";
import { FolderWatch } from "./folder-watch.mjs";
import { NO_FUNCTIONS } from "./paths.mjs";

/**
 * @typedef {import("./bundle.mjs").Build} Build
 * @typedef {import("./bundle.mjs").Bundle} Bundle
 * @typedef {import("./bundle.mjs").Building} Building
 * @typedef {object} Parts
 * @property {import("./engine-client.mjs").EngineClient} engine
 * @property {import("./actions/client.mjs").ActionsClient} actions
 * @property {Record<string, string | undefined>} environment  the host's variables, of which functions see some
 * @property {(line: string) => void} log
 *
 * @typedef {object} Pushed  what is kept in the file besides the code
 * @property {string} functions  the folder it was made from, as `convex.json` has it
 * @property {string} serverVersion  of npm `convex`
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
  /** Of the pushed code that runs; null: a folder's runs, or none. @type {Pushed | null} */
  pushed = null;
  /** The folder that is served. @type {string | null} */
  folder = null;

  /**
   * Serve what is to be served: a folder that was asked for, else what was pushed, else the default folder if it is there. With
   * none of them the host waits for a push.
   *
   * @param {{ functions: string, explicit: boolean, watch: boolean }} options  explicit: the folder was asked for
   * @param {Building} [begun]  of the folder, if it was begun before
   * @throws {Error} it is refused, in one line
   */
  async start({ functions, explicit, watch }, begun) {
    const { log } = this.#parts;
    const building = begun ?? beginToServe({ functions, explicit }); // while the engine opens the file
    const stored = await this.inquire({ op: "stored" });
    if (explicit && stored !== null)
      log(`${functions} is served, and not the code that was pushed: --functions asks for it`);
    if (explicit || (stored === null && building !== undefined))
      return await this.serveFolder(functions, { watch, building });
    if (stored === null) {
      await this.#inOrder(() => this.#activate(null));
      return log(
        `there is no functions folder at ${functions}: waiting for a push by npx convex dev or deploy`,
      );
    }
    if (building !== undefined)
      log(`the code that was pushed is served, and not ${functions}: --functions would ask for that`);
    const { bundle, ...pushed } = JSON.parse(stored);
    await this.#inOrder(() => this.#activate(bundle));
    this.pushed = pushed;
  }

  /**
   * Serve what a folder exports.
   *
   * @param {string} folder
   * @param {object} options
   * @param {boolean} options.watch  and again whenever it changes; a version that is refused leaves the one before serving
   * @param {Building} [options.building]  of the folder, begun before
   * @throws {Error} the first version is refused, with file and line
   */
  async serveFolder(folder, { watch, building = beginBuild(folder) }) {
    const { startedAt } = building;
    const built = await building.result;
    await this.#inOrder(() => this.#activate(built.bundle));
    this.folder = folder;
    if (!watch) return;
    this.#watch = new FolderWatch({ onChange: () => void this.#reload(folder), log: this.#parts.log });
    await this.#watch.set(watched(folder, built), startedAt);
  }

  /**
   * Serve pushed code from now on, also after a restart.
   *
   * @param {Bundle} bundle
   * @param {Pushed} pushed
   * @param {Record<string, string>} expected  the file's variables when the push began
   * @throws {import("./engine-client.mjs").EngineError} nothing has changed
   */
  async push(bundle, pushed, expected) {
    await this.#inOrder(async () => {
      await this.#activate(bundle, { pushed: JSON.stringify({ ...pushed, bundle }), expected });
      if (this.folder !== null) this.#parts.log(`pushed code is served, ${this.folder} is no longer`);
      this.close();
      this.folder = null;
      this.#refused = null;
      this.pushed = pushed;
    });
  }

  /**
   * Change variables in the file; the functions that run see them from then on.
   *
   * @param {{ name: string, value: string | null }[]} changes  null: unset
   * @throws {import("./engine-client.mjs").EngineError} nothing has changed
   */
  async changeEnvironment(changes) {
    await this.#inOrder(() => this.#activate(this.#bundle, { changes }));
  }

  /**
   * Ask the engine about functions, with the variables that they would see.
   *
   * @param {{ op: string } & Record<string, unknown>} message
   * @returns {Promise<any>} JSON of the answer's value
   * @throws {import("./engine-client.mjs").EngineError}
   */
  inquire(message) {
    return this.#parts.engine.inquire({ env: this.#parts.environment, ...message });
  }

  /**
   * As `inquire`, with the whole answer.
   *
   * @param {{ op: string } & Record<string, unknown>} message
   * @returns {Promise<any>}
   */
  ask(message) {
    return this.#parts.engine.ask({ env: this.#parts.environment, ...message });
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

  /**
   * @param {Bundle | null} bundle  null: there are none yet
   * @param {import("./engine-client.mjs").LoadOptions} [options]
   */
  async #activate(bundle, options) {
    const { engine, actions, environment } = this.#parts;
    const { variables, imported } = await engine.load(bundle, environment, options);
    actions.load(bundle ?? NO_FUNCTIONS, variables, imported);
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
  // The folder as a name in the one around it: so it is noticed at once when it comes back.
  return { folders: folders.length > 0 ? folders : [folder], files: [...files, ...settings, folder] };
}

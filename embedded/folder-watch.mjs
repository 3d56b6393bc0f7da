/** Notices that files have changed, however they are written and whatever becomes of the watchers. */

import { watch } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import path from "node:path";

/**
 * @typedef {object} Watched  absolute paths
 * @property {readonly string[]} files  those that are not there yet are waited for; without an extension, for any with that name
 * @property {readonly string[]} folders  any change in one counts, but none in a folder inside it
 */

const SETTLE_MS = 50; // editors write a file in several steps
const MAX_SETTLE_MS = 500; // a folder that never rests is looked at all the same
const SWEEP_MS = 2_000; // finds what the system did not tell: network drives, watchers that died, more folders than may be watched
const MAX_WATCHERS = 1_000; // the system's own limit is per user; what is above is found by sweeps

export class FolderWatch {
  /**
   * @param {object} settings
   * @param {() => void} settings.onChange  called once for changes that come together
   * @param {(line: string) => void} settings.log
   */
  constructor({ onChange, log }) {
    this.#onChange = onChange;
    this.#log = log;
  }

  /** @type {() => void} */
  #onChange;
  /** @type {(line: string) => void} */
  #log;
  /** @type {Watched} */
  #watched = { files: [], folders: [] };
  /** The names that count in a folder; null: all. @type {Map<string, Set<string> | null>} */
  #names = new Map();
  /** @type {Map<string, { watcher: import("node:fs").FSWatcher, inode: number }>} */
  #watchers = new Map();
  /** What the last sweep saw; null: nothing to compare with. @type {string | null} */
  #seen = null;
  #warned = false;
  #closed = false;
  /** Counts the calls of `set`, so that a sweep for an older one is forgotten. */
  #round = 0;
  /** @type {NodeJS.Timeout | undefined} */
  #settling;
  /** @type {NodeJS.Timeout | undefined} */
  #sweeping;
  #changedAt = 0;

  /**
   * Watch these instead of what was watched before.
   *
   * @param {Watched} watched
   * @param {number} since  ms since the epoch: what was changed later counts as a change
   */
  async set(watched, since) {
    this.#watched = watched;
    this.#names = namesByFolder(watched);
    this.#seen = null;
    this.#round += 1;
    for (const folder of this.#watchers.keys()) if (!this.#names.has(folder)) this.#unwatch(folder);
    await this.#sweep(this.#round, since);
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#settling);
    clearTimeout(this.#sweeping);
    for (const folder of [...this.#watchers.keys()]) this.#unwatch(folder);
  }

  /**
   * Renew the watchers and compare everything with the sweep before.
   *
   * @param {number} round
   * @param {number} since  only for the first sweep of a round
   */
  async #sweep(round, since = Infinity) {
    clearTimeout(this.#sweeping);
    await Promise.all([...this.#names.keys()].map((folder) => this.#renew(folder)));
    const { state, newest } = await look(this.#watched);
    if (this.#closed || round !== this.#round) return;
    if ((this.#seen !== null && this.#seen !== state) || newest > since) this.#changed();
    this.#seen = state;
    this.#sweeping = setTimeout(() => void this.#sweep(round), SWEEP_MS).unref();
  }

  /** @param {string} folder */
  async #renew(folder) {
    const inode = (await stat(folder).catch(() => null))?.ino;
    if (this.#watchers.get(folder)?.inode === inode) return;
    this.#unwatch(folder);
    if (inode === undefined || this.#closed || !this.#names.has(folder)) return;
    if (this.#watchers.size >= MAX_WATCHERS) return this.#warn(`there are more than ${MAX_WATCHERS} folders`);
    try {
      const watcher = watch(folder, { persistent: false }, (_, name) => {
        if (this.#counts(folder, name)) this.#changed();
      });
      watcher.on("error", () => this.#unwatch(folder)); // the next sweep makes another
      this.#watchers.set(folder, { watcher, inode });
    } catch (error) {
      this.#warn(/** @type {Error} */ (error).message);
    }
  }

  /** @param {string} folder */
  #unwatch(folder) {
    this.#watchers.get(folder)?.watcher.close();
    this.#watchers.delete(folder);
  }

  /** @param {string} reason */
  #warn(reason) {
    if (!this.#warned)
      this.#log(`changes of some files are found only every ${SWEEP_MS / 1000} s: ${reason}`);
    this.#warned = true;
  }

  /** @param {string} folder @param {string | null} name */
  #counts(folder, name) {
    const names = this.#names.get(folder);
    if (names === null || name === null) return true;
    return names !== undefined && (names.has(name) || names.has(path.parse(name).name));
  }

  #changed() {
    if (this.#closed) return;
    const now = performance.now();
    if (this.#settling === undefined) this.#changedAt = now;
    clearTimeout(this.#settling);
    const wait = Math.min(SETTLE_MS, Math.max(0, this.#changedAt + MAX_SETTLE_MS - now));
    this.#settling = setTimeout(() => {
      this.#settling = undefined;
      this.#onChange();
    }, wait);
  }
}

/** @param {Watched} watched */
function namesByFolder({ files, folders }) {
  /** @type {Map<string, Set<string> | null>} */
  const names = new Map(folders.map((folder) => [folder, null]));
  for (const file of files) {
    const { dir, base } = path.parse(file);
    const known = names.get(dir);
    if (known === undefined) names.set(dir, new Set([base]));
    else known?.add(base);
  }
  return names;
}

/**
 * @param {Watched} watched
 * @returns {Promise<{ state: string, newest: number }>}  newest: when something was last changed, ms since the epoch
 */
async function look({ files, folders }) {
  let newest = 0;
  const lines = await Promise.all([
    ...files.map(async (file) => {
      const found = await stat(file).catch(() => null);
      newest = Math.max(newest, found?.mtimeMs ?? 0);
      return found === null ? "" : `${found.mtimeMs} ${found.size} ${found.ino}`;
    }),
    ...folders.map(async (folder) => {
      newest = Math.max(newest, (await stat(folder).catch(() => null))?.mtimeMs ?? 0);
      return (await readdir(folder).catch(() => [])).join("/");
    }),
  ]);
  return { state: lines.join("\n"), newest };
}

/** Whether what `build.mjs` made is what the sources of the host say now. */

import { readFileSync, statSync } from "node:fs";
import path from "node:path";

/** In the folder that was built: what each source was, by its path. @typedef {Record<string, string>} Sources */
export const SOURCES_FILE = "sources.json";

/**
 * @param {string} build  folder
 * @param {string} sources  folder
 * @returns {boolean} false also where nothing was built, or not to its end
 */
export function isCurrent(build, sources) {
  try {
    /** @type {Sources} */
    const built = JSON.parse(readFileSync(path.join(build, SOURCES_FILE), "utf8"));
    return Object.entries(built).every(([file, state]) => state === stateOf(path.join(sources, file)));
  } catch {
    return false;
  }
}

/**
 * @param {string} file
 * @returns {string} another one once it has been written
 */
export function stateOf(file) {
  const { size, mtimeMs } = statSync(file);
  return `${size} ${mtimeMs}`;
}

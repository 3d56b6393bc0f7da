/** The clock and the engine, on which all the rest of the host hangs. It imports little, so that the engine's thread can start early. */

import { accessSync, constants, mkdirSync } from "node:fs";
import path from "node:path";
import { makeClock } from "./clock.mjs";
import { EngineClient } from "./engine-client.mjs";

/**
 * @typedef {object} Operator
 * @property {(line: string) => void} log
 * @property {(error: Error) => void} onFatal  the engine is given up
 * @typedef {object} Core
 * @property {EngineClient} engine  its thread is starting
 * @property {string} file  that it opens
 * @property {Float64Array | null} clock  null: the machine's
 */

/** The host cannot start; the message is one line for the operator. */
export class StartError extends Error {}

/** The first Node with `node:sqlite` and no flag. */
const MIN_NODE = [22, 13];

/**
 * @param {import("./options.mjs").Options} options
 * @param {Operator} operator
 * @returns {Core}
 * @throws {StartError}
 */
export function openCore(options, { log, onFatal }) {
  checkNode(process.versions.node);
  const {
    functions,
    explicit,
    data,
    synchronous,
    conflicts = null,
    record = false,
    strict = false,
  } = options;
  if (explicit) checkFolder(functions);
  prepareData(data);
  const file = path.join(data, "host.sqlite");
  const clock = options.clock === undefined ? null : makeClock(options.clock.startMs ?? Date.now());
  const engine = new EngineClient({ file, synchronous, log, onFatal, clock, conflicts, record, strict });
  engine.start();
  return { engine, file, clock };
}

/** @param {string} folder */
function checkFolder(folder) {
  try {
    accessSync(folder, constants.R_OK);
  } catch {
    throw new StartError(`no functions folder at ${folder}: give one with --functions`);
  }
}

/** @param {string} folder */
function prepareData(folder) {
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
  } catch (error) {
    throw new StartError(
      `cannot write to the data folder ${folder}: ${/** @type {Error} */ (error).message}`,
    );
  }
}

/** @param {string} version */
function checkNode(version) {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [minMajor = 0, minMinor = 0] = MIN_NODE;
  if (major < minMajor || (major === minMajor && minor < minMinor)) {
    throw new StartError(`Node ${MIN_NODE.join(".")} or newer is needed for node:sqlite, this is ${version}`);
  }
}

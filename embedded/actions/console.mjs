/** The `console` of actions: each line goes to the action that wrote it. */

import { inspect } from "../inspect.mjs";
import { formatLogLine } from "../log-lines.mjs";
import { runs } from "./runs.mjs";

/**
 * @param {string} level
 * @param {string[]} parts
 */
function write(level, parts) {
  runs.getStore()?.log(formatLogLine(level, parts));
}

/** @param {unknown[]} values */
function printed(values) {
  return values.map(inspect);
}

/** @param {string} level */
function writer(level) {
  return (/** @type {unknown[]} */ ...values) => write(level, printed(values));
}

/**
 * @param {string} label
 * @param {unknown[]} values
 */
function lap(label, values) {
  const start = runs.getStore()?.stopwatches.get(label);
  if (start === undefined) return write("WARN", [`Timer '${label}' does not exist`]);
  write("INFO", [`${label}: ${Math.round(performance.now() - start)}ms`, ...printed(values)]);
}

/** The methods that Convex's console has. */
export const logger = {
  debug: writer("DEBUG"),
  error: writer("ERROR"),
  info: writer("INFO"),
  log: writer("LOG"),
  warn: writer("WARN"),
  trace(/** @type {unknown[]} */ ...values) {
    write("LOG", [...printed(values), `\n${runs.getStore()?.frames(String(new Error().stack)) ?? ""}`]);
  },
  time(label = "default") {
    const stopwatches = runs.getStore()?.stopwatches;
    if (stopwatches?.has(String(label))) write("WARN", [`Timer '${label}' already exists`]);
    else stopwatches?.set(String(label), performance.now());
  },
  timeLog: (label = "default", /** @type {unknown[]} */ ...values) => lap(String(label), values),
  timeEnd(label = "default") {
    lap(String(label), []);
    runs.getStore()?.stopwatches.delete(String(label));
  },
};

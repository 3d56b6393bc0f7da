/** The `console` of actions: each line goes to the action that wrote it. */

import { inspect } from "node:util";
import { runs } from "./runs.mjs";

const MAX_LINES = 256;
const MAX_LINE_CHARS = 32_768;

/**
 * @param {string} level
 * @param {string} text
 */
function write(level, text) {
  const lines = runs.getStore()?.logLines;
  if (lines === undefined || lines.length > MAX_LINES) return;
  const line =
    lines.length < MAX_LINES ? `[${level}] ${text}` : "[ERROR] Log overflow: further lines were dropped";
  lines.push(line.slice(0, MAX_LINE_CHARS));
}

/** @param {string} level */
function writer(level) {
  return (/** @type {unknown[]} */ ...values) =>
    write(level, values.map((value) => inspect(value)).join(" "));
}

/** @type {Map<string, number>} */
const started = new Map();

export const logger = {
  debug: writer("DEBUG"),
  info: writer("INFO"),
  log: writer("LOG"),
  warn: writer("WARN"),
  error: writer("ERROR"),
  trace: writer("LOG"),
  time: (label = "default") => void started.set(label, performance.now()),
  timeLog: (label = "default") =>
    write("INFO", `${label}: ${Math.round(performance.now() - (started.get(label) ?? 0))}ms`),
  timeEnd: (label = "default") => {
    logger.timeLog(label);
    started.delete(label);
  },
};

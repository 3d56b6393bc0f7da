/** What goes wrong in a call, and the text that a client reads about it. */

import { SourceMap } from "node:module";
import path from "node:path";
import { ENTRY_SCRIPT } from "../paths.mjs";
import { textInFieldOrder } from "./field-order.mjs";

/** What every way to a file is answered. */
export const NO_FILE_STORAGE = "File storage needs Convex itself, this host has no file storage";

/** Convex refuses something that a function did or was given; the message is Convex's text. */
export class CallError extends Error {
  /**
   * @param {string} message
   * @param {string} [data]  JSON text of a ConvexError's data
   */
  constructor(message, data) {
    super(message);
    this.data = data === undefined ? undefined : textInFieldOrder(data, JSON.parse(data));
  }
}

/** Not the function but the system failed, as Convex tells by a code: the call may be tried again. */
export class SystemError extends Error {
  /**
   * @param {string} code
   * @param {string} message  Convex's text
   */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** @param {string} [table] */
export function conflictOver(table) {
  const what = table === undefined ? "some table" : `the "${table}" table`;
  return new SystemError(
    "OptimisticConcurrencyControlFailure",
    `Documents read from or written to ${what} changed while this mutation was being run and on every subsequent retry. See https://docs.convex.dev/error#1`,
  );
}

/** The store or the functions cannot be used; the message is one line for the operator. */
export class OperatorError extends Error {
  /**
   * @param {string} message
   * @param {{ code: string, text: string }} [refusal]  what Convex tells the client that asked for it, if it has words of its own
   */
  constructor(message, refusal) {
    super(message);
    this.refusal = refusal ?? { code: "InvalidModules", text: message };
  }
}

/**
 * @param {unknown} error
 * @returns {boolean} whether it is SQLite that failed (a full disk, a broken file): no function's fault, and the whole batch is lost
 */
export function isFault(error) {
  return error instanceof Error && "errcode" in error;
}

/**
 * @typedef {object} Thrown  what left a function, described inside its context
 * @property {string} name  empty when something else than an error was thrown
 * @property {string} message
 * @property {string} stack  V8's text
 * @property {string} [data]  JSON text of a ConvexError's data
 * @property {boolean} [uncatchable]  the runtime ended the function; nothing was thrown
 */

const MAX_FRAMES = 10;
const MAX_MESSAGE_BYTES = 1 << 16;
const HARNESS = "convex/src/server/impl/"; // Convex leaves its own frames out at both ends
const CALL_BEGIN = /^\s+at (?:(?:Object\.)?start \(prelude\.js:|Script\.runInContext \(node:vm:)/; // its first step, or a later one
const ASYNC = /^\s+at async /;
const FRAME = /^\s+at (async )?(?:(.*) \()?(.+):(\d+):(\d+)\)?$/; // an anonymous function has no parentheses

/** Turns positions in the bundle into positions in the app's files; the map is read at the first error. */
export class StackMapper {
  /**
   * @param {string} bundleName  file name under which the bundle was compiled
   * @param {string} map  JSON text; its sources are paths relative to the functions folder
   */
  constructor(bundleName, map) {
    this.#bundleName = bundleName;
    this.#mapText = map;
  }

  #bundleName;
  #mapText;
  /** @type {SourceMap | null} */
  #map = null;

  /**
   * @param {string} stack
   * @returns {string} one line for each frame of the app, each with its newline; the host's own frames are left out
   */
  frames(stack) {
    /** @type {{ source: string, text: string }[]} */
    const frames = [];
    let isBelow = false;
    for (const line of stack.split("\n")) {
      const [, wait = "", name, file, row, column] = FRAME.exec(line) ?? [];
      isBelow ||= CALL_BEGIN.test(line); // then come the frames of the function that made this call, and at last those that await this one
      if (file !== this.#bundleName || (isBelow && !ASYNC.test(line))) continue;
      this.#map ??= new SourceMap(JSON.parse(this.#mapText));
      const origin = this.#map.findEntry(Number(row) - 1, Number(column) - 1);
      if (!("originalSource" in origin) || origin.originalSource === undefined) continue;
      const source = path.posix.join("../convex", origin.originalSource);
      if (path.posix.basename(source) === ENTRY_SCRIPT) continue; // which is none of the app's files
      const position = `${source}:${origin.originalLine + 1}:${origin.originalColumn + 1}`;
      frames.push({ source, text: `    at ${wait}${frameName(name)} (${position})\n` });
    }
    const own = (/** @type {{ source: string }} */ { source }) => !source.includes(HARNESS);
    const shown = frames.slice(frames.findIndex(own), frames.findLastIndex(own) + 1);
    return shown
      .slice(0, MAX_FRAMES)
      .map(({ text }) => text)
      .join("");
  }
}

/** @param {string | undefined} name  as V8 prints it */
function frameName(name) {
  return name === undefined || name === "" ? "<anonymous>" : name.replace(/^Object\./, "");
}

/**
 * The text of an error that left a function, each of its lines with a newline. An error that came out of a nested call says "Uncaught"
 * once for each function that it left, with the frames of each.
 *
 * @param {Thrown} thrown
 * @param {StackMapper} mapper
 */
export function uncaughtText({ name, message, stack, uncatchable = false }, mapper) {
  const text = [name, message].filter((part) => part !== "").join(": ");
  const frames = mapper.frames(stack.startsWith(text) ? stack.slice(text.length) : stack);
  const shown = cut(uncatchable ? message : text === "" ? "Uncaught" : `Uncaught ${text}`);
  return `${shown}\n${frames}`;
}

/**
 * The text of what ended a function, as clients, callers and `_scheduled_functions` get it.
 *
 * @param {string} message  of `uncaughtText`, or one of the host's own
 */
export function endText(message) {
  return message.endsWith("\n") ? message : `${message}\n`;
}

/** @param {string} text @returns {string} its first 64 KiB, as Convex keeps them */
function cut(text) {
  if (Buffer.byteLength(text) <= MAX_MESSAGE_BYTES) return text;
  return new TextDecoder().decode(Buffer.from(text).subarray(0, MAX_MESSAGE_BYTES), { stream: true });
}

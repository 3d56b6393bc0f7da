/** How functions name other functions. */

import { canonicalPath } from "../../paths.mjs";
import { CallError } from "../errors.mjs";

const HANDLE = "function://app#";

/**
 * @param {{ name?: unknown, functionHandle?: unknown, reference?: unknown }} args  of a syscall
 * @param {string} [method]  as functions call it
 * @returns {string} the canonical path
 * @throws {CallError} it is none of this app
 */
export function addressedPath({ name, functionHandle, reference }, method = "scheduler") {
  if (typeof functionHandle === "string") {
    if (functionHandle.startsWith(HANDLE)) return functionHandle.slice(HANDLE.length);
    throw new CallError("Function handle not found");
  }
  if (typeof name === "string") return canonicalPath(name);
  if (reference === undefined) {
    throw new CallError(`Invalid arguments for \`${method}\`: Missing required argument 'name'`);
  }
  throw new CallError("This host has no components: call functions of the app by their reference");
}

/** @param {string} path  canonical */
export function functionHandle(path) {
  return `${HANDLE}${path}`;
}

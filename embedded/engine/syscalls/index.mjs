/** The syscalls of queries and mutations, by name. */

import { CallError, NO_FILE_STORAGE } from "../errors.mjs";
import { runFunction } from "./calls.mjs";
import { META_SYSCALLS } from "./meta.mjs";
import { READ_SYSCALLS } from "./reads.mjs";
import { SCHEDULING_SYSCALLS } from "./scheduling.mjs";
import { TEST_SYSCALLS } from "./testing.mjs";
import { refuseLoneSurrogates } from "../values.mjs";
import { WRITE_SYSCALLS } from "./writes.mjs";

/**
 * @typedef {import("../call.mjs").Call} Call
 * @typedef {(call: Call, args: any) => string} Syscall  answers with JSON text
 */

/** @type {Map<string, Syscall>} */
const SYSCALLS = new Map(
  Object.entries({
    ...READ_SYSCALLS,
    ...META_SYSCALLS,
    ...TEST_SYSCALLS,
    "1.0/runUdf": runFunction,
  }),
);
/** @type {Map<string, Syscall>} */
const MUTATION_SYSCALLS = new Map(Object.entries({ ...WRITE_SYSCALLS, ...SCHEDULING_SYSCALLS }));

/**
 * @param {Call} call
 * @param {string} op
 * @param {string} args  JSON text
 * @returns {string} JSON text
 * @throws {CallError}
 */
export function answerSyscall(call, op, args) {
  const syscall = SYSCALLS.get(op) ?? MUTATION_SYSCALLS.get(op);
  if (syscall === undefined) throw unavailable(op);
  if (call.frame.entry.kind === "query" && MUTATION_SYSCALLS.has(op)) {
    throw new CallError(`${op} cannot be used in a query: it writes`);
  }
  try {
    refuseLoneSurrogates(args);
  } catch (error) {
    throw new CallError(`Received invalid json: ${/** @type {Error} */ (error).message}`);
  }
  return syscall(call, JSON.parse(args));
}

/** @param {string} op */
function unavailable(op) {
  if (op.startsWith("1.0/storage")) return new CallError(NO_FILE_STORAGE);
  if (op === "1.0/signJwt") return new CallError("This host does not sign tokens");
  return new CallError(`Unknown async operation ${op}`); // npm convex looks for this text
}

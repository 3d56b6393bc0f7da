/**
 * What functions log with `log.audit`. Convex hands it to the deployment's log streams, of which a host has none, as a self-hosted
 * Convex without them: lines are held to Convex's bounds and dropped.
 */

import { CallError } from "./errors.mjs";

const MAX_LINES = 500; // of one call from outside
const MAX_LINE_BYTES = 100_000;
const MAX_TOTAL_BYTES = 4_000_000;
const MAX_VARIABLE_BYTES = 1026; // what a variable may become: an agent's name of 512 characters, escaped and quoted
const VARIABLES = new Set(["requestId", "ip", "userAgent", "now", "convexActor"]);

export class AuditLog {
  #lines = 0;
  #written = 0;
  #bytes = 0; // that they could become
  /** What is wrong with the first line that is refused; told when the function has ended, as on Convex. @type {string | null} */
  #refusal = null;

  /** @param {unknown} body  of one line */
  add(body) {
    const written = Buffer.byteLength(JSON.stringify(body));
    if (this.#written + written > MAX_TOTAL_BYTES)
      throw new CallError("Audit logs exceed function execution limits");
    const bytes = written + this.#variables(body) * MAX_VARIABLE_BYTES;
    this.#lines += 1;
    this.#written += written;
    this.#bytes += bytes;
    if (bytes > MAX_LINE_BYTES) {
      this.#refusal ??= `An audit log line may have a maximum possible size of ${MAX_LINE_BYTES} bytes, but this line could be up to ${bytes} bytes.`;
    }
  }

  /** When the function has ended well. @throws {CallError} */
  check() {
    if (this.#lines > MAX_LINES)
      throw new CallError(`Function execution exceeded the maximum of ${MAX_LINES} audit log lines.`);
    if (this.#refusal !== null) throw new CallError(this.#refusal);
    if (this.#bytes > MAX_TOTAL_BYTES) {
      throw new CallError(
        `The total maximum possible size of audit log lines from a single function execution is ${MAX_TOTAL_BYTES} bytes, but this execution could produce up to ${this.#bytes} bytes.`,
      );
    }
  }

  /** @param {unknown} value @returns {number} how many variables it has */
  #variables(value) {
    if (typeof value !== "object" || value === null) return 0;
    const fields = Object.entries(value);
    const [name, variable] = fields[0] ?? [];
    if (fields.length === 1 && name === "$var" && typeof variable === "string") {
      if (!VARIABLES.has(variable)) this.#refusal ??= `Unknown audit log variable: "${variable}"`;
      return 1;
    }
    return fields.reduce((sum, [, field]) => sum + this.#variables(field), 0);
  }
}

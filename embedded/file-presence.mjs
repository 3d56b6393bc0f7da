/** Notices that the database's file was deleted or replaced under the running host, which SQLite does not: it would write on into nothing. */

import { statSync } from "node:fs";

const INTERVAL_MS = 1_000;

/**
 * @param {string} file  that is there now
 * @param {(error: Error) => void} onLost  called once
 * @param {number} [intervalMs]
 * @returns {() => void} ends the looking
 */
export function watchPresence(file, onLost, intervalMs = INTERVAL_MS) {
  const first = identity(file);
  const timer = setInterval(() => {
    if (identity(file) === first) return;
    clearInterval(timer);
    onLost(
      new Error(`${file} was deleted or replaced while the host ran: what was written since then is lost`),
    );
  }, intervalMs);
  timer.unref();
  return () => clearInterval(timer);
}

/** @param {string} file @returns {string | null} null: it is not there */
function identity(file) {
  const found = statSync(file, { throwIfNoEntry: false, bigint: true });
  return found === undefined ? null : `${found.dev} ${found.ino}`;
}

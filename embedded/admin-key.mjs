/** How admin keys are written: `secret`, `instance|secret` or `kind:instance|secret`. */

/** Known to everybody, so the host takes its secret on the loopback address only. */
export const DEVELOPMENT_ADMIN_KEY = "signalbox|development-admin-key";

/** @param {string} key @returns {string} the part that counts */
export function secretOf(key) {
  return key.slice(key.indexOf("|") + 1);
}

/** @param {string} key @returns {boolean} whether it opens what the built-in key opens */
export function isDevelopmentKey(key) {
  return secretOf(key) === secretOf(DEVELOPMENT_ADMIN_KEY);
}

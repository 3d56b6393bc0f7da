/** Chooses which of the host's environment variables the functions see. */

const OWN_PREFIX = "SIGNALBOX_";
const OWN_NAMES = ["CONVEX_CLOUD_URL", "CONVEX_SITE_URL"];

/**
 * @param {Record<string, string | undefined>} environment  the host's
 * @param {Iterable<string>} declared  names in the app's `convex.config.ts`
 * @returns {Record<string, string>} the declared names, those of Signalbox and the two that Convex itself sets
 */
export function functionEnvironment(environment, declared) {
  const names = new Set([...declared, ...OWN_NAMES]);
  /** @type {Record<string, string>} */
  const chosen = {};
  for (const [name, value] of Object.entries(environment)) {
    if (value !== undefined && (names.has(name) || name.startsWith(OWN_PREFIX))) chosen[name] = value;
  }
  return chosen;
}

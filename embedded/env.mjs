/** Chooses which environment variables the functions see. */

const OWN_PREFIX = "SIGNALBOX_";
/** Set by the host itself, as Convex sets them. */
export const OWN_NAMES = Object.freeze(["CONVEX_CLOUD_URL", "CONVEX_SITE_URL"]);

/**
 * @param {Record<string, string | undefined>} environment  the host's
 * @param {Iterable<string>} declared  names in the app's `convex.config.ts`
 * @param {Record<string, string>} [stored]  kept in the file; stands above the host's own
 * @returns {Record<string, string>} of the host's the declared names, those of Signalbox and the two that Convex itself sets; all that is stored
 */
export function functionEnvironment(environment, declared, stored = {}) {
  const names = new Set([...declared, ...OWN_NAMES]);
  /** @type {Record<string, string>} */
  const chosen = {};
  for (const [name, value] of Object.entries(environment)) {
    if (value !== undefined && (names.has(name) || name.startsWith(OWN_PREFIX))) chosen[name] = value;
  }
  const own = OWN_NAMES.flatMap((name) => (chosen[name] === undefined ? [] : [[name, chosen[name]]]));
  return { ...chosen, ...stored, ...Object.fromEntries(own) };
}

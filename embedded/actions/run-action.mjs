/** Runs one action, with its arguments and its result checked against its validators. */

/**
 * @param {Record<string, Record<string, any>>} modules
 * @param {{ path: string, args: string }} call  `args` is the JSON text of a one-element array
 * @returns {Promise<{ ok: true, value: string }>}
 */
export async function runAction(modules, { path, args }) {
  const colon = path.lastIndexOf(":");
  const action = modules[path.slice(0, colon)]?.[path.slice(colon + 1)];
  return { ok: true, value: await action.invokeAction("", args) };
}

/**
 * Runs one action of the functions; its arguments and its value are checked on the main thread.
 *
 * @param {Record<string, Record<string, any>>} modules
 * @param {{ path: string, args: string }} call  `args` is the JSON text of a one-element array
 * @returns {Promise<string>} JSON text
 */
export async function runAction(modules, { path, args }) {
  const colon = path.lastIndexOf(":");
  const action = modules[path.slice(0, colon)]?.[path.slice(colon + 1)];
  return action.invokeAction("", args);
}

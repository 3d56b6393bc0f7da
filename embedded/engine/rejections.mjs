/**
 * Tells which promises of functions were rejected and left alone.
 *
 * Node reports them when it has run its own microtasks, so those are run where a call ends; that also settles what functions wait for
 * when they use the host's web classes.
 */

/** @type {Map<Promise<unknown>, unknown>} */
const rejections = new Map();

process.on("unhandledRejection", (reason, promise) => void rejections.set(promise, reason));
process.on("rejectionHandled", (promise) => void rejections.delete(promise));

const tick = /** @type {{ _tickCallback: () => void }} */ (/** @type {unknown} */ (process))._tickCallback;

/** Does nothing but report rejections while the host's microtasks are running already. */
export function runHostMicrotasks() {
  tick();
}

/**
 * @param {(promise: Promise<unknown>) => boolean} isWanted
 * @param {boolean} all  whether no call is open any more that could want the others
 * @returns {unknown[]} the reasons of the wanted ones, which are forgotten
 */
export function takeRejections(isWanted, all) {
  if (rejections.size === 0) return NONE;
  const wanted = [...rejections].filter(([promise]) => isWanted(promise));
  if (all) rejections.clear();
  else for (const [promise] of wanted) rejections.delete(promise);
  return wanted.map(([, reason]) => reason);
}

/** @type {unknown[]} */
const NONE = [];

/** Counts the runs of each function as Convex would bill them: calls, scheduled runs, and each run of a subscription. */

export class Tally {
  /** By kind and path. @type {Map<string, { kind: string, path: string, runs: number }>} */
  #rows = new Map();

  /**
   * @param {string} kind
   * @param {string} path
   */
  count(kind, path) {
    const row = this.#rows.get(path);
    if (row === undefined) this.#rows.set(path, { kind, path, runs: 1 });
    else row.runs += 1;
  }

  /** @returns {string} JSON text of `{ kind, path, runs }[]` */
  text() {
    return JSON.stringify([...this.#rows.values()]);
  }
}

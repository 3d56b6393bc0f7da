/** Live queries: which there are, what each has read, and what became of it when that changed. */

import { isFirstOfTable } from "./documents.mjs";
import { ReadSetRegistry } from "./read-set.mjs";
import { indexKey } from "./index-keys.mjs";
import { TABLE_OF_TABLES } from "./reads.mjs";
import { TextIndex } from "./text-index.mjs";
import { encodeIndexKey } from "./values.mjs";

/**
 * @typedef {import("./call.mjs").Caller} Caller
 * @typedef {import("./reads.mjs").Reads} Reads
 * @typedef {import("./store.mjs").Write} StoreWrite
 * @typedef {{ ok: true, value: string, logLines: string[] } | { ok: false, message: string, data?: string, code?: string, logLines: string[] }} Result
 * @typedef {{ path: string, args: string, caller: Caller }} LiveQuery
 * @typedef {{ result: Result, reads: Reads, journal: string | null }} QueryRun
 * @typedef {(query: LiveQuery, journal: string | null, sub: number) => QueryRun} RunQuery  never throws for what a function does
 *
 * @typedef {object} Group  subscriptions with equal query, arguments, caller and first journal share one run
 * @property {string} key
 * @property {LiveQuery} query
 * @property {Set<number>} subs
 * @property {string | null} journal  where its page ended in the last run
 * @property {Result} result
 * @property {string} fingerprint  of the result, without what differs between equal runs
 * @property {Set<string>} tables  that the last run read
 */

const REQUEST_ID = /^\[Request ID: [0-9a-f]+\]/;

export class Subscriptions {
  /** @param {RunQuery} run */
  constructor(run) {
    this.#run = run;
  }

  #run;
  /** @type {Map<string, Group>} */
  #groups = new Map();
  /** @type {Map<number, Group>} */
  #groupOf = new Map();
  /** @type {ReadSetRegistry<Group>} */
  #registry = new ReadSetRegistry();
  /** Groups by each table they read. @type {Map<string, Set<Group>>} */
  #watchers = new Map();
  /** Groups whose result is no longer current. @type {Set<Group>} */
  #stale = new Set();
  /** Re-runs since the last `refresh` whose result is new. @type {Group[]} */
  #changed = [];

  /** How many there are, and how many runs they share. */
  get size() {
    return { subscriptions: this.#groupOf.size, queries: this.#groups.size };
  }

  /**
   * @param {number} sub
   * @param {LiveQuery} query
   * @param {string | null} journal
   * @returns {{ result: Result, journal: string | null }}
   */
  add(sub, query, journal) {
    const key = JSON.stringify([query.path, query.args, query.caller, journal]);
    const shared = this.#groups.get(key);
    if (shared !== undefined) {
      if (this.#stale.delete(shared)) this.#rerun(shared, sub);
      shared.subs.add(sub);
      this.#groupOf.set(sub, shared);
      return shared;
    }
    const run = this.#run(query, journal, sub);
    const { result } = run;
    /** @type {Group} */
    const group = { key, query, subs: new Set([sub]), journal, result, fingerprint: "", tables: new Set() };
    this.#groups.set(key, group);
    this.#groupOf.set(sub, group);
    this.#take(group, run);
    return group;
  }

  /** @param {number} sub */
  remove(sub) {
    const group = this.#groupOf.get(sub);
    if (group === undefined) return;
    this.#groupOf.delete(sub);
    group.subs.delete(sub);
    if (group.subs.size > 0) return;
    this.#groups.delete(group.key);
    this.#stale.delete(group);
    this.#registry.delete(group);
    this.#unwatch(group);
  }

  /**
   * Find what a commit has made stale.
   *
   * @param {readonly StoreWrite[]} writes
   * @returns {number} how many subscriptions that are, those that were stale before too
   */
  touch(writes) {
    if (writes.some(isFirstOfTable)) this.#staleWatchers(TABLE_OF_TABLES);
    const watched = writes.filter(({ table }) => this.#watchers.has(table.name));
    if (watched.length === 0) return 0;
    /** @type {Set<Group>} */
    const touched = new Set();
    for (const write of watched) {
      if (!isFirstOfTable(write)) continue; // it may have made the table, and no range covers a table that is not there
      for (const group of this.#watchers.get(write.table.name) ?? []) touched.add(group);
    }
    const isRead = (/** @type {number} */ indexId) => this.#registry.readsIndex(indexId);
    const keyed = watched.map((write) => toWrite(write, isRead)); // the other keys tell nothing
    for (const group of this.#registry.touchedBy(keyed)) touched.add(group);
    let subscriptions = 0;
    for (const group of touched) {
      this.#stale.add(group);
      subscriptions += group.subs.size;
    }
    return subscriptions;
  }

  /** @param {string} table */
  #staleWatchers(table) {
    for (const group of this.#watchers.get(table) ?? []) this.#stale.add(group);
  }

  /** Make every result stale: the functions have changed. */
  touchAll() {
    for (const group of this.#groups.values()) this.#stale.add(group);
  }

  /** @returns {({ subs: number[], journal: string | null } & Result)[]} what is new for whom, after running what was stale */
  refresh() {
    for (const group of this.#stale) {
      const [sub] = group.subs;
      this.#rerun(group, /** @type {number} */ (sub));
    }
    this.#stale.clear();
    const updates = this.#changed.map(({ subs, result, journal }) => ({
      subs: [...subs],
      ...result,
      journal,
    }));
    this.#changed = [];
    return updates;
  }

  /**
   * @param {Group} group
   * @param {number} sub  who is told if it never ends
   */
  #rerun(group, sub) {
    const before = group.fingerprint;
    this.#take(group, this.#run(group.query, group.journal, sub));
    if (group.fingerprint !== before && !this.#changed.includes(group)) this.#changed.push(group);
  }

  /**
   * @param {Group} group
   * @param {QueryRun} run
   */
  #take(group, { result, reads, journal }) {
    group.result = result;
    group.journal = journal;
    group.fingerprint = fingerprint(result, journal);
    this.#registry.set(group, reads.readSet);
    this.#unwatch(group);
    group.tables = reads.tables;
    for (const table of reads.tables) {
      const watchers = this.#watchers.get(table);
      if (watchers === undefined) this.#watchers.set(table, new Set([group]));
      else watchers.add(group);
    }
  }

  /** @param {Group} group */
  #unwatch(group) {
    for (const table of group.tables) {
      const watchers = this.#watchers.get(table);
      watchers?.delete(group);
      if (watchers?.size === 0) this.#watchers.delete(table);
    }
  }
}

/**
 * @param {Result} result
 * @param {string | null} journal
 */
function fingerprint(result, journal) {
  const { logLines } = result;
  return result.ok
    ? JSON.stringify([result.value, logLines, journal])
    : JSON.stringify([result.message.replace(REQUEST_ID, ""), result.data ?? null, logLines]);
}

/**
 * @param {StoreWrite} write
 * @param {(indexId: number) => boolean} [isWanted]  the indexes in which its keys are to be told
 * @returns {import("./read-set.mjs").Write}
 */
export function toWrite({ table, id, ct, before, after }, isWanted = () => true) {
  /** @type {import("./read-set.mjs").KeyChange[]} */
  const keys = [];
  for (const [index, value] of /** @type {const} */ ([
    [table.byCreationTime, ct],
    [table.byId, id],
  ])) {
    if (!isWanted(index.id)) continue;
    const key = encodeIndexKey([value]);
    keys.push({
      indexId: index.id,
      oldKey: before === null ? null : key,
      newKey: after === null ? null : key,
    });
  }
  for (const index of table.indexes) {
    if (!isWanted(index.id)) continue;
    keys.push({
      indexId: index.id,
      oldKey: before === null ? null : indexKey(index, before),
      newKey: after === null ? null : indexKey(index, after),
    });
  }
  for (const side of table.sides) keys.push(...textKeys(side, before, after));
  return { id, table: table.name, keys };
}

/**
 * @param {import("./side-indexes.mjs").SideIndex} side
 * @param {StoreWrite["before"]} before
 * @param {StoreWrite["after"]} after
 * @returns {import("./read-set.mjs").KeyChange[]}
 */
function textKeys(side, before, after) {
  if (!(side instanceof TextIndex)) return [];
  const change = { indexId: side.readSetId, oldKey: null, newKey: null };
  return [
    ...side.readKeys(before).map((oldKey) => ({ ...change, oldKey })),
    ...side.readKeys(after).map((newKey) => ({ ...change, newKey })),
  ];
}

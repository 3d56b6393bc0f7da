/**
 * Which mutations of a recorded workload would have made which others run again on Convex.
 *
 * The model: every run had the same time between its snapshot and its commit, the window. So a run reads the data as of its arrival,
 * and is invalid if another run, which arrived before it but less than the window earlier, wrote something that it has read: that one's
 * commit then fell between its snapshot and its commit. A run that wrote nothing commits at its snapshot and is never invalid. Runs are
 * taken as they were: a run that Convex would have repeated is not repeated here, and would have conflicted with later ones too.
 */

/**
 * @typedef {import("./engine/recorder.mjs").Recorded} Recorded
 * @typedef {import("./engine/recorder.mjs").Recording} Recording
 *
 * @typedef {object} Pair
 * @property {string} mutation  whose runs would have been invalid
 * @property {string} by  the mutation whose commit did it
 * @property {number} conflicts  runs of `mutation` that at least one run of `by` made invalid
 * @property {number} share  of the runs of `mutation`, from 0 to 1
 * @property {{ index: string, conflicts: number }[]} over  where the first clash of each was found, most first; "table.index"
 *
 * @typedef {object} MutationRow
 * @property {string} path
 * @property {number} runs
 * @property {number} writes  runs that wrote something
 * @property {number} conflicts  runs that at least one other made invalid
 * @property {number} share
 * @property {number} meanSubscriptions  whose result one run made stale
 * @property {number} maxSubscriptions
 * @property {string[]} read  tables, by name; what was read from a snapshot is not among them
 * @property {string[]} written  tables, by name
 *
 * @typedef {object} Matrix
 * @property {number} windowMs
 * @property {number} runs
 * @property {number} dropped  older runs that are no longer known
 * @property {Pair[]} pairs  with at least one conflict, worst first
 * @property {MutationRow[]} mutations  worst first
 */

import { tableNumberOf } from "./engine/ids.mjs";

const PAUSE_EVERY_MS = 20;

/**
 * @param {Recording} recording
 * @param {number} windowMs
 * @param {() => Promise<void>} [pause]  awaited now and then, so that a long computation holds nobody up
 * @returns {Promise<Matrix>}
 */
export async function conflictMatrix(recording, windowMs, pause = nextTurn) {
  const { records, dropped, indexes } = recording;
  const nameOf = (/** @type {number} */ index) => indexes[index] ?? "a removed index";
  /** @type {Map<string, { mutation: string, by: string, conflicts: number, over: Map<string, number> }>} */
  const pairs = new Map();
  /** @type {Map<string, MutationRow>} */
  const mutations = new Map();
  let resumed = performance.now();
  for (const [i, run] of records.entries()) {
    const row = rowOf(mutations, run);
    const isValid = run.documents.length === 0;
    const clashes = isValid ? new Map() : clashesOf(run, records, i, windowMs, nameOf);
    if (clashes.size > 0) row.conflicts += 1;
    for (const [by, place] of clashes) {
      const key = JSON.stringify([run.path, by]);
      const pair = pairs.get(key) ?? { mutation: run.path, by, conflicts: 0, over: new Map() };
      pair.conflicts += 1;
      pair.over.set(place, (pair.over.get(place) ?? 0) + 1);
      pairs.set(key, pair);
    }
    if (performance.now() - resumed > PAUSE_EVERY_MS) {
      await pause();
      resumed = performance.now();
    }
  }
  const touched = touchedTables(recording);
  const runsOf = (/** @type {string} */ path) => /** @type {MutationRow} */ (mutations.get(path)).runs;
  return {
    windowMs,
    runs: records.length,
    dropped,
    pairs: [...pairs.values()]
      .map(({ over, ...pair }) => ({
        ...pair,
        share: pair.conflicts / runsOf(pair.mutation),
        over: [...over].map(([index, conflicts]) => ({ index, conflicts })).sort(worstFirst),
      }))
      .sort(worstFirst),
    mutations: [...mutations.values()]
      .map((row) => ({
        ...row,
        ...touched.get(row.path),
        share: row.conflicts / row.runs,
        meanSubscriptions: row.meanSubscriptions / row.runs,
      }))
      .sort(worstFirst),
  };
}

/**
 * The tables that the recorded runs of each mutation touched; what was read from a snapshot is not among them.
 *
 * @param {Recording} recording
 * @returns {Map<string, { read: string[], written: string[] }>} by path; names in order
 */
export function touchedTables({ records, indexes, tables }) {
  /** @type {Map<string, { read: Set<string>, written: Set<string> }>} */
  const touched = new Map();
  for (const { path, ranges, ids, documents } of records) {
    let entry = touched.get(path);
    if (entry === undefined) touched.set(path, (entry = { read: new Set(), written: new Set() }));
    for (const [index] of ranges) entry.read.add(indexes[index]?.split(".")[0] ?? "a removed table");
    for (const id of ids) {
      const number = tableNumberOf(id);
      if (number !== null && tables[number] !== undefined) entry.read.add(tables[number]);
    }
    for (const [table] of documents) entry.written.add(table);
  }
  return new Map(
    [...touched].map(([path, { read, written }]) => [
      path,
      { read: [...read].sort(), written: [...written].sort() },
    ]),
  );
}

/** @param {{ conflicts: number }} a @param {{ conflicts: number }} b */
function worstFirst(a, b) {
  return b.conflicts - a.conflicts;
}

/**
 * @param {Map<string, MutationRow>} rows
 * @param {Recorded} run
 */
function rowOf(rows, { path, documents, touched }) {
  let row = rows.get(path);
  if (row === undefined) {
    const none = { read: [], written: [] };
    row = {
      path,
      runs: 0,
      writes: 0,
      conflicts: 0,
      share: 0,
      meanSubscriptions: 0,
      maxSubscriptions: 0,
      ...none,
    };
    rows.set(path, row);
  }
  row.runs += 1;
  if (documents.length > 0) row.writes += 1;
  row.meanSubscriptions += touched; // divided at the end
  row.maxSubscriptions = Math.max(row.maxSubscriptions, touched);
  return row;
}

/**
 * @param {Recorded} run
 * @param {readonly Recorded[]} records
 * @param {number} position  of `run`
 * @param {number} windowMs
 * @param {(index: number) => string} nameOf
 * @returns {Map<string, string>} where the first clash was, by the path of the other mutation
 */
function clashesOf(run, records, position, windowMs, nameOf) {
  /** @type {Map<string, string>} */
  const clashes = new Map();
  const reads = readsOf(run);
  for (let i = position - 1; i >= 0; i--) {
    const other = /** @type {Recorded} */ (records[i]);
    if (run.arrived - other.arrived >= windowMs) break;
    if (clashes.has(other.path)) continue;
    const place = clash(reads, other, nameOf);
    if (place !== null) clashes.set(other.path, place);
  }
  return clashes;
}

/** @typedef {{ ids: Set<string>, ranges: Map<number, [low: string, high: string | null][]> }} RunReads */

/** @param {Recorded} run @returns {RunReads} */
function readsOf({ ids, ranges }) {
  /** @type {RunReads["ranges"]} */
  const byIndex = new Map();
  for (const [index, low, high] of ranges) {
    const known = byIndex.get(index);
    if (known === undefined) byIndex.set(index, [[low, high]]);
    else known.push([low, high]);
  }
  return { ids: new Set(ids), ranges: byIndex };
}

/**
 * @param {RunReads} reads
 * @param {Recorded} writer
 * @param {(index: number) => string} nameOf
 * @returns {string | null} where the writer wrote what was read
 */
function clash({ ids, ranges }, { keys, documents }, nameOf) {
  for (const [index, key] of keys) {
    const read = ranges.get(index);
    if (read !== undefined && covers(read, key)) return nameOf(index);
  }
  const [table] = documents.find(([, id]) => ids.has(id)) ?? [];
  return table === undefined ? null : `${table}.by_id`;
}

/**
 * @param {readonly [low: string, high: string | null][]} ranges  sorted, apart
 * @param {string} key
 */
function covers(ranges, key) {
  let first = 0;
  let end = ranges.length;
  while (first < end) {
    const middle = (first + end) >> 1;
    const [low, high] = /** @type {[string, string | null]} */ (ranges[middle]);
    if (key < low) end = middle;
    else if (high !== null && key >= high) first = middle + 1;
    else return true;
  }
  return false;
}

/** @returns {Promise<void>} */
function nextTurn() {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Compares what a round's clients were told with what the host holds after its restart. */

/**
 * @typedef {import("./load.mjs").Told} Told
 * @typedef {Record<"entries" | "mirrors" | "totals" | "effects" | "plans", any[]>} Stored  documents of one round, in the order of creation
 */

const LOST_ACTION = "Transient error while executing action"; // as Convex says it
const CRON_PERIOD_MS = 1_000;
/** What a job that has succeeded leaves behind, by its kind. */
const EFFECTS = {
  once: ["once"],
  refuse: [],
  chain: ["link 0", "link 1", "link 2"],
  act: ["started", "ended"],
};

/**
 * @param {Told} told
 * @param {Stored} stored
 * @param {{ id: string, creationTime: number }} last  of the newest entry of the rounds before
 * @returns {string[]} what does not agree, one line each
 */
export function auditRound(told, stored, last) {
  const problems = [...told.problems];
  auditWrites(told, stored, problems);
  auditTransactions(stored, problems);
  auditOrder(stored.entries, last, problems);
  auditJobs(told, stored, problems);
  if (told.shown?.count !== stored.entries.length)
    problems.push(`the subscriber holds ${told.shown?.count} entries of ${stored.entries.length}`);
  return problems;
}

/** @param {Told} told @param {Stored} stored @param {string[]} problems */
function auditWrites({ added, seen }, { entries }, problems) {
  const byId = new Map(entries.map((entry) => [entry._id, entry]));
  for (const { id, writer, n } of added) {
    const entry = byId.get(id);
    if (entry?.writer !== writer || entry.n !== n)
      problems.push(`the acknowledged entry ${n} of ${writer} is lost`);
  }
  for (const { _id, _creationTime, writer, n } of seen.values()) {
    const entry = byId.get(_id);
    if (entry?.n !== n || entry.writer !== writer || entry._creationTime !== _creationTime)
      problems.push(`entry ${n} of ${writer} was shown to a subscriber and is not there`);
  }
  for (const [writer, ofWriter] of Map.groupBy(entries, (entry) => entry.writer)) {
    const acknowledged = added.filter((entry) => entry.writer === writer).length;
    const open = writer === "action" ? 2 : 1; // what a writer may have under way
    const numbers = ofWriter.map(({ n }) => n);
    if (writer === "refused") problems.push("a write of a mutation that threw is there");
    else if (numbers.some((n, i) => n !== i))
      problems.push(`entries of ${writer} are missing or doubled: ${numbers}`);
    else if (numbers.length > acknowledged + open)
      problems.push(`${writer} has ${numbers.length} entries and ${acknowledged} acknowledged ones`);
  }
}

/** @param {Stored} stored @param {string[]} problems */
function auditTransactions({ entries, mirrors, totals }, problems) {
  const mirrored = new Map(mirrors.map(({ entry, _id }) => [entry, _id]));
  if (mirrored.size !== mirrors.length || mirrors.length !== entries.length)
    problems.push(`${entries.length} entries and ${mirrors.length} mirrors of ${mirrored.size}`);
  for (const { _id, n, writer } of entries)
    if (!mirrored.has(_id)) problems.push(`entry ${n} of ${writer} is half-written: it has no mirror`);
  for (const [writer, ofWriter] of Map.groupBy(entries, (entry) => entry.writer)) {
    const count = totals.find((total) => total.writer === writer)?.count;
    if (count !== ofWriter.length)
      problems.push(`${writer} has ${ofWriter.length} entries and counted ${count}`);
    const newest = ofWriter.filter((entry) => entry.newest).map(({ n }) => n);
    if (String(newest) !== String(ofWriter.at(-1)?.n))
      problems.push(`the newest entries of ${writer} are ${newest}`);
  }
}

/** @param {any[]} entries @param {{ id: string, creationTime: number }} last @param {string[]} problems */
function auditOrder(entries, last, problems) {
  for (const { _id, _creationTime } of entries) {
    if (_creationTime <= last.creationTime)
      problems.push(`creation time ${_creationTime} after ${last.creationTime}`);
    if (_id <= last.id) problems.push(`id ${_id} after ${last.id}`);
    last = { id: _id, creationTime: _creationTime };
  }
}

/** @param {Told} told @param {Stored} stored @param {string[]} problems */
function auditJobs({ planned, canceled }, { plans, effects }, problems) {
  const byKey = new Map(plans.map((plan) => [plan.key, plan]));
  const effectsOf = Map.groupBy(effects, ({ key }) => key);
  for (const { key, job } of planned)
    if (byKey.get(key)?.job?._id !== job) problems.push(`the acknowledged job ${key} is lost`);
  const lastKey = planned.at(-1)?.key; // its cancellation may have been under way
  for (const { key, kind, job } of plans) {
    const happened = (effectsOf.get(key) ?? []).map(({ what }) => what).join(", ");
    const state = job?.state.kind;
    const said = `job ${key} (${JSON.stringify(job?.state)})`;
    if (!mayHaveDone(kind, job?.state, happened)) problems.push(`${said} has done [${happened}]`);
    if (canceled.has(key) ? state !== "canceled" : state === "canceled" && key !== lastKey)
      problems.push(`${said} was ${canceled.has(key) ? "" : "not "}canceled`);
    if (!(job?.completedTime >= Math.floor(job?.scheduledTime)) && state !== "canceled")
      problems.push(`${said} was completed at ${job?.completedTime}, due at ${job?.scheduledTime}`);
  }
  for (const key of effectsOf.keys())
    if (!byKey.has(key)) problems.push(`job ${key} has run and was never scheduled`);
}

/**
 * @param {keyof typeof EFFECTS} kind
 * @param {{ kind: string, error?: string } | undefined} state
 * @param {string} happened
 */
function mayHaveDone(kind, state, happened) {
  const all = EFFECTS[kind].join(", ");
  const asAnAction = kind === "act" && ["", "started", all].includes(happened); // cut off, early or late
  switch (state?.kind) {
    case "success":
      return kind !== "refuse" && happened === all;
    case "failed":
      return kind === "act"
        ? asAnAction && state.error === LOST_ACTION
        : kind === "refuse" && happened === "";
    case "canceled":
      return happened === "" || asAnAction;
    default:
      return false;
  }
}

/**
 * A cron runs at most once for each of its times. (Times that fall into a death are skipped.) A run that is due at one time notes a moment
 * from then to its end, and the next is due after that end, as in Convex: however late it is, a beat tells which run it belongs to.
 *
 * @param {any[]} beats  in the order of creation
 * @param {Map<string, number>} nextRuns  ms, by the cron's name; its times are whole periods before it
 * @returns {string[]}
 */
export function auditBeats(beats, nextRuns) {
  const problems = [];
  for (const [cron, nextRun] of nextRuns) {
    const noted = beats.filter((beat) => beat.cron === cron).map(({ at }) => at - nextRun);
    for (const [i, at] of noted.entries()) {
      const time = Math.floor(at / CRON_PERIOD_MS);
      if (i > 0 && time <= Math.floor(noted[i - 1] / CRON_PERIOD_MS))
        problems.push(
          `the cron of the ${cron} ran twice for its time ${time}: ${noted.slice(i - 1, i + 1)} ms`,
        );
    }
  }
  return problems;
}

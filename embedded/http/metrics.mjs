/** `GET /metrics`: what the host counts. Counters of the engine begin anew when its thread is restarted, as Prometheus expects of a restart. */

import { statSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { MESSAGES, SECONDS } from "../engine/tally.mjs";
import { histogram, metric } from "./prometheus.mjs";

/**
 * @typedef {import("../engine/tally.mjs").FunctionTally} FunctionTally
 * @typedef {import("../engine/tally.mjs").BatchTally & EngineState} EngineCounts  what the engine's `tally` answers
 * @typedef {object} EngineState
 * @property {FunctionTally[]} functions
 * @property {number} subscriptions
 * @property {number} queries  that are run for them
 * @property {number} conflicts  runs that were undone at random
 * @property {number} running  scheduled actions
 * @property {Record<string, number>} scheduled  functions by state
 * @property {{ table: string, documents: number | null }[]} tables
 *
 * @typedef {object} Sources  what the main thread counts
 * @property {Pick<import("../engine-client.mjs").EngineClient, "ask" | "restarts">} engine
 * @property {Pick<import("../actions/client.mjs").ActionsClient, "tally" | "size">} actions
 * @property {Pick<import("../sync.mjs").SyncServer, "counts">} sync
 * @property {import("../faults.mjs").Faults} faults
 * @property {string} file  of the database
 */

const RESOLUTION_MS = 20;
/** Runs from the first look at the metrics on, so that a host that nobody watches pays nothing. @type {ReturnType<typeof monitorEventLoopDelay> | null} */
let loopDelay = null;

/**
 * @param {Sources} sources
 * @returns {Promise<string>}
 */
export async function metrics({ engine, actions, sync, faults, file }) {
  const reply = await engine.ask({ op: "tally" });
  const counts = reply.ok ? /** @type {EngineCounts} */ (JSON.parse(reply.value)) : null;
  const functions = [...(counts?.functions ?? []), ...actions.tally.functions];
  return [
    functionMetrics(functions),
    counts === null ? "" : engineMetrics(counts),
    metric("gauge", "convex_actions_running", "Actions and HTTP actions that run now.", actions.size),
    metric("gauge", "convex_sockets", "Open WebSockets.", sync.counts.sockets),
    metric("counter", "convex_transitions_total", "Transitions sent to clients.", sync.counts.transitions),
    metric("counter", "convex_engine_restarts_total", "Engine threads that were lost.", engine.restarts),
    metric("counter", "convex_faults_total", "What --faults disturbed.", [
      { labels: { fault: "delay" }, value: faults.counts.delayed },
      { labels: { fault: "request" }, value: faults.counts.requests },
      { labels: { fault: "answer" }, value: faults.counts.answers },
      { labels: { fault: "disconnect" }, value: faults.counts.disconnects },
    ]),
    metric("gauge", "convex_database_bytes", "Size of the database file.", [
      { labels: { file: "main" }, value: sizeOf(file) },
      { labels: { file: "wal" }, value: sizeOf(`${file}-wal`) },
    ]),
    processMetrics(),
  ].join("");
}

/** @param {readonly FunctionTally[]} functions */
function functionMetrics(functions) {
  const labelled = functions.map(({ kind, path, ...tally }) => ({ labels: { kind, path }, ...tally }));
  return [
    metric(
      "counter",
      "convex_function_calls_total",
      "Runs of a function as Convex would bill them, subscriptions included.",
      labelled.map(({ labels, runs }) => ({ labels, value: runs })),
    ),
    metric(
      "counter",
      "convex_function_failures_total",
      "Runs that failed: error, by the function or its arguments; fault, by a conflict or overload.",
      labelled.flatMap(({ labels, errors, faults }) => [
        { labels: { ...labels, outcome: "error" }, value: errors },
        { labels: { ...labels, outcome: "fault" }, value: faults },
      ]),
    ),
    metric(
      "counter",
      "convex_function_bytes_total",
      "Bytes of documents that the runs of a function read and wrote, those undone included.",
      labelled.flatMap(({ labels, bytesRead, bytesWritten }) => [
        { labels: { ...labels, direction: "read" }, value: bytesRead },
        { labels: { ...labels, direction: "written" }, value: bytesWritten },
      ]),
    ),
    histogram(
      "convex_function_seconds",
      "Durations of the runs.",
      labelled.map(({ labels, durations, seconds }) => ({
        labels,
        bounds: SECONDS,
        counts: durations,
        sum: seconds,
      })),
    ),
  ].join("");
}

/** @param {EngineCounts} counts */
function engineMetrics(counts) {
  const { sizes, messages, reruns, updates, jobs, conflicts, running, scheduled, tables } = counts;
  return [
    histogram("convex_batch_messages", "Messages in one batch of the engine, which is one commit.", [
      { bounds: MESSAGES, counts: sizes, sum: messages },
    ]),
    metric("gauge", "convex_subscriptions", "Subscriptions to queries.", counts.subscriptions),
    metric("gauge", "convex_live_queries", "Queries that are run for subscriptions.", counts.queries),
    metric("counter", "convex_reruns_total", "Runs of subscribed queries after a commit.", reruns),
    metric("counter", "convex_updates_total", "New results of subscriptions.", updates),
    metric("counter", "convex_conflicts_total", "Runs of mutations that --conflicts undid.", conflicts),
    metric("counter", "convex_scheduled_runs_total", "Scheduled functions and crons that began.", jobs),
    metric("gauge", "convex_scheduled_actions_running", "Scheduled actions that run now.", running),
    metric(
      "gauge",
      "convex_scheduled_functions",
      "Scheduled functions of the last days by state, 100000 at most.",
      Object.entries(scheduled).map(([state, value]) => ({ labels: { state }, value })),
    ),
    metric(
      "gauge",
      "convex_table_documents",
      "Documents of a table; a large table is left out until it is counted, 100000 rows with each look.",
      tables.flatMap(({ table, documents }) =>
        documents === null ? [] : [{ labels: { table }, value: documents }],
      ),
    ),
  ].join("");
}

function processMetrics() {
  const { user, system } = process.cpuUsage();
  const { rss, heapUsed } = process.memoryUsage();
  loopDelay ??= monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  const delay = loopDelay;
  delay.enable();
  const delays = [0.5, 0.99, 1].map((quantile) => ({
    labels: { quantile },
    value: Math.max(0, delay.percentile(quantile * 100) / 1e9 - RESOLUTION_MS / 1000),
  }));
  delay.reset();
  const started = (performance.timeOrigin / 1000).toFixed(3);
  return [
    metric("counter", "process_cpu_seconds_total", "CPU time of all threads.", (user + system) / 1e6),
    metric("gauge", "process_resident_memory_bytes", "Resident memory of all threads.", rss),
    metric("gauge", "process_start_time_seconds", "When the process began.", Number(started)),
    metric("gauge", "convex_heap_bytes", "JavaScript heap in use on the main thread.", heapUsed),
    metric(
      "gauge",
      "convex_event_loop_delay_seconds",
      "How late the main thread was since the last look.",
      delays.map(({ labels, value }) => ({ labels, value: Number.isFinite(value) ? value : 0 })),
    ),
  ].join("");
}

/** @param {string} file @returns {number} 0 for what is not there */
function sizeOf(file) {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

const OWN_NAMES = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?$/;

/**
 * Who may look without a key: what comes from this machine itself. A proxy on it speaks for somebody else, and so does a browser for
 * a page: of another origin, or under a name that is none of this machine's (DNS rebinding).
 *
 * @param {import("node:http").IncomingMessage} request
 */
export function isLocal({ socket, headers }) {
  const address = socket.remoteAddress?.replace(/^::ffff:/, "") ?? "";
  const isProxied = headers.forwarded !== undefined || headers["x-forwarded-for"] !== undefined;
  const isForPage = headers.origin !== undefined || !OWN_NAMES.test(headers.host ?? "");
  return !isProxied && !isForPage && (address === "::1" || address.startsWith("127."));
}

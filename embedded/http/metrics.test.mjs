import { ConvexClient } from "convex/browser";
import { anyApi } from "convex/server";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { DocumentCounts } from "../engine/document-counts.mjs";
import { TestHost } from "../testing.mjs";
import { isLocal } from "./metrics.mjs";
import { histogram, metric } from "./prometheus.mjs";

const FILES = {
  "a.ts": `
    export const add = mutation({ handler: (ctx, { text }) => ctx.db.insert("notes", { text }) });
    export const remove = mutation({ handler: async (ctx) => ctx.db.delete((await ctx.db.query("notes").first())._id) });
    export const list = query({ handler: async (ctx) => (await ctx.db.query("notes").collect()).length });
    export const fail = mutation({ handler: async () => { throw new Error("no"); } });
    export const occ = mutation({ handler: async () => { Convex.syscall("throwOcc", "{}"); } });
    export const act = action({ handler: async (ctx) => ctx.runQuery(internal.a.list, {}) });
    export const later = mutation({ handler: (ctx) => ctx.scheduler.runAfter(3600_000, internal.a.add, { text: "x" }) });
    export const soon = mutation({ handler: (ctx) => ctx.scheduler.runAfter(0, internal.a.fail, {}) });
  `,
};

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?)|[+-]Inf|NaN)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,|$)/y;

/** Parse the text form strictly; answers the samples by name, each with its labels. */
function parse(text) {
  expect(text.endsWith("\n")).toBe(true);
  const families = new Map();
  let family = null;
  for (const line of text.slice(0, -1).split("\n")) {
    const [, help] = /^# HELP (\S+) .+$/.exec(line) ?? [];
    const [, typed, type] = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line) ?? [];
    if (help !== undefined) {
      expect(families.has(help), `${help} comes twice`).toBe(false);
      expect(help).toMatch(NAME);
      family = { name: help, type: "", samples: [] };
      families.set(help, family);
    } else if (typed !== undefined) {
      expect(typed).toBe(family.name);
      family.type = type;
    } else {
      const [, name, labelText = "", number] = SAMPLE.exec(line) ?? [];
      expect(name, `not a sample: ${line}`).toBeDefined();
      expect(family.type).not.toBe("");
      const suffix = name.slice(family.name.length);
      expect(name.startsWith(family.name)).toBe(true);
      expect(family.type === "histogram" ? ["_bucket", "_sum", "_count"] : [""]).toContain(suffix);
      if (family.type === "counter") expect(name).toMatch(/_total$/);
      family.samples.push({
        suffix,
        labels: parseLabels(labelText),
        value: Number(number.replace("Inf", "Infinity")),
      });
    }
  }
  for (const { name, type, samples } of families.values()) {
    const seen = samples.map(({ suffix, labels }) => suffix + JSON.stringify(labels));
    expect(new Set(seen).size, `${name} has a series twice`).toBe(seen.length);
    if (type === "histogram") checkHistogram(samples);
  }
  return families;
}

function parseLabels(text) {
  const labels = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < text.length) {
    const start = LABEL.lastIndex;
    const found = LABEL.exec(text);
    expect(found, `bad labels: ${text.slice(start)}`).not.toBeNull();
    labels[found[1]] = found[2].replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
  }
  return labels;
}

function checkHistogram(samples) {
  const series = Map.groupBy(samples, ({ labels }) => JSON.stringify({ ...labels, le: undefined }));
  for (const group of series.values()) {
    const buckets = group.filter(({ suffix }) => suffix === "_bucket");
    const [count] = group.filter(({ suffix }) => suffix === "_count");
    expect(buckets.at(-1).labels.le).toBe("+Inf");
    expect(buckets.at(-1).value).toBe(count.value);
    const bounds = buckets.map(({ labels }) => Number(labels.le.replace("+Inf", "Infinity")));
    expect(bounds).toEqual(bounds.toSorted((a, b) => a - b));
    const values = buckets.map(({ value }) => value);
    expect(values).toEqual(values.toSorted((a, b) => a - b));
    expect(group.some(({ suffix }) => suffix === "_sum")).toBe(true);
  }
}

describe("the text form", () => {
  test("escapes labels and help, and writes every number", () => {
    const text = metric("gauge", "g", "a\\b\nc", [
      { labels: { path: 'x"y\\z\n' }, value: Infinity },
      { labels: { path: "2" }, value: -Infinity },
      { labels: { path: "3" }, value: NaN },
      { labels: { path: "4" }, value: 1.5e-7 },
    ]);
    expect(text).toBe(
      '# HELP g a\\\\b\\nc\n# TYPE g gauge\ng{path="x\\"y\\\\z\\n"} +Inf\ng{path="2"} -Inf\ng{path="3"} NaN\ng{path="4"} 1.5e-7\n',
    );
    expect(parse(text).get("g").samples[0].labels).toEqual({ path: 'x"y\\z\n' });
  });

  test("a histogram's buckets add up", () => {
    const text = histogram("h", "help", [
      { labels: { a: "b" }, bounds: [0.1, 1], counts: [2, 0, 3], sum: 9.5 },
    ]);
    expect(text.split("\n").slice(2, -1)).toEqual([
      'h_bucket{a="b",le="0.1"} 2',
      'h_bucket{a="b",le="1"} 2',
      'h_bucket{a="b",le="+Inf"} 5',
      'h_sum{a="b"} 9.5',
      'h_count{a="b"} 5',
    ]);
    parse(text);
  });

  test("a metric without samples is left out", () => {
    expect(metric("counter", "c_total", "help", [])).toBe("");
  });
});

describe("a host", () => {
  /** @type {TestHost} */
  let host;
  /** @type {ConvexClient | null} */
  let client = null;
  beforeEach(async () => {
    host = new TestHost();
    await host.start(FILES);
  });
  afterEach(async () => {
    await client?.close();
    client = null;
    await host.dispose();
  });

  async function scrape() {
    const response = await fetch(`${host.url}/metrics`);
    expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    return parse(await response.text());
  }
  const value = (families, name, labels = {}) =>
    families
      .get(name)
      ?.samples.find(
        (sample) => sample.suffix === "" && Object.entries(labels).every(([k, v]) => sample.labels[k] === v),
      )?.value;

  test("tells what it did, in the form that Prometheus reads", async () => {
    client = new ConvexClient(host.url, { webSocketConstructor: WebSocket, logger: false });
    const seen = [];
    client.onUpdate(anyApi.a.list, {}, (count) => seen.push(count));
    await expect.poll(() => seen.length).toBe(1);
    for (const text of ["a", "b", "c"]) await client.mutation(anyApi.a.add, { text });
    await host.post("/api/mutation", { path: "a:fail", args: {} });
    await host.post("/api/mutation", { path: "a:occ", args: {} });
    await host.call("action", "a:act");
    await host.call("mutation", "a:later");
    await host.call("mutation", "a:soon");
    const families = await scrape();
    expect(value(families, "convex_function_calls_total", { kind: "mutation", path: "a:add" })).toBe(3);
    expect(value(families, "convex_function_failures_total", { path: "a:fail", outcome: "error" })).toBe(2);
    expect(value(families, "convex_function_failures_total", { path: "a:occ", outcome: "fault" })).toBe(1);
    expect(value(families, "convex_function_calls_total", { kind: "action", path: "a:act" })).toBe(1);
    const bytes = (path, direction) => value(families, "convex_function_bytes_total", { path, direction });
    expect(bytes("a:add", "written")).toBeGreaterThan(0);
    expect(bytes("a:list", "read")).toBeGreaterThan(bytes("a:list", "written"));
    expect(bytes("a:act", "read")).toBe(0);
    const durations = families.get("convex_function_seconds").samples;
    expect(durations.find(({ suffix, labels }) => suffix === "_count" && labels.path === "a:add").value).toBe(
      3,
    );
    expect(value(families, "convex_sockets")).toBe(1);
    expect(value(families, "convex_subscriptions")).toBe(1);
    expect(value(families, "convex_live_queries")).toBe(1);
    expect(value(families, "convex_reruns_total")).toBe(3);
    expect(value(families, "convex_updates_total")).toBe(3);
    expect(value(families, "convex_transitions_total")).toBeGreaterThanOrEqual(4);
    expect(value(families, "convex_scheduled_functions", { state: "pending" })).toBe(1);
    expect(value(families, "convex_scheduled_functions", { state: "failed" })).toBe(1);
    expect(value(families, "convex_scheduled_runs_total")).toBe(1);
    expect(value(families, "convex_table_documents", { table: "notes" })).toBe(3);
    expect(value(families, "convex_engine_restarts_total")).toBe(0);
    expect(value(families, "convex_actions_running")).toBe(0);
    expect(value(families, "convex_conflicts_total")).toBe(0);
    expect(value(families, "convex_database_bytes", { file: "main" })).toBeGreaterThan(0);
    expect(value(families, "process_resident_memory_bytes")).toBeGreaterThan(10_000_000);
    expect(value(families, "process_start_time_seconds")).toBeLessThan(Date.now() / 1000);
    expect(value(families, "convex_event_loop_delay_seconds", { quantile: "0.99" })).toBeGreaterThanOrEqual(
      0,
    );
    const sizes = families.get("convex_batch_messages").samples;
    expect(sizes.find(({ suffix }) => suffix === "_count").value).toBeGreaterThan(8);
  });

  test("follows the number of documents", async () => {
    await host.call("mutation", "a:add", { text: "a" });
    await host.call("mutation", "a:add", { text: "b" });
    expect(value(await scrape(), "convex_table_documents", { table: "notes" })).toBe(2);
    await host.call("mutation", "a:remove");
    await host.call("mutation", "a:add", { text: "c" });
    await host.call("mutation", "a:add", { text: "d" });
    expect(value(await scrape(), "convex_table_documents", { table: "notes" })).toBe(3);
  });
});

describe("documents are counted a part at a time", () => {
  const table = { number: 1, name: "t", nextPlace: 10 };
  /** Places of the documents that are there. */
  const stored = new Set([1, 2, 3, 5, 8, 9]);
  const counts = new DocumentCounts({
    count: (_, from, to) => [...stored].filter((place) => place >= from && place < to).length,
  });
  const write = (place, before, after) => ({ table, pk: 2 ** 38 + place, before, after });

  test("and what is written meanwhile is counted once", () => {
    expect(counts.read([table], 4)).toEqual([{ table: "t", documents: null }]); // places 0 to 3
    stored.delete(2);
    stored.delete(8);
    counts.follow([write(2, {}, null), write(8, {}, null), write(5, {}, {})]);
    table.nextPlace = 11;
    stored.add(10);
    counts.follow([write(10, null, {})]);
    expect(counts.read([table], 6)).toEqual([{ table: "t", documents: null }]); // places 4 to 9
    expect(counts.read([table], 1)).toEqual([{ table: "t", documents: stored.size }]);
    table.nextPlace = 12;
    stored.add(11);
    counts.follow([write(11, null, {})]);
    expect(counts.read([table], 0)).toEqual([{ table: "t", documents: stored.size }]);
  });
});

test.each([
  ["127.0.0.1", {}, true],
  ["127.9.9.9", {}, true],
  ["::1", {}, true],
  ["::ffff:127.0.0.1", {}, true],
  ["10.0.0.7", {}, false],
  ["::ffff:10.0.0.7", {}, false],
  [undefined, {}, false],
  ["127.0.0.1", { host: "localhost" }, true],
  ["127.0.0.1", { host: "[::1]:3210" }, true],
  ["127.0.0.1", { host: "page.example:3210" }, false],
  ["127.0.0.1", { host: "127.0.0.1.page.example" }, false],
  ["127.0.0.1", { origin: "https://page.example" }, false],
  ["127.0.0.1", { "x-forwarded-for": "10.0.0.7" }, false],
  ["127.0.0.1", { forwarded: "for=10.0.0.7" }, false],
])("from %s with %j: looks without a key: %s", (remoteAddress, headers, expected) => {
  expect(isLocal({ socket: { remoteAddress }, headers: { host: "127.0.0.1:3210", ...headers } })).toBe(
    expected,
  );
});

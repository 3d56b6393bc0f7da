import { expect, test } from "vitest";
import { MAX_HEALTH_BYTES, MAX_RETRY_AFTER_MS, MAX_SYNC_ITEMS } from "../constants";
import { answerOf, isHeard, readReport, retryAfterMs, toldIn } from "./answers";

const NOW = Date.UTC(2026, 0, 1);
const say = (status: number, text: string | null = "", retryAfter: string | null = null) =>
  answerOf({ status, text, retryAfter }, NOW);
const done = '{"outcome":{"kind":"succeeded","output":"1"}}';

test.each([
  [200, done, null, { kind: "report" }],
  [201, done, null, { kind: "report" }],
  [202, "", null, { kind: "taken" }],
  [204, "", null, { kind: "failed", retryable: true, error: { code: "endpoint_bad_answer" } }],
  [200, null, null, { kind: "failed", retryable: true, error: { code: "endpoint_answer_too_large" } }],
  [429, "", null, { kind: "busy", notBeforeMs: 1000 }],
  [429, "", "7", { kind: "busy", notBeforeMs: 7000 }],
  [503, "", "7", { kind: "busy", notBeforeMs: 7000 }],
  [503, "", null, { kind: "failed", retryable: true, error: { code: "endpoint_http_503" } }],
  [500, "", "7", { kind: "failed", retryable: true }],
  [408, "", null, { kind: "failed", retryable: true }],
  [400, "", null, { kind: "failed", retryable: false, error: { code: "endpoint_http_400" } }],
  [410, "", null, { kind: "failed", retryable: false }],
  [307, "", null, { kind: "failed", retryable: false, error: { code: "endpoint_redirected" } }],
  [0, "", null, { kind: "failed", retryable: false, error: { code: "endpoint_redirected" } }],
] as const)("%s %s with Retry-After %s", (status, text, retryAfter, expected) => {
  expect(say(status, text, retryAfter)).toMatchObject(expected);
});

test("no answer in time is a failure, and no connection a loss", () => {
  expect(answerOf({ failure: "timeout", message: "m" }, NOW)).toMatchObject({
    kind: "failed",
    retryable: true,
  });
  expect(answerOf({ failure: "unreachable", message: "m" }, NOW)).toMatchObject({ kind: "unreachable" });
});

test.each([
  ["3", 3_000],
  ["0", 0],
  ["Thu, 01 Jan 2026 00:00:05 GMT", 5_000],
  ["Wed, 31 Dec 2025 00:00:00 GMT", 0],
  ["999999999", MAX_RETRY_AFTER_MS],
  ["soon", null],
  [null, null],
])("Retry-After: %s", (header, ms) => expect(retryAfterMs(header, NOW)).toBe(ms));

test("a failure may name the steps that a retry by hand makes anew", () => {
  const error = { code: "invalid_output", message: "wrong again" };
  const failed = { kind: "failed", error, retryable: false };
  expect(readReport({ outcome: { ...failed, redo: ["turn#2"] } })).toMatchObject({
    outcome: { ...failed, notBeforeMs: null, redo: ["turn#2"] },
  });
  expect(readReport({ outcome: failed })).toMatchObject({ outcome: { ...failed, notBeforeMs: null } });
});

test("a report may leave out what it has not, and what it adds is passed over", () => {
  expect(readReport({ chunks: [{ seq: 0, text: "a" }], run: "r", more: { $x: 1 } })).toEqual({
    chunks: [{ seq: 0, kind: "text", text: "a", call: 0, attempt: 1 }],
    outcome: null,
    usage: null,
    progress: null,
    state: null,
    steps: [],
    calls: [],
    models: [],
    spending: null,
    playedBy: null,
  });
  expect(readReport({ steps: [{ key: "k", result: "1" }] })).toMatchObject({
    steps: [{ key: "k", kind: "step", result: "1", signal: null }],
  });
  const next = [{ agent: "a", input: "1" }];
  expect(readReport({ outcome: { kind: "succeeded" }, next })).toMatchObject({
    outcome: { kind: "succeeded", output: null, next: JSON.stringify(next) },
  });
  const failed = { outcome: { kind: "failed", error: { code: "c", message: "m" } } };
  expect(readReport(failed)).toMatchObject({ outcome: { retryable: true, notBeforeMs: null } });
});

test.each([
  [null],
  ["text"],
  [[]],
  [{ chunks: {} }],
  [{ chunks: [{ seq: "0", text: "a" }] }],
  [{ outcome: { kind: "suspended" } }],
  [{ outcome: { kind: "succeeded", output: {} } }],
  [{ next: [{ agent: "a" }] }],
  [{ next: [{ agent: "a", input: "1" }] }],
  [{ next: [{ agent: "a", input: "1" }], outcome: { kind: "cancelled" } }],
  [{ steps: [{ key: "k" }] }],
  [{ steps: [{ key: "k", result: "1", kind: "sleep" }] }],
  [{ calls: [{ call: 1 }] }],
  [{ spending: { spent: {} } }],
  [{ usage: {} }],
  [{ progress: { done: "half" } }],
])("%j is no report", (value) => expect(readReport(value)).toBeTypeOf("string"));

const SILENCE = { run: "r", ms: 31_000, on: "model", name: "m", attempt: 1 };
const NOTHING = { runs: null, silent: [], agents: [], forks: false };

test.each([
  ['{"runs":["a","b"]}', { ...NOTHING, runs: ["a", "b"] }],
  ['{"runs":[],"more":1}', { ...NOTHING, runs: [] }],
  [
    '{"forks":true,"agents":[{"name":"a","code":"c"}]}',
    { ...NOTHING, forks: true, agents: [{ name: "a", code: "c" }] },
  ],
  [JSON.stringify({ silent: [SILENCE] }), { ...NOTHING, silent: [SILENCE] }],
  ...["[]", "null", "7", '"text"', "", "garbage", "{}", "<html>"].map((text) => [text, NOTHING]),
] as [string, unknown][])("told in %s", (text, told) => expect(toldIn(text)).toEqual(told));

test.each([
  ['{"runs":"a"}', "the answer to a check: "],
  ['{"runs":[1]}', "the answer to a check: "],
  ['{"forks":"yes"}', "the answer to a check: "],
  ['{"agents":[{"code":"c"}]}', "the answer to a check: "],
  [JSON.stringify({ silent: [{ ...SILENCE, on: "mood" }] }), "the answer to a check: "],
  [null, `over ${MAX_HEALTH_BYTES} bytes`],
])("a line for %s", (text, line) => {
  const said = toldIn(text);
  expect(said).toContain(line);
  expect(said).not.toContain("\n");
});

test.each([200, 204, 302, 400, 405, 409, 410])("an endpoint that answers %i has heard", (status) => {
  expect(isHeard({ status, text: "", retryAfter: null })).toBe(true);
});

test.each([401, 403, 404, 408, 425, 429, 500, 503])("one that answers %i is told again", (status) => {
  expect(isHeard({ status, text: "", retryAfter: null })).toBe(false);
  expect(isHeard({ failure: "timeout", message: "m" })).toBe(false);
});

test("a run that an endpoint was sent twice is not failed for it", () => {
  const replayed = JSON.stringify({
    error: { code: "replayed", message: "This webhook-id was used before." },
  });
  expect(say(409, replayed)).toEqual({ kind: "taken" });
});

test("other code is no failure, and any other conflict is", () => {
  const other = (code: string) => JSON.stringify({ error: { code, message: "it has v2" } });
  expect(say(409, other("other_version"))).toEqual({ kind: "other_version" });
  expect(say(400, other("other_version"))).toMatchObject({ kind: "failed", retryable: false });
  expect(say(409, other("mine"))).toMatchObject({
    kind: "failed",
    retryable: false,
    error: { code: "mine" },
  });
});

test.each([
  [{ outcome: { kind: "failed", error: { code: "a\ud800", message: "" } } }, "surrogate"],
  [{ chunks: [{ seq: 0, text: "\udc00" }] }, "surrogate"],
  [
    { chunks: Array.from({ length: MAX_SYNC_ITEMS + 1 }, (_, seq) => ({ seq, text: "" })) },
    "chunks: 257 items, at most 256",
  ],
  [
    { outcome: { kind: "failed", error: { code: "a", message: "" }, redo: Array(257).fill("k") } },
    "redo: 257 items",
  ],
])("what no function can be given is refused in one line: %#", (report, line) => {
  expect(readReport(report)).toContain(line);
});

test("texts of whole pairs and lists of as many as may be are taken", () => {
  const redo = Array<string>(MAX_SYNC_ITEMS).fill("\u{1F600}");
  const outcome = { kind: "failed", error: { code: "a", message: "\u{1F600}" }, redo };
  expect(readReport({ outcome })).toMatchObject({ outcome: { redo } });
  expect(toldIn(JSON.stringify({ runs: Array(8_000).fill("r") }))).toBeTypeOf("object");
  expect(toldIn(JSON.stringify({ runs: Array(8_001).fill("r") }))).toContain("runs: 8001 items");
});

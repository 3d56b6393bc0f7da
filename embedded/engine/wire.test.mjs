import { expect, test } from "vitest";
import { packBatch, packMessage, unpackBatch, unpackMessage } from "./wire.mjs";

const posted = (/** @type {any} */ packed) => structuredClone(packed);
const request = { id: "a1", ip: "127.0.0.1", userAgent: null, authToken: "t", scheduledFunctionId: null };
const call = {
  op: "call",
  id: 7,
  kind: "mutation",
  path: "a:b",
  args: "[{}]",
  caller: { admin: true, identity: null },
  request,
};

test.each([
  ["a call", call],
  ["one of a socket", { ...call, once: { session: "s", request: 0 }, arrived: 1.5 }],
  ["one as of a timestamp, by a user", { ...call, caller: { admin: false, identity: { a: [1] } }, at: "12" }],
  ["one without a request", { ...call, request: undefined }],
  ["another message", { id: 8, op: "subscribe", sub: 9, path: "a:b", args: "[{}]", journal: null }],
])("%s arrives as it was sent", (_, message) => {
  expect(unpackMessage(posted(packMessage(message)))).toEqual(message);
});

const success = { ok: true, value: "null", ts: "5", logLines: [] };
const failure = { ok: false, message: "no", data: "{}", code: "Overloaded", logLines: ["x"] };
const run = { kind: "query", path: "a:b", caller: "HttpApi", logLines: [], ms: 0.5 };

test.each([
  ["nothing", {}],
  ["an answer and its run", { replies: [{ id: 1, ...success }], runs: [run] }],
  [
    "several of each",
    {
      replies: [
        { id: 1, ...success, logLines: ["a", "b"], journal: "j" },
        { id: 2, ...failure },
        { id: 3, ...success },
      ],
      updates: [
        { subs: [1, 2], ...success, ts: undefined, journal: null },
        { subs: [3], ...failure, journal: "k" },
      ],
      actions: [{ job: "j", path: "a:c", args: "[{}]" }],
      runs: [run, { ...run, logLines: ["l"], error: "e", request: "r", cached: true }, run],
    },
  ],
])("a batch with %s arrives as it was sent", (_, parts) => {
  const batch = { ts: "9", replies: [], updates: [], actions: [], runs: [], ...parts };
  expect(unpackBatch(posted(packBatch(batch)))).toEqual(batch);
});

test("what is no batch is let through", () => {
  const fault = { fault: "disk full", ids: [1] };
  expect(unpackBatch(posted(fault))).toEqual(fault);
});

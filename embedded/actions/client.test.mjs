import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { bundleFunctions } from "../bundle.mjs";
import { ofHost } from "../request-context.mjs";
import { ActionsClient } from "./client.mjs";

const FOLDER = fileURLToPath(new URL("../../tests/host_functions", import.meta.url));
const CALLER = { admin: false, identity: { subject: "ada", issuer: "i", tokenIdentifier: "i|ada" } };
const REQUEST = ofHost(null);
const ACTION = { kind: "action", visibility: "internal" };

/** An engine that answers queries with two notes and refuses the mutation `notes:refuse`. */
const engine = {
  description: { functions: { "acts:hidden": ACTION } },
  asked: [],
  call(call, listener) {
    this.asked.push(call);
    if (call.path === "notes:refuse") {
      const message = "[Request ID: 0123456789abcdef] Server Error\nUncaught ConvexError: no";
      return listener({ ok: false, message, data: '{"size":{"$integer":"BwAAAAAAAAA="}}', logLines: [] });
    }
    const value = call.path === "notes:list" ? '["a","b"]' : "2";
    setTimeout(() => listener({ ok: true, value, logLines: [] }), 1);
  },
  async ask(message) {
    if (message.op === "check") return { ok: true, value: message.value, logLines: [] };
    this.asked.push(message);
    return { ok: true, value: '"job1"', logLines: [] };
  },
};
const lines = [];
const actions = new ActionsClient({ engine, log: (line) => lines.push(line) });

beforeAll(async () => actions.load(await bundleFunctions(FOLDER), { CONVEX_SITE_URL: "http://site" }));
afterAll(() => actions.stop());
beforeEach(() => void (engine.asked = []));

const act = (path, args = {}, more = {}) =>
  actions.runAction({ path, args: JSON.stringify([args]), caller: CALLER, request: REQUEST, ...more });
/** An HTTP action's head and failure, and its whole body. */
async function http(method, path, more = {}) {
  let head = {};
  const pieces = [];
  const onPart = (part) => {
    if ("head" in part) head = part.head;
    const bytes = "head" in part ? part.head.body : part.chunk;
    if (bytes) pieces.push(bytes);
  };
  const call = {
    method,
    url: `http://site${path}`,
    headers: [],
    body: null,
    caller: CALLER,
    request: REQUEST,
    ...more,
  };
  const reply = await actions.runHttp(call, { onPart, gone: new AbortController().signal });
  return { ...head, ...reply, body: Buffer.concat(pieces) };
}

test("an action's queries and mutations reach the engine with its identity and the right to internal functions", async () => {
  expect(await act("acts:copy", { from: "x", to: "y" })).toEqual({
    ok: true,
    value: "2",
    logLines: ["[LOG] 'copied' 2"],
  });
  expect(engine.asked.map(({ kind, path, args }) => [kind, path, args])).toEqual([
    ["query", "notes:list", '[{"list":"x"}]'],
    ["mutation", "notes:add", '[{"list":"y","text":"a"}]'],
    ["mutation", "notes:add", '[{"list":"y","text":"b"}]'],
    ["query", "notes:count", '[{"list":"y"}]'],
  ]);
  expect(engine.asked[0].caller).toEqual({ admin: true, identity: CALLER.identity });
});

test("an action calls another with its identity, also an internal one", async () => {
  expect((await act("acts:outer")).value).toBe('{"inner":"down for ada"}');
});

test("actions that run at once keep their log lines and identities apart", async () => {
  const other = { admin: false, identity: { subject: "bob" } };
  const replies = await Promise.all([
    act("acts:copy", { from: "x", to: "y" }),
    act("acts:outer", {}, { caller: other }),
    act("acts:outer"),
  ]);
  expect(replies.map(({ logLines }) => logLines.length)).toEqual([1, 0, 0]);
  expect(replies.slice(1).map(({ value }) => JSON.parse(value).inner)).toEqual([
    "down for bob",
    "down for ada",
  ]);
});

test("a ConvexError of a mutation is a ConvexError in the action, with its data", async () => {
  expect(JSON.parse((await act("acts:caught")).value)).toEqual({
    isConvexError: true,
    data: { size: { $integer: "BwAAAAAAAAA=" } },
  });
});

test("an action that throws is answered in Convex's form, with frames of its own source", async () => {
  const reply = await act("acts:throws");
  expect(reply.message).toMatch(
    /^\[Request ID: [0-9a-f]{16}\] Server Error\nUncaught ConvexError: \{"code":"from an action"\}\n {4}at handler \(\.\.\/convex\/acts\.ts:\d+:\d+\)\n/,
  );
  expect(reply.data).toBe('{"code":"from an action"}');
});

test("what escapes an action's promise chain ends that action and no other", async () => {
  const [escaped, other] = await Promise.all([act("acts:escapes"), act("acts:copy", { from: "x", to: "y" })]);
  expect(escaped.message).toMatch(/Server Error\nuncaughtException: out of the chain\n$/);
  expect(other.ok).toBe(true);
});

test("an action schedules functions, as a child of the job it belongs to", async () => {
  expect((await act("acts:later", { list: "z" }, { job: "job0" })).value).toBe('"job1"');
  expect(engine.asked).toEqual([
    {
      op: "schedule",
      path: "notes:add",
      args: '[{"list":"z","text":"scheduled"}]',
      at: expect.any(Number),
      parent: "job0",
    },
  ]);
});

test("actions have fetch, timers and their variables, and none of Node's own globals", async () => {
  expect(JSON.parse((await act("acts:realm")).value)).toEqual({
    fetch: "function",
    timers: "function",
    process: ["env"],
    node: ["undefined", "undefined", "undefined"],
    site: "http://site",
  });
});

const said = ({ body }) => Buffer.from(body).toString();

test("an HTTP action gets the request and its answer comes back whole", async () => {
  const answer = await http("POST", "/echo?q=1", { headers: [["x-say", "hi"]], body: Buffer.from("böd") });
  expect([answer.status, said(answer)]).toEqual([201, "?q=1 böd"]);
  expect(answer.headers).toContainEqual(["x-said", "hi"]);
});

test.each([
  ["GET", "/files/one", 200, "exact"],
  ["GET", "/files/two", 200, "prefix"],
  ["HEAD", "/files/one", 200, ""],
  ["POST", "/files/one", 404, "No matching routes found"],
  ["GET", "/unknown", 404, "No matching routes found"],
  ["TRACE", "/files/one", 404, "No matching routes found"],
])("%s %s is a %d", async (method, path, status, text) => {
  const answer = await http(method, path);
  expect([answer.status, said(answer)]).toEqual([status, text]);
});

test("a handler that throws is a failure with its data", async () => {
  expect(await http("GET", "/fail")).toMatchObject({ ok: false, data: '{"code":"from http"}' });
});

test("the identity of a credential that was refused throws in the handler", async () => {
  const caller = { admin: false, identity: null, refusal: "no such provider" };
  const answer = await http("GET", "/whoami", { caller, headers: [["authorization", "Bearer x"]] });
  expect(JSON.parse(said(answer))).toEqual({ header: "Bearer x", refused: "no such provider" });
});

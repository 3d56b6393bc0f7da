import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { Authenticator } from "../auth.mjs";
import { encodeTs } from "../sync/timestamps.mjs";
import { serveApi } from "./api.mjs";
import { MAX_BODY_BYTES } from "./body.mjs";
import { createHttpServer } from "./server.mjs";

const ADMIN_KEY = "signalbox|key";
const lines = [];
let calls = [];
let reply = { ok: true, value: "null", ts: "5", logLines: [] };

const host = {
  authenticator: new Authenticator(ADMIN_KEY),
  calls: {
    run: (call, listener) => {
      calls.push(call);
      if (reply instanceof Error) throw reply;
      listener(reply);
    },
  },
  engine: { ts: "5" },
  log: (line) => lines.push(line),
};
const server = createHttpServer((request, response) => void serveApi(host, request, response));
let url = "";

beforeAll(async () => {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${server.address().port}`;
});
afterAll(() => server.close());
beforeEach(() => {
  calls = [];
  lines.length = 0;
  reply = { ok: true, value: "null", ts: "5", logLines: [] };
});

async function post(path, body, headers = {}) {
  const response = await fetch(url + path, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

test("a call reaches the engine with its canonical path and one argument object", async () => {
  reply = { ok: true, value: '{"n":1}', ts: "5", logLines: ["[LOG] 'x'"] };
  const answer = await post("/api/mutation", { path: "mod.js:fn", args: { a: 1 }, format: "json" });
  expect(answer).toEqual({
    status: 200,
    body: { status: "success", value: { n: 1 }, logLines: ["[LOG] 'x'"] },
  });
  expect(calls).toMatchObject([
    { kind: "mutation", path: "mod:fn", args: '[{"a":1}]', caller: { admin: false, identity: null } },
  ]);
});

test.each([
  ["no args", { path: "m:f" }],
  ["an empty array", { path: "m:f", args: [] }],
  ["an object", { path: "m:f", args: {} }],
  ["an array with one object", { path: "m:f", args: [{}] }],
])("%s means one empty object", async (_, body) => {
  await post("/api/query", body);
  expect(calls[0].args).toBe("[{}]");
});

test.each([
  ["/api/query", "query"],
  ["/api/mutation", "mutation"],
  ["/api/action", "action"],
])("%s asks for a %s", async (path, kind) => {
  await post(path, { path: "m:f" });
  expect(calls[0].kind).toBe(kind);
});

test("a function's failure is a 200 that says so, with its data in the asked format", async () => {
  reply = { ok: false, message: "no", data: '{"n":{"$integer":"AQAAAAAAAAA="}}', logLines: [] };
  const plain = await post("/api/query", { path: "m:f" });
  expect(plain).toEqual({
    status: 200,
    body: { status: "error", errorMessage: "no", errorData: { n: "1" } },
  });
  const encoded = await post("/api/query", { path: "m:f", format: "convex_encoded_json" });
  expect(encoded.body.errorData).toEqual({ n: { $integer: "AQAAAAAAAAA=" } });
});

test("GET /api/query takes its call from the query string", async () => {
  const query = new URLSearchParams({ path: "m:f", args: '{"a":"ü"}', format: "json" });
  const response = await fetch(`${url}/api/query?${query}`);
  expect(await response.json()).toMatchObject({ status: "success" });
  expect(calls[0]).toMatchObject({ kind: "query", path: "m:f", args: '[{"a":"ü"}]' });
});

test("/api/run names the function in its URL and takes any kind", async () => {
  await post("/api/run/folder/mod/fn", { args: { a: 1 } });
  expect(calls[0]).toMatchObject({ kind: "any", path: "folder/mod:fn", args: '[{"a":1}]' });
});

test("/api/function is for the admin key only", async () => {
  expect(await post("/api/function", { path: "m:f" })).toMatchObject({
    status: 403,
    body: { code: "BadDeployKey" },
  });
  await post("/api/function", { path: "m:f" }, { authorization: `Convex ${ADMIN_KEY}` });
  expect(calls).toMatchObject([{ kind: "any", caller: { admin: true, identity: null } }]);
});

test("a query at a timestamp is asked of the engine, which refuses what is too old", async () => {
  const { body } = await post("/api/query_ts", "");
  expect(body).toEqual({ ts: encodeTs("5") });
  expect(await post("/api/query_at_ts", { path: "m:f", ts: body.ts })).toMatchObject({ status: 200 });
  expect(calls).toMatchObject([{ kind: "query", at: "5" }]);
  reply = { ok: false, code: "TimestampTooOld", message: "too old", logLines: [] };
  const late = await post("/api/query_at_ts", { path: "m:f", ts: body.ts });
  expect(late).toEqual({ status: 400, body: { code: "TimestampTooOld", message: "too old" } });
});

test("pages of any origin may call", async () => {
  const preflight = await fetch(`${url}/api/query`, {
    method: "OPTIONS",
    headers: { origin: "https://app.example", "access-control-request-headers": "convex-client" },
  });
  expect(preflight.status).toBe(200);
  expect(Object.fromEntries(preflight.headers)).toMatchObject({
    "access-control-allow-origin": "https://app.example",
    "access-control-allow-credentials": "true",
    "access-control-allow-headers": "convex-client",
    "access-control-max-age": "86400",
  });
  const answer = await fetch(`${url}/version`);
  expect([answer.status, answer.headers.get("access-control-allow-origin")]).toEqual([200, "*"]);
  expect(await answer.text()).toMatch(/\S/);
});

test.each(["/", "/version", "/instance_name", "/instance_version"])(
  "HEAD %s is GET without its body",
  async (path) => {
    const [head, get] = [await fetch(url + path, { method: "HEAD" }), await fetch(url + path)];
    expect([head.status, await head.text()]).toEqual([200, ""]);
    expect(head.headers.get("content-length")).toBe(String((await get.text()).length));
  },
);

test("a client that Convex no longer supports is told so, a new one is not", async () => {
  const old = await fetch(`${url}/api/query_ts`, {
    method: "POST",
    headers: { "convex-client": "npm-0.19.1" },
  });
  expect([old.status, old.headers.get("x-convex-deprecation-state")]).toEqual([400, "Unsupported"]);
  expect(await old.json()).toEqual({
    code: "ClientVersionUnsupported",
    message: expect.stringMatching(/^The Convex npm package at version 0.19.1 is no longer supported/),
  });
  const next = await fetch(`${url}/api/query_ts`, {
    method: "POST",
    headers: { "convex-client": "npm-0.19.2" },
  });
  expect([next.status, next.headers.get("x-convex-deprecation-state")]).toEqual([200, null]);
});

test("a failure of the system is a 503 with its code, not an answer of the function", async () => {
  const message = "[Request ID: 0123456789abcdef] Server Error\nI'm a bit busy.";
  reply = { ok: false, code: "Busy", message, logLines: [] };
  expect(await post("/api/mutation", { path: "m:f" })).toEqual({
    status: 503,
    body: { code: "Busy", message: "I'm a bit busy." },
  });
});

test("queries of one batch run at one timestamp and answer in their order", async () => {
  const { status, body } = await post("/api/query_batch", {
    queries: [{ path: "a:f" }, { path: "b:f", args: { n: 1 }, format: "convex_encoded_json" }],
  });
  expect([status, body.results.length]).toEqual([200, 2]);
  expect(calls).toMatchObject([
    { kind: "query", path: "a:f", at: "5" },
    { kind: "query", path: "b:f", args: '[{"n":1}]', at: "5" },
  ]);
});

const KEY = { authorization: `Convex ${ADMIN_KEY}` };
const invalidUtf8 = new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]);

test.each([
  ["text that is no JSON", "/api/query", "{", {}, 400, "BadJsonBody"],
  ["invalid UTF-8", "/api/query", invalidUtf8, {}, 400, "BadJsonBody"],
  ["a body that is no object", "/api/query", "[]", {}, 400, "BadJsonBody"],
  ["no path", "/api/query", {}, {}, 400, "BadJsonBody"],
  ["a path that is no text", "/api/query", { path: 5 }, {}, 400, "BadJsonBody"],
  ["args that are a number", "/api/query", { path: "m:f", args: 5 }, {}, 400, "BadJsonBody"],
  ["args with two objects", "/api/query", { path: "m:f", args: [{}, {}] }, {}, 400, "BadJsonBody"],
  ["args with null", "/api/query", { path: "m:f", args: [null] }, {}, 400, "BadJsonBody"],
  ["an unknown format", "/api/query", { path: "m:f", format: "xml" }, {}, 400, "BadFormat"],
  ["a component", "/api/function", { path: "m:f", componentPath: "c" }, KEY, 400, "ComponentPathNotFound"],
  ["a wrong admin key", "/api/query", { path: "m:f" }, { authorization: "Convex nope" }, 401, "BadAdminKey"],
  [
    "a malformed token",
    "/api/query",
    { path: "m:f" },
    { authorization: "Bearer a.b.c" },
    401,
    "InvalidAuthHeader",
  ],
  [
    "an unknown scheme",
    "/api/query",
    { path: "m:f" },
    { authorization: "Basic eA==" },
    400,
    "InvalidAdminKey",
  ],
  ["an unknown endpoint", "/api/nothing", {}, {}, 404, "NotFound"],
  ["a file", "/api/storage/upload", {}, {}, 404, "FileStorageUnavailable"],
  ["a function without a module", "/api/run/fn", {}, {}, 400, "MissingIdentifier"],
  ["a URL that is no UTF-8", "/api/run/%ff/fn", {}, {}, 400, "MissingIdentifier"],
  [
    "a module outside of the folder",
    "/api/query",
    { path: "../secrets:f" },
    {},
    400,
    "BadConvexFunctionIdentifier",
  ],
  [
    "a way out of the folder in the URL",
    "/api/run/%2e%2e%2fetc/fn",
    {},
    {},
    400,
    "BadConvexFunctionIdentifier",
  ],
  ["an endpoint named as an object's own", "/api/__proto__", {}, {}, 404, "NotFound"],
  ["a timestamp that is none", "/api/query_at_ts", { path: "m:f", ts: "x" }, {}, 400, "BadJsonBody"],
  [
    "JSON nested too deeply",
    "/api/query",
    `{"args":${"[".repeat(129)}${"]".repeat(129)}}`,
    {},
    400,
    "BadJsonBody",
  ],
  [
    "a body that does not say it is JSON",
    "/api/query",
    { path: "m:f" },
    { "content-type": "text/plain" },
    400,
    "BadJsonBody",
  ],
  [
    "a client without a version",
    "/api/query",
    { path: "m:f" },
    { "convex-client": "npm" },
    400,
    "InvalidClientVersion",
  ],
  [
    "more queries than a batch takes",
    "/api/query_batch",
    { queries: Array(1001).fill({ path: "m:f" }) },
    {},
    400,
    "BadJsonBody",
  ],
])("%s is refused with one clear line", async (_, path, body, headers, status, code) => {
  const answer = await post(path, body, headers);
  expect(answer).toEqual({ status, body: { code, message: expect.stringMatching(/^[^\n]+$/) } });
  expect(calls).toEqual([]);
});

test("a method that an endpoint does not take is a 405", async () => {
  expect((await fetch(`${url}/api/mutation`)).status).toBe(405);
  expect((await fetch(`${url}/api/query`, { method: "DELETE" })).status).toBe(405);
});

test("a fault of the host is a 500 without its details, which are in the log as one line", async () => {
  reply = new Error("secret\nsecond");
  const answer = await post("/api/query", { path: "m:f" });
  expect(answer).toMatchObject({ status: 500, body: { code: "InternalServerError" } });
  expect(answer.body.message).not.toContain("secret");
  expect(lines).toEqual([expect.stringMatching(/^request [0-9a-f]{16} failed: Error: secret \| second/)]);
});

test("a body at the limit is taken and one byte more is refused, declared or not", async () => {
  const body = (bytes) => {
    const frame = JSON.stringify({ path: "m:f", args: { a: "" } });
    return frame.replace('""', `"${"x".repeat(bytes - frame.length)}"`);
  };
  expect((await post("/api/query", body(MAX_BODY_BYTES))).status).toBe(200);
  expect(await post("/api/query", body(MAX_BODY_BYTES + 1))).toMatchObject({
    status: 413,
    body: { code: "PayloadTooLarge" },
  });
  const status = await new Promise((resolve, reject) => {
    const chunked = httpRequest(
      `${url}/api/query`,
      { method: "POST", headers: { "content-type": "application/json" } },
      ({ statusCode }) => resolve(statusCode),
    );
    chunked.on("error", reject);
    for (let sent = 0; sent <= MAX_BODY_BYTES; sent += 1 << 20) chunked.write("x".repeat(1 << 20));
  });
  expect(status).toBe(413);
});

test.each([
  [
    "headers over 16 KiB",
    `GET /version HTTP/1.1\r\nHost: x\r\nX: ${"x".repeat(17_000)}\r\n\r\n`,
    /^HTTP\/1.1 431 .*HeadersTooLarge/s,
  ],
  ["what is not HTTP", "hello\r\n\r\n", /^HTTP\/1.1 400 .*not valid HTTP/s],
])("%s is answered on the socket and the server goes on", async (_, sent, answer) => {
  const socket = connect(server.address().port, "127.0.0.1");
  socket.write(sent);
  expect(await text(socket)).toMatch(answer);
  expect((await fetch(`${url}/version`)).status).toBe(200);
});

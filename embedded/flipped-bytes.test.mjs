/** What clients send with bytes changed, left out, doubled and cut: the host answers or closes, and serves the others. */

import { randomUUID } from "node:crypto";
import { connect } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ADMIN_KEY, TestHost } from "./testing.mjs";

const CASES = Number(process.env.FLIPS ?? 250); // of each kind of connection
const SEED = Number(process.env.SEED ?? 20_261_121);
const AT_ONCE = 16;
const UNCHANGED_MS = 3_000;
const PATIENCE_MS = 200; // for an answer; a request that a flip made wait for more has none

const FILES = {
  "m.ts": `
    export const add = mutation({ handler: (ctx, { row }) => ctx.db.insert("rows", { row }) });
    export const list = query({ handler: async (ctx) => (await ctx.db.query("rows").take(5)).length });
    export const act = action({ handler: (ctx, args) => ctx.runMutation(api.m.add, { row: args }) });`,
  "http.ts": `
    import { httpRouter, httpActionGeneric } from "convex/server";
    const http = httpRouter();
    http.route({ path: "/echo", method: "POST", handler: httpActionGeneric(async (_, request) => new Response(await request.text(), { headers: { "x-said": request.headers.get("x-say") ?? "" } })) });
    export default http;`,
};

const host = new TestHost();
beforeAll(() => host.start(FILES));
afterAll(() => host.dispose());

/** mulberry32 @param {number} seed @returns {(below: number) => number} */
function randomFrom(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** @param {Buffer} bytes @param {(below: number) => number} random */
function changed(bytes, random) {
  let result = Buffer.from(bytes);
  for (let changes = 1 + random(4); changes > 0; changes--) {
    const at = random(result.length);
    const to = at + 1 + random(8);
    switch (random(6)) {
      case 0:
        result = Buffer.concat([result.subarray(0, at), result.subarray(to)]);
        break;
      case 1:
        result = Buffer.concat([result.subarray(0, to), result.subarray(at)]);
        break;
      case 2:
        result = result.subarray(0, Math.max(1, at));
        break;
      case 3:
        result[at] = random(256);
        break;
      default:
        result[at] ^= 1 << random(8);
    }
  }
  return result;
}

const request = (line, headers, body = "") =>
  Buffer.from(
    `${line} HTTP/1.1\r\nHost: x\r\n${Object.entries(headers)
      .map((header) => `${header.join(": ")}\r\n`)
      .join("")}\r\n${body}`,
  );
/** @param {string} path @param {object} body @param {Record<string, string>} [more] */
function post(path, body, more = {}) {
  const text = JSON.stringify(body);
  const headers = {
    "Content-Type": "application/json",
    "Content-Length": String(Buffer.byteLength(text)),
    ...more,
  };
  return request(`POST ${path}`, headers, text);
}
const KEY = { Authorization: `Convex ${ADMIN_KEY}:${btoa('{"subject":"a","issuer":"b"}')}` };
const REQUESTS = [
  post("/api/query", { path: "m:list", args: {} }),
  post(
    "/api/mutation",
    { path: "m:add", args: { row: { $integer: "AQAAAAAAAAA=" } }, format: "convex_encoded_json" },
    KEY,
  ),
  post("/api/action", { path: "m:act", args: [{ a: [1, null, "ü"] }] }, { "Convex-Client": "npm-1.48.0" }),
  post("/api/query_batch", { queries: [{ path: "m:list" }, { path: "m.js:list", args: [{}] }] }),
  post("/api/run/m/add", { args: { row: 1 } }, { "Convex-Request-Id": "cafe", "X-Forwarded-For": "1.2.3.4" }),
  post("/api/deploy2/start_push", { adminKey: ADMIN_KEY, dryRun: true, appDefinition: {} }),
  post("/http/echo", { said: "x" }, { "X-Say": "words", Authorization: "Bearer a.b.c" }),
  request(
    "POST /http/echo",
    { "Transfer-Encoding": "chunked" },
    "5\r\nhello\r\n3;x=y\r\nyou\r\n0\r\nX-T: 1\r\n\r\n",
  ),
  request("GET /api/query?path=m:list&args=%7B%7D&format=json", { Accept: "*/*" }),
  request("OPTIONS /api/mutation", {
    Origin: "https://page.example",
    "Access-Control-Request-Headers": "content-type",
  }),
];

/** Masked with zeros, so that a flip of a byte is one of the message. @param {object} message */
function frame(message) {
  const data = Buffer.from(JSON.stringify(message));
  const length = data.length < 126 ? [0x80 | data.length] : [0x80 | 126, data.length >> 8, data.length & 255];
  return Buffer.concat([Buffer.from([0x81, ...length, 0, 0, 0, 0]), data]);
}
const UPGRADE = request("GET /api/1.48.0/sync", {
  Upgrade: "websocket",
  Connection: "Upgrade",
  "Sec-WebSocket-Version": "13",
  "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
});
const messages = () =>
  [
    {
      type: "Connect",
      sessionId: randomUUID(),
      connectionCount: 0,
      lastCloseReason: null,
      maxObservedTimestamp: "AAAAAAAAAAA=",
      clientTs: 1,
    },
    {
      type: "Authenticate",
      tokenType: "Admin",
      value: ADMIN_KEY,
      baseVersion: 0,
      impersonating: { subject: "a", issuer: "b" },
    },
    {
      type: "ModifyQuerySet",
      baseVersion: 0,
      newVersion: 1,
      modifications: [{ type: "Add", queryId: 1, udfPath: "m:list", args: [{}], journal: null }],
    },
    { type: "Mutation", requestId: 1, udfPath: "m:add", args: [{ row: { $float: "AAAAAAAA+H8=" } }] },
    { type: "Action", requestId: 2, udfPath: "m:act", args: [{ n: { $bytes: "AAE=" } }] },
    {
      type: "ModifyQuerySet",
      baseVersion: 1,
      newVersion: 2,
      modifications: [{ type: "Remove", queryId: 1 }],
    },
    { type: "Authenticate", tokenType: "User", value: "a.b.c", baseVersion: 1 },
    { type: "Event", eventType: "x", event: {} },
  ].map(frame);

/** Send on a connection of its own. @param {Buffer[]} pieces @param {number} [patienceMs] @returns {Promise<string>} what came until its end */
function send(pieces, patienceMs = PATIENCE_MS) {
  return new Promise((resolve) => {
    const socket = connect(Number(new URL(host.url).port), "127.0.0.1");
    socket.on("error", () => {});
    let heard = "";
    socket.setEncoding("latin1").on("data", (text) => (heard += text));
    socket.once("close", () => resolve(heard));
    socket.setTimeout(patienceMs, () => socket.destroy());
    for (const piece of pieces) socket.write(piece);
  });
}

/** @param {(random: (below: number) => number) => Buffer[]} make */
async function sendAll(make) {
  const random = randomFrom(SEED);
  for (let i = 0; i < CASES; i += AT_ONCE)
    await Promise.all(Array.from({ length: AT_ONCE }, () => send(make(random))));
  expect(await host.call("mutation", "m:add", { row: "a client that is well" })).toMatch(/^[0-9a-z]{32}$/);
  expect(
    host.lines.filter((line) => /^fatal|engine thread|fault of the host|request \w+ failed/.test(line)),
  ).toEqual([]);
}

test("HTTP requests", async () => {
  const answers = await Promise.all(REQUESTS.map((wanted) => send([wanted], UNCHANGED_MS)));
  for (const answer of answers) expect(answer).toMatch(/^HTTP\/1\.1 (200|400) /);
  await sendAll((random) => {
    const wanted = REQUESTS[random(REQUESTS.length)];
    return [changed(wanted, random), ...(random(2) === 0 ? [wanted] : [])];
  });
}, 120_000);

test("WebSocket frames", async () => {
  expect(await send([UPGRADE, ...messages()], UNCHANGED_MS)).toMatch(/ 101 [^]*"querySet":2[^]*"AuthError"/);
  await sendAll((random) => {
    const frames = messages();
    const at = random(frames.length);
    frames[at] = changed(frames[at], random);
    return [random(20) === 0 ? changed(UPGRADE, random) : UPGRADE, ...frames];
  });
}, 120_000);

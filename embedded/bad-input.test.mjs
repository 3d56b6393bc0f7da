import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { startHost } from "./host.mjs";
import { createHttpServer } from "./http/server.mjs";

const FUNCTIONS = fileURLToPath(new URL("fixtures/wire/convex", import.meta.url));
const CONNECT = JSON.stringify({
  type: "Connect",
  sessionId: "s",
  connectionCount: 0,
  lastCloseReason: null,
});

/** @type {{ host: Awaited<ReturnType<typeof startHost>>, data: string, url: string, port: number, lines: string[] }} */
let running;

process.env.SIGNALBOX_TEST_JWKS = "data:,none"; // the auth.config of the functions reads it

beforeAll(async () => {
  const data = await mkdtemp(path.join(tmpdir(), "bad-input-"));
  const lines = [];
  const host = await startHost(
    {
      functions: FUNCTIONS,
      data,
      port: 0,
      sitePort: 0,
      host: "127.0.0.1",
      adminKey: "signalbox|key",
      synchronous: "normal",
    },
    { log: (line) => lines.push(line), onFatal: (error) => lines.push(`fatal: ${error.message}`) },
  );
  const { url } = host.ready;
  running = { host, data, url, port: Number(new URL(url).port), lines };
});
afterAll(async () => {
  await running.host.stop();
  await rm(running.data, { recursive: true });
});

/** Whatever a test has sent, the host answers others. */
afterEach(async () => {
  const body = JSON.stringify({ path: "who:echo", args: { value: 1 } });
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${running.url}/api/query`, { method: "POST", headers, body });
  expect([answer.status, await answer.json()]).toEqual([200, { status: "success", value: 1 }]);
  expect(running.lines.filter((line) => /^fatal|engine thread|fault of the host/.test(line))).toEqual([]);
});

/** What a bare HTTP connection gets for some bytes; the host must end it. */
async function answered(...bytes) {
  const socket = connect(running.port, "127.0.0.1");
  for (const piece of bytes) socket.write(piece);
  return await text(socket);
}

const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9 };

/** One frame of a client, masked unless told otherwise. */
function frame(payload, { opcode = OPCODE.text, fin = true, rsv = 0, masked = true } = {}) {
  const data = Buffer.from(payload);
  const length =
    data.length < 126
      ? Buffer.from([data.length])
      : data.length < 65536
        ? Buffer.from([126, data.length >> 8, data.length & 255])
        : Buffer.from([127, 0, 0, 0, 0, ...Buffer.from(new Uint32Array([data.length]).buffer).reverse()]);
  length[0] |= masked ? 0x80 : 0;
  const head = Buffer.from([(fin ? 0x80 : 0) | (rsv << 4) | opcode]);
  if (!masked) return Buffer.concat([head, length, data]);
  const mask = randomBytes(4);
  return Buffer.concat([head, length, mask, data.map((byte, i) => byte ^ mask[i % 4])]);
}

/** A bare connection on which the WebSocket is open. */
async function opened(where = "/api/sync") {
  const socket = connect(running.port, "127.0.0.1");
  socket.on("error", () => {}); // the host may be done before all is sent
  socket.write(
    `GET ${where} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\n\r\n`,
  );
  const [answer] = await once(socket, "data");
  expect(String(answer)).toMatch(/^HTTP\/1\.1 101 /);
  return socket;
}

/** A WebSocket spoken by hand; resolves with the server's frames once the server has closed it. */
async function spoken(frames) {
  const socket = await opened();
  const pieces = [];
  const heard = () => readFrames(Buffer.concat(pieces));
  socket.on("data", (piece) => {
    pieces.push(piece);
    if (heard().end !== null) socket.end(frame([], { opcode: OPCODE.close }));
  });
  for (const one of frames) socket.write(one);
  await once(socket, "close");
  return heard();
}

/** @param {Buffer} bytes  of a server, whose frames are not masked */
function readFrames(bytes) {
  const messages = [];
  let end = null;
  for (let at = 0; at + 2 <= bytes.length;) {
    const opcode = bytes[at] & 15;
    const short = bytes[at + 1];
    const [start, length] = short < 126 ? [at + 2, short] : [at + 4, bytes.readUInt16BE(at + 2)];
    const data = bytes.subarray(start, start + length);
    if (opcode === OPCODE.text) messages.push(JSON.parse(data.toString()));
    if (opcode === OPCODE.close)
      end = data.length === 0 ? [1005, ""] : [data.readUInt16BE(), data.subarray(2).toString()];
    at = start + length;
  }
  return { messages, end };
}

const fatal = (error) => [{ type: "FatalError", error: expect.stringMatching(error) }];
const hello = frame(CONNECT);

test.each([
  ["text that is no JSON", [frame("{")], 1008, /not valid JSON/],
  [
    "JSON nested too deeply",
    [frame(`{"type":"Event","event":${"[".repeat(200)}${"]".repeat(200)}}`)],
    1008,
    /recursion limit/,
  ],
  ["a binary frame", [hello, frame([1, 2], { opcode: OPCODE.binary })], 1008, /must be text/],
  ["a message before Connect", [frame('{"type":"ModifyQuerySet"}')], 1008, /first message must be Connect/],
  [
    "a message in pieces that is none in the end",
    [frame('{"ty', { fin: false }), frame("pe", { opcode: OPCODE.continuation })],
    1008,
    /not valid JSON/,
  ],
])("%s is a FatalError and a close with its reason", async (_, frames, code, error) => {
  const { messages, end } = await spoken(frames);
  expect(messages).toEqual(fatal(error));
  expect(end).toEqual([code, expect.stringMatching(/^WSMessageInvalidJson: /)]);
});

test.each([
  ["invalid UTF-8", [frame([0x22, 0xff, 0x22])], 1007],
  ["UTF-8 cut off at the end of the message", [frame([0x22, 0xc3])], 1007],
  ["an opcode that is none", [frame("x", { opcode: 3 })], 1002],
  ["a reserved bit", [frame("x", { rsv: 4 })], 1002],
  ["a frame without a mask", [frame(CONNECT, { masked: false })], 1002],
  ["a continuation of nothing", [frame("x", { opcode: OPCODE.continuation })], 1002],
  ["a ping in pieces", [frame("x", { opcode: OPCODE.ping, fin: false })], 1002],
  ["a ping of 126 bytes", [frame("x".repeat(126), { opcode: OPCODE.ping })], 1002],
  ["a close code that is none", [frame([0, 5], { opcode: OPCODE.close })], 1002],
  [
    "more in pieces than a message may have",
    [
      frame("", { fin: false }),
      ...Array(21).fill(frame("x".repeat(1 << 20), { opcode: OPCODE.continuation, fin: false })),
    ],
    1009,
  ],
])("%s closes the socket with the protocol's code for it", async (_, frames, code) => {
  const { end } = await spoken([hello, ...frames]);
  expect(end?.[0]).toBe(code);
});

test("a message in many pieces is put together", async () => {
  const pieces = [...CONNECT].map((char, i) =>
    frame(char, { opcode: i === 0 ? OPCODE.text : OPCODE.continuation, fin: i === CONNECT.length - 1 }),
  );
  const query = '{"type":"ModifyQuerySet","baseVersion":1,"newVersion":2,"modifications":[]}';
  const { end } = await spoken([...pieces, frame(query)]);
  expect(end).toEqual([1008, expect.stringMatching(/^BaseVersionMismatch: Base version 1 /)]);
});

test.each([
  ["two lengths", "Content-Length: 2\r\nContent-Length: 3\r\n"],
  ["a length and chunks", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"],
  ["chunks spelled otherwise", "Transfer-Encoding: xchunked\r\n"],
  ["a folded header", "X: a\r\n b\r\nContent-Length: 2\r\n"],
  ["a header name with a space", "Content-Length : 2\r\n"],
  ["a length that is no number", "Content-Length: +2\r\n"],
])("a request with %s is refused, so that nothing can hide behind it", async (_, headers) => {
  const hidden = "GET /version HTTP/1.1\r\nHost: x\r\n\r\n";
  const answer = await answered(
    `POST /api/query HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n${headers}\r\n{}${hidden}`,
  );
  expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\nConnection: close\r\n.*\{"code":"BadRequest"/s);
  expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1);
});

test("a request without a Host header is refused", async () => {
  expect(await answered("GET /version HTTP/1.1\r\n\r\n")).toMatch(/^HTTP\/1\.1 400/);
});

test("requests that come together are answered in their order", async () => {
  const query = JSON.stringify({ path: "who:echo", args: { value: 1 } });
  const post = `POST /api/query HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${query.length}\r\n\r\n${query}`;
  const get = (/** @type {string} */ where, more = "") => `GET ${where} HTTP/1.1\r\nHost: x\r\n${more}\r\n`;
  const answer = await answered(post + get("/version") + get("/nothing") + get("/", "Connection: close\r\n"));
  expect([...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual([
    "200",
    "200",
    "404",
    "200",
  ]);
  expect(answer.indexOf('"status":"success"')).toBeLessThan(answer.indexOf("signalbox-embedded"));
});

test("a request to become something else than a WebSocket is answered as it is", async () => {
  const answer = await answered(
    "GET /version HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n",
  );
  expect(answer).toMatch(/^HTTP\/1\.1 200 /);
});

test("a server without WebSockets answers a request for one as any other", async () => {
  const server = createHttpServer((_request, response) => response.end("plain")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const socket = connect(server.address().port, "127.0.0.1");
  socket.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n");
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 200 .*plain$/s);
  server.close();
});

test.each([
  ["/../../etc/passwd", 404],
  ["/api/%2e%2e/%2e%2e/etc/passwd", 404],
  ["/api/storage/..%2f..%2fhost.sqlite", 404],
  ["/api/query?path=..%2Fsecrets:f", 400],
  ["/api/query?path=%00:f", 400],
  ["/api/query?path=a:f&args=%ff", 400],
  ["//evil.example/api/query", 404],
  ["/api/%", 404],
])("nothing is found by %s", async (target, status) => {
  const answer = await answered(`GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
  expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} .*\\{"code":"[A-Za-z]+","message":"[^"\\n]+`, "s"));
});

test.each([
  ["the headers", "GET / HTTP/1.1\r\nHost: x\r\n"],
  ["the body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"],
])("a client that never finishes %s is told so and cut off", async (_, begun) => {
  const limits = { headersMs: 200, requestMs: 300, checkMs: 50 };
  const server = createHttpServer((request, response) => {
    request.on("error", () => {});
    request.resume().on("end", () => response.end());
  }, limits);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const socket = connect(server.address().port, "127.0.0.1");
  socket.write(begun);
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 408 Request Timeout.*"code":"RequestTimeout"/s);
  server.close();
});

test("a client that closes its side still gets its answer", async () => {
  const socket = connect(running.port, "127.0.0.1");
  socket.end("GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 200 .*signalbox-embedded/s);
});

test("ten thousand queries on one socket are served, and one more is refused with a reason", async () => {
  const socket = new WebSocket(`${running.url.replace("http", "ws")}/api/1.48.0/sync`);
  const add = (queryId) => ({ type: "Add", queryId, udfPath: "who:echo", args: [{ value: queryId }] });
  const modify = (baseVersion, modifications) =>
    JSON.stringify({ type: "ModifyQuerySet", baseVersion, newVersion: baseVersion + 1, modifications });
  await once(socket, "open");
  socket.send(CONNECT);
  socket.send(
    modify(
      0,
      Array.from({ length: 10_000 }, (_, id) => add(id)),
    ),
  );
  const [message] = await once(socket, "message");
  expect(JSON.parse(message).modifications).toHaveLength(10_000);
  socket.send(modify(1, [add(10_000)]));
  const [code, reason] = await once(socket, "close");
  expect([code, String(reason)]).toEqual([1008, "TooManyQueries: At most 10000 queries on one websocket"]);
});

test("a client that does not take part in the closing handshake is cut off", async () => {
  const socket = await opened();
  const begun = performance.now();
  socket.write(frame("{"));
  await once(socket.resume(), "close");
  expect(performance.now() - begun).toBeLessThan(10_000);
});

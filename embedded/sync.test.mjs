import { once } from "node:events";
import { createServer } from "node:http";
import { afterEach, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { Authenticator } from "./auth.mjs";
import { Faults } from "./faults.mjs";
import { SyncServer } from "./sync.mjs";
import { MAX_RUNNING } from "./sync/mutation-queue.mjs";

const CONNECT = { type: "Connect", sessionId: "s", connectionCount: 0, lastCloseReason: null };
const limits = { pingMs: 100, probeMs: 100, silenceMs: 3_000, checkMs: 20, cutOffBytes: 24 * 1024 * 1024 };

let started = [];
let batch = () => {};
let lines = [];
let subscriptions = new Set();
/** Answers every call with a text of this many characters. */
let chars = 0;
let server;
let sync;
let url = "";

beforeEach(async () => {
  [started, lines, subscriptions, chars] = [[], [], new Set(), 0];
  const engine = {
    ts: "10",
    onBatch: (listener) => (batch = listener),
    subscribe: (query, listener) => {
      subscriptions.add(listener);
      return listener;
    },
    unsubscribe: (listener) => subscriptions.delete(listener),
  };
  const calls = {
    run: (call, listener) => {
      started.push(call);
      setImmediate(() => {
        listener({ ok: true, value: JSON.stringify("x".repeat(chars)), ts: "10", logLines: [] });
        batch();
      });
    },
  };
  sync = new SyncServer(
    { engine, calls, authenticator: new Authenticator("key") },
    (line) => lines.push(line),
    new Faults(),
    limits,
  );
  server = createServer().on("upgrade", (...parts) => sync.upgrade(...parts));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  url = `ws://127.0.0.1:${server.address().port}/api/sync`;
});
afterEach(async () => {
  await sync.close();
  server.close();
});

async function connected() {
  const socket = new WebSocket(url);
  await once(socket, "open");
  socket.send(JSON.stringify(CONNECT));
  return socket;
}

const call = (type, requestId) => JSON.stringify({ type, requestId, udfPath: "a:f", args: [{}] });
const subscribe = JSON.stringify({
  type: "ModifyQuerySet",
  baseVersion: 0,
  newVersion: 1,
  modifications: [{ type: "Add", queryId: 1, udfPath: "a:f", args: [{}] }],
});

test("a socket on which nothing happens gets pings, and stays", async () => {
  const socket = await connected();
  for (let n = 0; n < 10; n += 1)
    expect(JSON.parse((await once(socket, "message"))[0])).toEqual({ type: "Ping" });
  expect(socket.readyState).toBe(WebSocket.OPEN);
  socket.close();
});

test("a client that neither speaks nor answers is cut off, and its queries end", async () => {
  const socket = new WebSocket(url, { autoPong: false });
  await once(socket, "open");
  socket.send(JSON.stringify(CONNECT));
  socket.send(subscribe);
  await expect.poll(() => subscriptions.size, { timeout: 5_000 }).toBe(1);
  const [code, reason] = await once(socket, "close");
  expect([code, String(reason)]).toEqual([1008, "ClientSilent: nothing was heard for 3 s"]);
  expect(subscriptions.size).toBe(0);
  expect(lines).toEqual(["socket closed: ClientSilent: nothing was heard for 3 s"]);
});

test("a client that never reads has few mutations run, is cut off, and its queries end", async () => {
  chars = 1_000_000;
  const socket = await connected();
  socket.send(subscribe);
  for (let id = 0; id < 500; id += 1) socket.send(call("Mutation", id));
  await expect.poll(() => subscriptions.size, { timeout: 5_000 }).toBe(1);
  socket.pause();
  await expect.poll(() => lines, { timeout: 15_000 }).toEqual([expect.stringMatching(/ClientSilent/)]);
  expect(started.length).toBeLessThanOrEqual(2 * MAX_RUNNING);
  expect(subscriptions.size).toBe(0);
  socket.terminate();
});

test("a client that never reads the answers of its actions is cut off before they fill the memory", async () => {
  chars = 1_000_000;
  const socket = await connected();
  socket.pause();
  for (let id = 0; id < 100; id += 1) socket.send(call("Action", id));
  await expect
    .poll(() => lines, { timeout: 15_000 })
    .toEqual(["socket closed: ClientTooSlow: it has more than 25165824 bytes unread"]);
  socket.terminate();
});

test("a client that reads slowly gets everything", async () => {
  chars = 1_000_000;
  const socket = await connected();
  const answered = [];
  socket.on("message", (data) => {
    const { type, requestId } = JSON.parse(data);
    if (type === "MutationResponse") answered.push(requestId);
    socket.pause();
    setTimeout(() => socket.resume(), 10);
  });
  for (let id = 0; id < 40; id += 1) socket.send(call("Mutation", id));
  await expect.poll(() => answered, { timeout: 15_000 }).toEqual(Array.from({ length: 40 }, (_, id) => id));
  socket.close();
});

test("sockets are closed with a reason when the host stops", async () => {
  const socket = await connected();
  const closed = once(socket, "close");
  await sync.close();
  const [code, reason] = await closed;
  expect([code, String(reason)]).toEqual([1012, "ServerShuttingDown: the host stops"]);
});

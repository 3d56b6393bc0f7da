import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { ConvexError } from "convex/values";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { startHost } from "./host.mjs";

const FUNCTIONS = fileURLToPath(new URL("../tests/host_functions", import.meta.url));
const ADMIN_KEY = "signalbox|test-admin-key";

/** @type {{ host: Awaited<ReturnType<typeof startHost>>, url: string, siteUrl: string, data: string, lines: string[] }} */
let running;
/** @type {ConvexClient[]} */
const clients = [];

beforeAll(async () => {
  const data = await mkdtemp(path.join(tmpdir(), "host-"));
  const lines = [];
  const options = {
    functions: FUNCTIONS,
    data,
    port: 0,
    sitePort: 0,
    host: "127.0.0.1",
    adminKey: ADMIN_KEY,
    synchronous: "normal",
  };
  const host = await startHost(options, {
    log: (line) => lines.push(line),
    onFatal: (error) => lines.push(error.message),
  });
  running = { host, data, lines, url: host.ready.url, siteUrl: host.ready.siteUrl };
});
afterAll(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await running.host.stop();
  await rm(running.data, { recursive: true });
});

function reactive() {
  const client = new ConvexClient(running.url, { webSocketConstructor: WebSocket });
  clients.push(client);
  return client;
}

/** Follow a query until it has a wanted value; resolves with every value that came. */
function until(client, query, args, isWanted) {
  return new Promise((resolve, reject) => {
    const values = [];
    const stop = client.onUpdate(
      query,
      args,
      (value) => {
        values.push(value);
        if (!isWanted(value)) return;
        stop();
        resolve(values);
      },
      reject,
    );
  });
}

test("the HTTP client reads what it has written", async () => {
  const client = new ConvexHttpClient(running.url);
  await client.mutation(anyApi.notes.add, { list: "js-http", text: "one" });
  expect(await client.query(anyApi.notes.list, { list: "js-http" })).toEqual(["one"]);
  expect(await client.action(anyApi.acts.copy, { from: "js-http", to: "js-copy" })).toBe(1);
});

test("every run of a function is counted, and a refused one is not", async () => {
  const runs = async () => {
    const response = await fetch(`${running.url}/metrics`);
    expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    const counter = /^convex_function_calls_total\{kind="query",path="basics:echo"\} (\d+)$/m;
    return Number(counter.exec(await response.text())?.[1] ?? 0);
  };
  const client = new ConvexHttpClient(running.url);
  const before = await runs();
  await client.query(anyApi.basics.echo, { value: 1 });
  await client.query(anyApi.basics.echo, { value: 2 });
  await expect(client.query(anyApi.basics.missing, {})).rejects.toThrow();
  expect(await runs()).toBe(before + 2);
});

test("the HTTP client's consistent query is answered while nothing changes", async () => {
  const client = new ConvexHttpClient(running.url);
  expect(await client.consistentQuery(anyApi.notes.list, { list: "js-consistent" })).toEqual([]);
});

test("values that JSON does not have come back as they were", async () => {
  const client = new ConvexHttpClient(running.url);
  const value = {
    big: 9223372036854775807n,
    bytes: new Uint8Array([1, 255]).buffer,
    floats: [NaN, -0, Infinity],
  };
  expect(await client.query(anyApi.basics.echo, { value })).toEqual(value);
});

test("a ConvexError reaches the HTTP client with its data", async () => {
  const failed = new ConvexHttpClient(running.url).mutation(anyApi.notes.refuse, { list: "js-refused" });
  await expect(failed).rejects.toThrow(ConvexError);
  await expect(failed).rejects.toMatchObject({ data: { code: "refused", size: 7n } });
});

test("the admin key gives the HTTP client internal functions and a user's identity", async () => {
  const client = new ConvexHttpClient(running.url);
  client.setAdminAuth(ADMIN_KEY, { subject: "u", issuer: "https://i", name: "Zoë" });
  expect(await client.query(anyApi.notes.count, { list: "none" })).toBe(0);
  expect(await client.query(anyApi.basics.whoami, {})).toBe("https://i|u");
  expect(await client.function("basics:noop", undefined, {})).toBeNull();
});

test("a mutation's promise resolves after its effect shows in the client's own subscription", async () => {
  const client = reactive();
  let newest;
  client.onUpdate(anyApi.notes.list, { list: "js-own" }, (value) => (newest = value));
  await until(client, anyApi.notes.list, { list: "js-own" }, () => true);
  for (const text of ["a", "b", "c"]) {
    await client.mutation(anyApi.notes.add, { list: "js-own", text });
    expect(newest.at(-1)).toBe(text);
  }
});

test("a write of one client reaches the subscription of another", async () => {
  const [writer, reader] = [reactive(), reactive()];
  const seen = until(reader, anyApi.notes.list, { list: "js-shared" }, (value) => value.length === 1);
  await until(writer, anyApi.notes.list, { list: "js-shared" }, () => true);
  await writer.mutation(anyApi.notes.add, { list: "js-shared", text: "x" });
  expect((await seen).at(-1)).toEqual(["x"]);
});

test("a result over five megabytes reaches the WebSocket client in pieces", async () => {
  const text = "ü".repeat(6_000_000);
  expect(await reactive().query(anyApi.basics.echo, { value: text })).toBe(text);
});

test("four clients that write at once lose nothing", async () => {
  const writers = [reactive(), reactive(), reactive(), reactive()];
  await Promise.all(
    writers.flatMap((client, n) =>
      Array.from({ length: 20 }, (_, i) =>
        client.mutation(anyApi.notes.add, { list: "js-many", text: `${n}.${i}` }),
      ),
    ),
  );
  expect(await writers[0].query(anyApi.notes.list, { list: "js-many" })).toHaveLength(80);
});

test("actions answer over the WebSocket, failures with their data", async () => {
  const client = reactive();
  expect(await client.action(anyApi.acts.outer, {})).toEqual({ inner: "down for nobody" });
  await expect(client.action(anyApi.acts.throws, {})).rejects.toMatchObject({
    data: { code: "from an action" },
  });
});

test("a run over its limit fails alone: subscriptions go on, and calls that waited are answered", async () => {
  const client = reactive();
  const http = new ConvexHttpClient(running.url);
  const seen = until(client, anyApi.notes.list, { list: "js-guard" }, (value) => value.length === 2);
  await until(client, anyApi.notes.list, { list: "js-guard" }, () => true);
  const spinning = http.mutation(anyApi.basics.spin, {}, { skipQueue: true });
  const waiting = client.mutation(anyApi.notes.add, { list: "js-guard", text: "waited" });
  await expect(spinning).rejects.toThrow("Function execution timed out (maximum duration: 1s)");
  await waiting;
  await http.mutation(anyApi.notes.add, { list: "js-guard", text: "after" });
  expect((await seen).at(-1)).toEqual(["waited", "after"]);
  expect(running.lines.filter((line) => line.startsWith("engine thread restarted"))).toHaveLength(1);
});

/** A bare socket; resolves with the code and the reason of its end. */
function closing(path, ...frames) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(running.url.replace("http", "ws") + path);
    socket.on("open", () => {
      for (const frame of frames) socket.send(frame);
    });
    socket.on("close", (code, reason) => resolve([code, String(reason)]));
    socket.on("error", reject);
  });
}

test.each([
  ["/api/sync", "{", 1008, /^WSMessageInvalidJson/],
  ["/sync", JSON.stringify({ type: "Mutation" }), 1008, /first message must be Connect/],
  ["/api/1.48.0/sync", Buffer.from([1, 2]), 1008, /must be text/],
  ["/api/sync", "x".repeat(21 * 1024 * 1024), 1009, /^$/],
])("a bad frame on %s closes that socket with a reason", async (path, frame, code, reason) => {
  const end = await closing(path, frame);
  expect(end).toEqual([code, expect.stringMatching(reason)]);
});

test.each([
  ["/api/nothing", "404"],
  ["/api/banana/sync", "400"],
  ["/api/0.19.1/sync", "400"],
])("there is no WebSocket on %s", async (path, status) => {
  await expect(closing(path)).rejects.toThrow(status);
});

test("a client that goes away in the middle of a request leaves the host serving", async () => {
  const { port } = new URL(running.url);
  const socket = connect(Number(port), "127.0.0.1");
  socket.write("POST /api/query HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
  socket.destroy();
  expect((await fetch(`${running.url}/version`)).status).toBe(200);
});

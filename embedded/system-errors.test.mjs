import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { afterEach, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { startHost } from "./host.mjs";

let host;
let data;
/** @type {ConvexHttpClient} */
let http;
let client;
let lines;

process.env.SIGNALBOX_TEST_JWKS = "data:,none"; // the auth.config of the functions reads it

beforeEach(async () => {
  data = await mkdtemp(path.join(tmpdir(), "system-errors-"));
  const options = {
    functions: fileURLToPath(new URL("fixtures/wire/convex", import.meta.url)),
    data,
    port: 0,
    sitePort: 0,
    host: "127.0.0.1",
    adminKey: "signalbox|key",
    synchronous: "normal",
  };
  host = await startHost(options, { log: () => {}, onFatal: () => {} });
  http = new ConvexHttpClient(host.ready.url);
  lines = [];
  const note = (...parts) => void lines.push(parts.join(" "));
  client = new ConvexClient(host.ready.url, {
    webSocketConstructor: WebSocket,
    logger: { log: note, warn: note, error: note, logVerbose: () => {} },
  });
});
afterEach(async () => {
  await client.close();
  await host.stop();
  await rm(data, { recursive: true });
});

const FAULTS = [
  ["throwOcc", "OptimisticConcurrencyControlFailure"],
  ["throwOverloaded", "Busy"],
];

test.each(FAULTS)("a mutation that ends by %s is a 503 over HTTP, with the code %s", async (fault, code) => {
  const failed = http.mutation(anyApi.who.strive, { fault });
  await expect(failed).rejects.toThrow(`"code":"${code}"`);
  const response = await fetch(`${host.ready.url}/api/mutation`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ path: "who:strive", args: { fault } }),
  });
  expect([response.status, await response.json()]).toEqual([
    503,
    { code, message: expect.stringMatching(/^(?!\[Request ID)\S/) },
  ]);
});

test.each(FAULTS)(
  "a mutation that ends by %s on a WebSocket is sent again until it succeeds, and applied once",
  async (fault, code) => {
    let ended = false;
    const striving = client.mutation(anyApi.who.strive, { fault }).finally(() => (ended = true));
    await expect
      .poll(() => lines.join("\n"), { timeout: 10_000 })
      .toContain(`closed with code 1013: ${code}: `);
    expect(ended).toBe(false);
    await http.mutation(anyApi.who.settle, {});
    expect(await striving).toBe(1);
  },
);

import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { afterEach, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { TestHost } from "./testing.mjs";

const FILES = {
  "a.ts": `
    const left = { throwOcc: 2, throwOverloaded: 1 };
    export const flaky = mutation({ handler: async (ctx, { how }) => {
      await ctx.db.insert("rows", { how });
      if (left[how]-- > 0) Convex.syscall(how, "{}");
    } });
    export const always = mutation({ handler: async (ctx) => {
      await ctx.db.insert("rows", {});
      Convex.syscall("throwOverloaded", "{}");
    } });
    export const add = mutation({ handler: async (ctx) => void (await ctx.db.insert("rows", {})) });
    export const count = query({ handler: async (ctx) => (await ctx.db.query("rows").collect()).length });
    export const viaAction = action({ handler: (ctx) => ctx.runMutation(internal.a.always, {}) });
  `,
};

/** @type {TestHost} */
let host;
/** @type {ConvexClient | null} */
let client = null;
beforeEach(() => {
  host = new TestHost();
});
afterEach(async () => {
  await client?.close();
  client = null;
  await host.dispose();
});

function reactive() {
  client = new ConvexClient(host.url, { webSocketConstructor: WebSocket, logger: false });
  return client;
}

test.each(["throwOcc", "throwOverloaded"])(
  "the WebSocket client tries a mutation that ends by %s again until it succeeds, and it happens once",
  async (how) => {
    await host.start(FILES);
    await reactive().mutation(anyApi.a.flaky, { how });
    expect(await host.call("query", "a:count")).toBe(1);
  },
);

test("the HTTP client sees the name of what the system could not do", async () => {
  await host.start(FILES);
  const http = new ConvexHttpClient(host.url, { logger: false });
  await expect(http.mutation(anyApi.a.always, {})).rejects.toThrow(/Busy/);
  expect(await host.post("/api/mutation", { path: "a:always", args: {} })).toEqual({
    httpStatus: 503,
    code: "Busy",
    message: "I'm a bit busy.",
  });
  expect(await host.call("query", "a:count")).toBe(0);
});

test(
  "with --conflicts every mutation of a WebSocket client happens once, whatever it takes",
  { timeout: 40_000 },
  async () => {
    await host.start(FILES, { conflicts: { rate: 0.6, seed: 5 } });
    const socket = reactive();
    await Promise.all(Array.from({ length: 25 }, () => socket.mutation(anyApi.a.add, {})));
    expect(await host.call("query", "a:count")).toBe(25);
  },
);

test("with --conflicts an HTTP client is told of a conflict that did not end, with the table's name", async () => {
  await host.start(FILES, { conflicts: { rate: 1, seed: 1 } });
  expect(await host.post("/api/mutation", { path: "a:add", args: {} })).toEqual({
    httpStatus: 503,
    code: "OptimisticConcurrencyControlFailure",
    message:
      'Documents read from or written to the "rows" table changed while this mutation was being run and on every subsequent retry. See https://docs.convex.dev/error#1',
  });
  expect(await host.call("query", "a:count")).toBe(0);
});

test("an action sees that its mutation failed", async () => {
  await host.start(FILES);
  await expect(host.call("action", "a:viaAction")).rejects.toThrow("I'm a bit busy.");
});

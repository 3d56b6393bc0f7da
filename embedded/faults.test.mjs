import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { Faults, NO_FAULTS, parseFaults, readFaults } from "./faults.mjs";
import { TestHost } from "./testing.mjs";

const FILES = {
  "a.ts": `
    export const add = mutation({ handler: (ctx, { text }) => ctx.db.insert("notes", { text }) });
    export const list = query({ handler: async (ctx) => (await ctx.db.query("notes").collect()).map(({ text }) => text) });
  `,
  "http.ts": `
    import { httpActionGeneric, httpRouter } from "convex/server";
    const http = httpRouter();
    http.route({ path: "/hello", method: "GET", handler: httpActionGeneric(async () => new Response("hello")) });
    export default http;
  `,
};

/** @type {TestHost} */
let host;
/** @type {ConvexClient[]} */
const clients = [];
beforeEach(() => {
  host = new TestHost();
});
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
  await host.dispose();
});

function reactive() {
  const client = new ConvexClient(host.url, { webSocketConstructor: WebSocket, logger: false });
  clients.push(client);
  return client;
}

describe("what is disturbed", () => {
  test.each([
    ["delay=20", { ...NO_FAULTS, delay: 20 }],
    ["drop=.5,seed=3", { ...NO_FAULTS, drop: 0.5, seed: 3 }],
    [
      "delay=60000,drop=1,disconnect=0.005,seed=999999999",
      { delay: 60_000, drop: 1, disconnect: 0.005, seed: 999_999_999 },
    ],
  ])("%s", (text, settings) => {
    expect(parseFaults(text)).toEqual(settings);
  });

  test.each([
    ["delay=60001", "delay must be ms from 0 to 60000"],
    ["drop=1.01", "drop must be a share from 0 to 1"],
    ["seed=1000000000", "seed must be a whole number from 0 to 999999999"],
    ["seed=0.5", "seed must be a whole number from 0 to 999999999"],
    ["drop", "drop must be a share from 0 to 1"],
    ["drop=-1", "there is no fault 'drop=-1': take delay, drop, disconnect and seed"],
    ["rain=1", "there is no fault 'rain': take delay, drop, disconnect and seed"],
  ])("%s is refused", (text, message) => {
    expect(() => parseFaults(text)).toThrow(message);
  });

  test("is nothing by default", () => {
    expect(readFaults({})).toEqual(NO_FAULTS);
  });

  test("is the same for the same seed", () => {
    const fates = (seed) => {
      const faults = new Faults({ ...NO_FAULTS, drop: 0.3, seed });
      return Array.from({ length: 100 }, () => {
        let fate = "served";
        const socket = { destroy: () => (fate = "lost") };
        const response = { end: () => {} };
        if (!faults.loses({ url: "/x", socket }, response)) response.end();
        return fate;
      }).join();
    };
    expect(fates(4)).toBe(fates(4));
    expect(fates(4)).not.toBe(fates(5));
    expect(fates(4).match(/lost/g)?.length).toBeGreaterThan(15);
  });
});

describe("the HTTP client", () => {
  test("loses a request before its effect, or its answer after it, and never half of a mutation", async () => {
    await host.start(FILES, { faults: { ...NO_FAULTS, drop: 0.5, seed: 2 } });
    const client = new ConvexHttpClient(host.url, { logger: false });
    const answered = [];
    for (let i = 0; i < 60; i++) {
      const text = String(i);
      await client.mutation(anyApi.a.add, { text }).then(
        () => answered.push(text),
        (error) => expect(error.message).toContain("fetch failed"),
      );
    }
    expect(await host.post("/api/host/faults", {})).toMatchObject({
      ...NO_FAULTS,
      counts: expect.anything(),
    });
    const stored = await host.call("query", "a:list");
    expect(new Set(stored).size).toBe(stored.length);
    expect(stored).toEqual(expect.arrayContaining(answered));
    expect(answered.length).toBeGreaterThan(0);
    expect(stored.length).toBeGreaterThan(answered.length);
    expect(stored.length).toBeLessThan(60);
    const { counts } = await host.request("GET", "/api/host/faults");
    expect(counts).toMatchObject({ requests: 60 - stored.length, answers: stored.length - answered.length });
  });

  test("waits for what is delayed, on the site's port too", async () => {
    await host.start(FILES);
    expect(await host.post("/api/host/faults", { delay: 120 })).toMatchObject({ delay: 120, drop: 0 });
    const begun = performance.now();
    await host.call("query", "a:list");
    expect(performance.now() - begun).toBeGreaterThanOrEqual(115);
    const again = performance.now();
    expect(await (await fetch(`${host.siteUrl}/hello`)).text()).toBe("hello");
    expect(performance.now() - again).toBeGreaterThanOrEqual(115);
  });
});

test("what operators look at is spared, and the rest is not", async () => {
  await host.start(FILES, { faults: { ...NO_FAULTS, drop: 1, delay: 5000 } });
  for (const path of ["/version", "/metrics", "/instance_name"]) {
    expect((await fetch(host.url + path)).status).toBe(200);
  }
  await expect(fetch(`${host.url}/api/query`, { method: "POST" })).rejects.toThrow("fetch failed");
  await expect(fetch(`${host.siteUrl}/version`)).rejects.toThrow("fetch failed");
});

test("faults are for the admin key, and bad ones change nothing", async () => {
  await host.start(FILES);
  expect(await host.post("/api/host/faults", { delay: 1 }, null)).toMatchObject({ httpStatus: 403 });
  expect(await host.post("/api/host/faults", { delay: -1 })).toEqual({
    httpStatus: 400,
    code: "BadFaults",
    message: "delay must be ms from 0 to 60000",
  });
  expect(await host.request("GET", "/api/host/faults")).toMatchObject(NO_FAULTS);
});

describe("the WebSocket client", () => {
  test(
    "survives sockets that end, frames that are lost and frames that come late: each mutation happens once",
    { timeout: 60_000 },
    async () => {
      await host.start(FILES, { faults: { delay: 5, drop: 0.02, disconnect: 0.02, seed: 7 } });
      const client = reactive();
      const watcher = reactive();
      let seen = [];
      watcher.onUpdate(
        anyApi.a.list,
        {},
        (list) => (seen = list),
        () => {},
      );
      const sent = Array.from({ length: 25 }, (_, i) => String(i));
      await Promise.all(sent.map((text) => client.mutation(anyApi.a.add, { text })));
      await expect.poll(() => seen.length, { timeout: 30_000 }).toBe(25);
      expect([...seen].sort()).toEqual([...sent].sort());
      const { counts } = await host.request("GET", "/api/host/faults");
      expect(counts.delayed).toBeGreaterThan(25);
      expect(counts.requests + counts.answers + counts.disconnects).toBeGreaterThan(0);
    },
  );

  test("frames keep their order when the delay shrinks", async () => {
    await host.start(FILES, { faults: { ...NO_FAULTS, delay: 200 } });
    const client = reactive();
    const seen = [];
    client.onUpdate(anyApi.a.list, {}, (list) => seen.push(list.length));
    await expect.poll(() => seen.length, { timeout: 5000 }).toBe(1);
    const first = client.mutation(anyApi.a.add, { text: "a" });
    await new Promise((resolve) => setTimeout(resolve, 50));
    await host.post("/api/host/faults", {});
    await Promise.all([first, client.mutation(anyApi.a.add, { text: "b" })]);
    await expect.poll(() => seen.at(-1), { timeout: 5000 }).toBe(2);
    expect(seen).toEqual([...seen].sort());
  });
});

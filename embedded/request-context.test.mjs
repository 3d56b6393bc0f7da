import { createHash } from "node:crypto";
import { ConvexClient } from "convex/browser";
import { anyApi } from "convex/server";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { provider, userToken } from "./auth/testing.mjs";
import { clientOf, ofHttp } from "./request-context.mjs";
import { ADMIN_KEY, TestHost } from "./testing.mjs";

const FILES = {
  "auth.config.ts": `export default { providers: [${JSON.stringify(provider())}] };`,
  "m.ts": `
    const of = (ctx) => ctx.meta.getRequestMetadata();
    export const own = mutation({ args: {}, handler: async (ctx) => [await of(ctx), await ctx.runMutation(api.m.inner, {})] });
    export const inner = mutation({ args: {}, handler: of });
    export const innerAction = action({ args: {}, handler: of });
    export const act = action({ args: {}, handler: async (ctx) =>
      [await of(ctx), await ctx.runMutation(api.m.inner, {}), await ctx.runAction(api.m.innerAction, {})] });
    export const note = internalMutation({ args: {}, handler: async (ctx) => { await ctx.db.insert("notes", { by: "mutation", all: [await of(ctx)] }); } });
    export const noteByAction = internalAction({ args: {}, handler: async (ctx) => {
      await ctx.runMutation(internal.m.keep, { by: "action", all: await ctx.runAction(api.m.act, {}) }); } });
    export const keep = internalMutation({ handler: (ctx, note) => ctx.db.insert("notes", note) });
    export const plan = mutation({ args: {}, handler: async (ctx) =>
      [await ctx.scheduler.runAfter(0, internal.m.note, {}), await ctx.scheduler.runAfter(0, internal.m.noteByAction, {})] });
    export const notes = query({ args: {}, handler: (ctx) => ctx.db.query("notes").collect() });
    export const fail = mutation({ args: {}, handler: () => { throw new Error("broken"); } });
    export const failingAction = action({ args: {}, handler: async (ctx) => { await ctx.runMutation(api.m.fail, {}); } });
    export const later = mutation({ args: {}, handler: (ctx) => ctx.scheduler.runAfter(3_600_000, internal.m.note, {}) });
    export const dies = internalAction({ args: {}, handler: async (ctx) => {
      await ctx.runMutation(api.m.cancelAll, {});
      await ctx.runMutation(internal.m.keep, { by: "dies", all: [await ctx.runMutation(api.m.later, {})] }); } });
    export const cancelAll = mutation({ args: {}, handler: async (ctx) => {
      for (const { _id, state } of await ctx.db.system.query("_scheduled_functions").collect())
        if (state.kind === "inProgress") await ctx.scheduler.cancel(_id); } });
    export const planDies = mutation({ args: {}, handler: (ctx) => ctx.scheduler.runAfter(0, internal.m.dies, {}) });
    export const job = query({ handler: (ctx, { id }) => ctx.db.system.get(id) });
  `,
  "crons.ts": `
    const crons = cronJobs();
    crons.interval("m", { hours: 1 }, internal.m.note, {});
    export default crons;
  `,
  "http.ts": `
    import { httpRouter, httpActionGeneric } from "convex/server";
    const http = httpRouter();
    http.route({ path: "/of", method: "GET", handler: httpActionGeneric(async (ctx) => Response.json(await ctx.runAction(api.m.act, {}))) });
    http.route({ path: "/fail", method: "GET", handler: httpActionGeneric(async (ctx) => { throw new Error("broken"); }) });
    export default http;
  `,
};
const ID = /^[0-9a-f]{16}$/;

/** @type {TestHost} */
let host;
beforeAll(async () => {
  host = new TestHost();
  await host.start(FILES);
});
afterAll(() => host.dispose());

/** @param {string} path @param {Record<string, string>} [headers] */
async function post(path, headers = {}) {
  const [kind, name] = path.split(" ");
  const response = await fetch(`${host.url}/api/${kind}`, {
    method: "POST",
    headers: { "content-type": "application/json", "user-agent": "tests", ...headers },
    body: JSON.stringify({ path: name, args: {} }),
  });
  return response.json();
}

describe("over HTTP", () => {
  test.each(["mutation m:own", "action m:act"])("%s and what it calls are of one request", async (path) => {
    const { value } = await post(path);
    const [first, ...inner] = value;
    expect(first).toEqual({
      ip: "127.0.0.1",
      userAgent: "tests",
      requestId: expect.stringMatching(ID),
      scheduledFunctionId: null,
      authToken: null,
    });
    expect(inner.length).toBeGreaterThan(0);
    for (const metadata of inner) expect(metadata).toEqual(first);
    expect((await post(path)).value[0].requestId).not.toBe(first.requestId);
  });

  test("a client may name its request, and a proxy its client", async () => {
    const headers = { "convex-request-id": "by the client", "x-forwarded-for": "203.0.113.7, 10.0.0.1" };
    const { value } = await post("action m:act", headers);
    for (const metadata of value)
      expect(metadata).toMatchObject({ requestId: "by the client", ip: "203.0.113.7" });
    for (const path of ["mutation m:fail", "action m:failingAction", "mutation m:none"])
      expect((await post(path, headers)).errorMessage).toMatch(
        /^\[Request ID: by the client\] Server Error\n(?!.*Request ID)/s,
      );
  });

  test("a user's token is there for mutations and actions, an admin's key is not", async () => {
    const token = userToken();
    const { value } = await post("action m:act", { authorization: `Bearer ${token}` });
    expect(value.map(({ authToken }) => authToken)).toEqual([token, token, token]);
    const admin = await post("mutation m:own", { authorization: `Convex ${ADMIN_KEY}` });
    expect(admin.value.map(({ authToken }) => authToken)).toEqual([null, null]);
  });

  test("an HTTP action is of one request with what it calls; a header that is no token of the app is not told", async () => {
    const named = { "convex-request-id": "cafe", "user-agent": "tests" };
    const answer = await fetch(`${host.siteUrl}/of`, {
      headers: { ...named, authorization: "Bearer nothing" },
    });
    const all = await answer.json();
    for (const metadata of all)
      expect(metadata).toMatchObject({ requestId: "cafe", userAgent: "tests", authToken: null });
    const failed = await (await fetch(`${host.siteUrl}/fail`, { headers: named })).json();
    expect(failed.code).toBe("[Request ID: cafe] Server Error: Uncaught Error: broken");
  });
});

test("over a WebSocket the client knows the request's id by its session and number", async () => {
  const frames = [];
  class Listening extends WebSocket {
    send(text, ...rest) {
      frames.push(JSON.parse(text));
      super.send(text, ...rest);
    }
  }
  const client = new ConvexClient(host.url, { webSocketConstructor: Listening, logger: false });
  try {
    const token = userToken();
    client.setAuth(async () => token);
    const value = await client.action(anyApi.m.act, {});
    const { sessionId } = frames.find(({ type }) => type === "Connect");
    const { requestId } = frames.find(({ type }) => type === "Action");
    const id = createHash("sha256").update(`${sessionId}|${requestId}`).digest("hex").slice(0, 16);
    for (const metadata of value)
      expect(metadata).toMatchObject({ requestId: id, ip: "127.0.0.1", authToken: token });
    await expect(client.mutation(anyApi.m.fail, {})).rejects.toThrow(
      /\[Request ID: [0-9a-f]{16}\] Server Error/,
    );
  } finally {
    await client.close();
  }
});

test("scheduled functions are of no client's request; what they call knows their job, crons have none", async () => {
  const [mutation, action] = await host.call("mutation", "m:plan");
  const notes = () => host.call("query", "m:notes");
  await expect.poll(async () => (await notes()).length).toBe(3);
  const system = { ip: null, userAgent: null, authToken: null, requestId: expect.stringMatching(ID) };
  const jobs = (await notes()).map(({ by, all }) => {
    for (const metadata of all) expect(metadata).toEqual({ ...all[0], ...system });
    return [by, all[0].scheduledFunctionId];
  });
  expect(jobs).toEqual(
    expect.arrayContaining([
      ["mutation", null],
      ["mutation", mutation],
      ["action", action],
    ]),
  );
});

test("what a mutation schedules for a scheduled action that was canceled is canceled at once", async () => {
  await host.call("mutation", "m:planDies");
  const found = async () => (await host.call("query", "m:notes")).find(({ by }) => by === "dies");
  await expect.poll(found).toBeDefined();
  const { all } = await found();
  expect((await host.call("query", "m:job", { id: all[0] })).state.kind).toBe("canceled");
});

test("what clients say of themselves is cut where Convex cuts it, and an id that is no text is not taken", () => {
  const socket = { remoteAddress: "::1" };
  const headers = { "x-forwarded-for": "é".repeat(128), "user-agent": "u".repeat(512) };
  expect(clientOf({ headers, socket })).toEqual({ ip: "é".repeat(128), userAgent: "u".repeat(512) });
  const longer = { "x-forwarded-for": `x${"é".repeat(128)}`, "user-agent": "u".repeat(513) };
  expect(clientOf({ headers: longer, socket })).toEqual({
    ip: `x${"é".repeat(127)}`,
    userAgent: "u".repeat(512),
  });
  expect(clientOf({ headers: {}, socket })).toEqual({ ip: "::1", userAgent: null });
  const request = { headers: { "convex-request-id": "\u00e9" }, socket };
  expect(ofHttp(/** @type {any} */ (request)).id).toMatch(ID);
});

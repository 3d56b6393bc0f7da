import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { afterEach, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { provider, userToken } from "./auth/testing.mjs";
import { TestHost } from "./testing.mjs";
import { TimeControl } from "./time-control.mjs";

const DAY_MS = 24 * 3600 * 1000;
const START = "2026-01-01T00:00:00Z";
const START_MS = Date.parse(START);
const FILES = {
  "beats.ts": `
    export const beat = internalMutation({
      handler: async (ctx, { name }) => {
        const row = await ctx.db.query("beats").filter((q) => q.eq(q.field("name"), name)).first();
        if (row === null) await ctx.db.insert("beats", { name, count: 1, first: Date.now(), last: Date.now() });
        else await ctx.db.patch(row._id, { count: row.count + 1, last: Date.now() });
      },
    });
    export const note = internalMutation({
      handler: async (ctx, { text }) => void (await ctx.db.insert("notes", { text, at: Date.now() })),
    });
    export const notes = query({ handler: async (ctx) => (await ctx.db.query("notes").collect()) });
    export const beats = query({ handler: async (ctx) => (await ctx.db.query("beats").collect()) });
    export const later = mutation({
      handler: async (ctx, { ms, text }) => void (await ctx.scheduler.runAfter(ms, internal.beats.note, { text })),
    });
    export const slowly = mutation({
      handler: async (ctx, { ms, takes }) => void (await ctx.scheduler.runAfter(ms, internal.beats.slow, { takes })),
    });
    export const slow = internalAction({
      handler: async (ctx, { takes }) => {
        const before = Date.now();
        await new Promise((resolve) => setTimeout(resolve, takes));
        await ctx.runMutation(internal.beats.note, { text: \`\${before} \${new Date().getTime()}\` });
        await ctx.scheduler.runAfter(1000, internal.beats.note, { text: "after" });
      },
    });
    export const spin = internalMutation({
      handler: async (ctx) => void (await ctx.scheduler.runAfter(0, internal.beats.spin, {})),
    });
    export const startSpinning = mutation({
      handler: async (ctx) => void (await ctx.scheduler.runAfter(1000, internal.beats.spin, {})),
    });
    export const dates = action({
      handler: async () => [Date.now(), new Date().toISOString(), new Date(0) instanceof Date, typeof Date()],
    });
    export const now = query({ handler: async () => Date.now() });
  `,
};
const CRONS = `
  const crons = cronJobs();
  crons.interval("often", { seconds: 10 }, internal.beats.beat, { name: "often" });
  crons.hourly("hourly", { minuteUTC: 30 }, internal.beats.beat, { name: "hourly" });
  crons.daily("daily", { hourUTC: 4, minuteUTC: 0 }, internal.beats.beat, { name: "daily" });
  crons.weekly("weekly", { dayOfWeek: "monday", hourUTC: 0, minuteUTC: 0 }, internal.beats.beat, { name: "weekly" });
  crons.monthly("monthly", { day: 1, hourUTC: 12, minuteUTC: 0 }, internal.beats.beat, { name: "monthly" });
  export default crons;
`;

const { "beats.ts": BEATS } = FILES;

/** @type {TestHost} */
let host;
beforeEach(() => {
  host = new TestHost();
});
afterEach(() => host.dispose());

const start = (files = FILES, clock = { startMs: START_MS }) => host.start(files, { clock });
const advance = (body) => host.post("/api/host/clock", body);
/** Advance as often as it takes. @returns how many functions ran */
async function advanceTo(to) {
  let ran = 0;
  for (;;) {
    const answer = await advance({ to });
    ran += answer.ran;
    if (answer.reason === undefined) return ran;
  }
}
const call = (kind, path, args) => host.call(kind, path, args);

test("time stands still for functions, actions and documents until it is advanced", async () => {
  await start();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(await call("query", "beats:now")).toBe(START_MS);
  expect(await call("action", "beats:dates")).toEqual([
    START_MS,
    new Date(START_MS).toISOString(),
    true,
    "string",
  ]);
  expect(await advance({ advanceMs: 1500 })).toEqual({ now: START_MS + 1500, ran: 0 });
  expect(await call("query", "beats:now")).toBe(START_MS + 1500);
  expect((await call("action", "beats:dates"))[0]).toBe(START_MS + 1500);
  await call("mutation", "beats:later", { ms: 0, text: "now" });
  await advance({ advanceMs: 0 });
  const [note] = await call("query", "beats:notes");
  expect(note).toMatchObject({
    text: "now",
    at: START_MS + 1500,
    _creationTime: expect.closeTo(START_MS + 1500, 2),
  });
});

test("scheduled functions run in order, each at its own time", async () => {
  await start();
  for (const ms of [5000, 1000, 3000]) await call("mutation", "beats:later", { ms, text: String(ms) });
  expect(await advance({ advanceMs: 3999 })).toMatchObject({ now: START_MS + 3999, ran: 2 });
  expect(await advance({ to: new Date(START_MS + 5000).toISOString() })).toMatchObject({
    now: START_MS + 5000,
    ran: 1,
  });
  const notes = await call("query", "beats:notes");
  expect(notes.map(({ text, at }) => [text, at - START_MS])).toEqual([
    ["1000", 1000],
    ["3000", 3000],
    ["5000", 5000],
  ]);
});

test("a function that is due between two milliseconds runs at the later one", async () => {
  await start();
  await call("mutation", "beats:later", { ms: 1000.25, text: "between" });
  expect(await advance({ advanceMs: 1000 })).toMatchObject({ now: START_MS + 1000, ran: 0 });
  expect(await advance({ advanceMs: 1000 })).toMatchObject({ now: START_MS + 2000, ran: 1 });
  expect((await call("query", "beats:notes"))[0].at).toBe(START_MS + 1001);
});

test("two advances at once add up", async () => {
  await start();
  const answers = await Promise.all([advance({ advanceMs: 1000 }), advance({ advanceMs: 2000 })]);
  expect(answers.map(({ now }) => now)).toContain(START_MS + 3000);
});

test("time does not go on past a scheduled action, and what it schedules still runs", async () => {
  await start();
  await call("mutation", "beats:slowly", { ms: 1000, takes: 150 });
  await call("mutation", "beats:later", { ms: 1500, text: "behind" });
  expect(await advance({ advanceMs: 2000 })).toMatchObject({ now: START_MS + 2000, ran: 3 });
  const notes = await call("query", "beats:notes");
  expect(notes.map(({ text, at }) => [text, at - START_MS])).toEqual([
    [`${START_MS + 1000} ${START_MS + 1000}`, 1000],
    ["behind", 1500],
    ["after", 2000],
  ]);
});

test("users' tokens expire by it, over HTTP and on a socket that is open", async () => {
  const config = `export default { providers: ${JSON.stringify([provider()])} };`;
  await start({
    "auth.config.ts": config,
    "who.ts": `export const me = query({ handler: async (ctx) => (await ctx.auth.getUserIdentity())?.subject ?? null });`,
  });
  const seconds = START_MS / 1000;
  const token = userToken({ iat: seconds, exp: seconds + 3600 });
  const client = new ConvexClient(host.url, { webSocketConstructor: WebSocket, logger: false });
  try {
    const asked = [];
    client.setAuth(async ({ forceRefreshToken }) => (asked.push(forceRefreshToken), token));
    await expect.poll(() => client.query(anyApi.who.me, {})).toBe("u1");
    const http = new ConvexHttpClient(host.url, { auth: token, logger: false });
    expect(await http.query(anyApi.who.me, {})).toBe("u1");
    await advance({ advanceMs: 3_700_000 });
    await expect(http.query(anyApi.who.me, {})).rejects.toThrow("InvalidAuthHeader");
    const before = asked.length;
    await client.mutation(anyApi.who.nothing, {}).catch(() => {});
    await expect.poll(() => asked.slice(before)).toContain(true);
  } finally {
    await client.close();
  }
});

test("a month of ordinary crons passes in seconds, each run at its minute", async () => {
  await start({ "beats.ts": BEATS, "crons.ts": CRONS.replace(/.*often.*\n/, "") });
  const begun = process.cpuUsage();
  await advanceTo(START_MS + 30 * DAY_MS);
  const { user, system } = process.cpuUsage(begun);
  expect(user + system).toBeLessThan(5e6);
  const rows = Object.fromEntries((await call("query", "beats:beats")).map((row) => [row.name, row]));
  expect(rows.hourly).toMatchObject({ count: 720, first: START_MS + DAY_MS / 48 });
  expect(rows.daily).toMatchObject({
    count: 30,
    first: START_MS + DAY_MS / 6,
    last: START_MS + 29 * DAY_MS + DAY_MS / 6,
  });
  expect(rows.weekly).toMatchObject({ count: 4, first: Date.parse("2026-01-05T00:00:00Z") });
  expect(rows.monthly).toMatchObject({ count: 1, first: Date.parse("2026-01-01T12:00:00Z") });
});

test(
  "a day of a cron of ten seconds takes less than a seventh of a minute, with a run at each beat, while calls are served in between",
  { timeout: 60_000 },
  async () => {
    await start({ "beats.ts": BEATS, "crons.ts": CRONS });
    const end = START_MS + DAY_MS;
    const begun = process.cpuUsage(); // of all threads: a loaded machine takes longer, not more
    let isDone = false;
    const advanced = advanceTo(end).finally(() => (isDone = true));
    const waits = [];
    while (!isDone) {
      const asked = performance.now();
      await call("query", "beats:now");
      waits.push(performance.now() - asked);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(await advanced).toBe(8640 + 24 + 1 + 1); // the first beat was at the start, and it is the first of a month
    const { user, system } = process.cpuUsage(begun);
    expect(user + system).toBeLessThan(60e6 / 7);
    const rows = Object.fromEntries((await call("query", "beats:beats")).map((row) => [row.name, row]));
    expect(rows.often).toMatchObject({ count: 8641, first: START_MS, last: end });
    expect(waits.length).toBeGreaterThan(10);
    expect(waits.sort((x, y) => x - y)[Math.floor(waits.length / 2)]).toBeLessThan(500);
  },
);

test("the clock never goes back, not even after a restart with an earlier start", async () => {
  await start();
  await advance({ advanceMs: 10 * DAY_MS });
  expect(await advance({ to: START_MS })).toMatchObject({
    httpStatus: 400,
    code: "BadClock",
    message: "it is 2026-01-11T00:00:00.000Z already, and the clock never goes back",
  });
  await host.stop();
  await start(FILES, { startMs: START_MS + 1 });
  expect(await call("query", "beats:now")).toBe(START_MS + 10 * DAY_MS);
});

test("a request that finds no end says how far it got", async () => {
  await start();
  await call("mutation", "beats:startSpinning");
  const engine = {
    ask: async () => ({
      ok: true,
      value: JSON.stringify({ now: 5, ran: 1, reached: false, waitingFor: ["a:b", "c:d"] }),
    }),
  };
  const stuck = await new TimeControl(engine, Float64Array.of(0), 20).advance(() => 9);
  expect(stuck).toMatchObject({ now: 5, target: 9 });
  expect(stuck.reason).toBe(
    "after 0.02 s the clock still waits for the scheduled action a:b and 1 more: advance again",
  );
});

test.each([
  [{}, "give one of 'advanceMs' and 'to'"],
  [{ advanceMs: 1, to: 2 }, "give one of 'advanceMs' and 'to'"],
  [{ advanceMs: -1 }, "'advanceMs' must be a whole number of ms, 0 or more"],
  [{ advanceMs: 0.5 }, "'advanceMs' must be a whole number of ms, 0 or more"],
  [{ to: "tomorrow" }, "'to' must be ms since the epoch or an ISO time with its zone"],
  [{ to: "2026-01-01T00:00:00" }, "'to' must be ms since the epoch or an ISO time with its zone"],
  [{ advanceMs: Number.MAX_SAFE_INTEGER }, "the clock ends in 2262"],
  [{ hours: 1 }, "there is no 'hours'"],
])("%j is refused: %s", async (body, message) => {
  await start();
  expect(await advance(body)).toEqual({ httpStatus: 400, code: "BadClock", message });
});

test("the clock is for the admin key, and there only if it is virtual", async () => {
  await start();
  expect(await host.post("/api/host/clock", { advanceMs: 1 }, null)).toMatchObject({
    httpStatus: 403,
    code: "Forbidden",
  });
  expect(await host.request("GET", "/api/host/clock")).toEqual({ now: START_MS });
  await host.stop();
  await host.start(FILES);
  expect(await advance({ advanceMs: 1 })).toMatchObject({ httpStatus: 400, code: "ClockNotVirtual" });
});

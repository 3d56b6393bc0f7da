import { rmSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { Conflicts, MAX_RERUNS } from "./conflicts.mjs";
import { TestEngine, temporaryFolder, writeFunctions } from "./testing.mjs";

const START = 1_700_000_000_000;
const FILES = {
  "a.ts": `
    import { anyApi as internal, internalMutationGeneric as internalMutation, mutationGeneric as mutation, queryGeneric as query } from "convex/server";
    let runs = 0;
    export const add = mutation({ handler: async (ctx, { by = 1 }) => {
      const row = await ctx.db.query("counters").first();
      if (row === null) await ctx.db.insert("counters", { count: by });
      else await ctx.db.patch(row._id, { count: row.count + by });
      return (runs += 1);
    } });
    export const look = mutation({ handler: async (ctx) => { await ctx.db.query("counters").first(); return (runs += 1); } });
    export const count = query({ handler: async (ctx) => (await ctx.db.query("counters").first())?.count ?? 0 });
    export const later = mutation({ handler: (ctx, { path, ms = 0 }) => ctx.scheduler.runAfter(ms, internal.a[path], {}) });
    export const job = query({ handler: (ctx, { id }) => ctx.db.system.get(id) });
    export const cancel = mutation({ handler: (ctx, { id }) => ctx.scheduler.cancel(id) });
    export const occ = mutation({ handler: async (ctx) => {
      await ctx.db.insert("counters", { count: 99 });
      try { Convex.syscall("throwOcc", "{}"); } catch { runs += 100; }
    } });
    export const busy = mutation({ handler: async () => { Convex.syscall("throwOverloaded", "{}"); } });
    export const outer = mutation({ handler: async (ctx) => {
      try { await ctx.runMutation(internal.a.occ, {}); } catch { return "caught"; }
    } });
    export const busyQuery = query({ handler: async () => { Convex.syscall("throwOverloaded", "{}"); } });
  `,
};
const CRONS = `
  import { anyApi as internal, cronJobs } from "convex/server";
  const crons = cronJobs();
  crons.interval("busy", { seconds: 10 }, internal.a.busy, {});
  export default crons;
`;

/** @type {TestEngine | null} */
let engine = null;
let now = START;
const roots = [];
afterEach(() => {
  engine?.dispose();
  engine = null;
  for (const root of roots.splice(0)) rmSync(root, { recursive: true, force: true });
});

async function open(conflicts, files = FILES) {
  const root = temporaryFolder();
  roots.push(root);
  now = START;
  engine = new TestEngine({ root, conflicts, now: () => now });
  await engine.load(writeFunctions(root, files));
}

const refusal = (path, args = {}) => engine.serve([engine.message(path, args)]).replies[0];
const OCC =
  'Documents read from or written to the "counters" table changed while this mutation was being run and on every subsequent retry. See https://docs.convex.dev/error#1';

describe("a mutation that conflicts", () => {
  test("is undone and run again, so that its effects happen once and its module's state tells of every run", async () => {
    await open({ rate: 0.4, seed: 1 });
    const values = [];
    for (let i = 0; i < 50; i++) {
      const reply = refusal("a:add");
      if (reply.ok) values.push(JSON.parse(reply.value));
      else expect(reply.code).toBe("OptimisticConcurrencyControlFailure");
    }
    expect(engine.call("a:count")).toBe(values.length);
    expect(values.at(-1)).toBeGreaterThan(values.length);
  });

  test("fails after four more runs with Convex's code and text, and nothing of it stays", async () => {
    await open({ rate: 1, seed: 1 });
    const reply = refusal("a:add");
    expect(reply).toMatchObject({ ok: false, code: "OptimisticConcurrencyControlFailure" });
    expect(reply.message).toContain(OCC);
    expect(JSON.parse(refusal("a:look").value)).toBe(MAX_RERUNS + 1 + 1);
    expect(engine.call("a:count")).toBe(0);
  });

  test("meets the same fate with the same seed, another one with another", async () => {
    const fates = async (seed) => {
      await open({ rate: 0.6, seed });
      const fate = Array.from({ length: 40 }, () => refusal("a:add").value ?? "failed");
      engine.engine.close();
      return fate.join();
    };
    const [first, again, other] = [await fates(5), await fates(5), await fates(6)];
    expect(again).toBe(first);
    expect(other).not.toBe(first);
    await open(null);
  });

  test("is one that wrote: reading alone never conflicts", async () => {
    await open({ rate: 1, seed: 1 });
    expect(refusal("a:look").ok).toBe(true);
    expect(engine.call("a:count")).toBe(0);
  });

  test("of a WebSocket session is answered once and applied once", async () => {
    await open({ rate: 0.5, seed: 3 });
    const once = { session: "s", request: 1 };
    let reply;
    do [reply] = engine.serve([engine.message("a:add", {}, { once })]).replies;
    while (!reply.ok);
    expect(engine.serve([engine.message("a:add", {}, { once })]).replies[0].value).toBe(reply.value);
    expect(engine.call("a:count")).toBe(1);
  });
});

describe("a scheduled mutation that conflicts", () => {
  test("stays pending, is run again after a wait that grows, and succeeds once", async () => {
    await open({ rate: 0.7, seed: 2 });
    let id;
    for (;;) {
      const reply = refusal("a:later", { path: "add", ms: 10 });
      if (!reply.ok) continue;
      id = JSON.parse(reply.value);
      break;
    }
    const waits = [];
    now += 10;
    for (let i = 0; i < 100; i++) {
      engine.serve([]);
      const { state, scheduledTime } = engine.call("a:job", { id });
      if (state.kind === "success") break;
      expect(state).toEqual({ kind: "pending" });
      expect(scheduledTime).toBe(START + 10);
      const wake = engine.engine.nextWake();
      waits.push(wake - now);
      engine.serve([]); // not before its time
      now = wake;
    }
    expect(waits.length).toBeGreaterThan(1);
    expect(waits.every((wait, i) => wait <= 100 * 2 ** i)).toBe(true);
    expect(engine.call("a:count")).toBe(1);
    expect(engine.engine.nextWake()).toBeNull();
  });

  test("does not hold up what is due behind it, and can be canceled while it waits", async () => {
    await open(null);
    const id = engine.call("a:later", { path: "occ" });
    expect(engine.call("a:job", { id }).state).toEqual({ kind: "pending" });
    engine.call("a:later", { path: "add" });
    expect(engine.call("a:count")).toBe(1);
    expect(engine.engine.nextWake()).toBeLessThanOrEqual(now + 500);
    engine.call("a:cancel", { id });
    expect(engine.call("a:job", { id }).state).toEqual({ kind: "canceled" });
    expect(engine.engine.nextWake()).toBeNull();
  });

  test("is due at once after a restart", async () => {
    await open(null);
    engine.call("a:later", { path: "occ" });
    engine.reopen();
    await engine.load(`${engine.root}/convex`);
    expect(engine.batches.at(-1).runs.map(({ path }) => path)).toEqual(["a:occ"]);
  });

  test("by a cron is tried again within 15 s, and the beat goes on from there", async () => {
    await open(null, { ...FILES, "crons.ts": CRONS });
    for (let i = 0; i < 20; i++) {
      const wake = engine.engine.nextWake();
      expect(wake).toBeLessThanOrEqual(now + Math.min(500 * 2 ** i, 15_000));
      now = Math.max(now, wake);
      engine.serve([]);
    }
    await engine.load(
      writeFunctions(engine.root, { ...FILES, "crons.ts": CRONS.replace("a.busy", "a.add") }),
    );
    now = engine.engine.nextWake() ?? now;
    engine.serve([]);
    expect(engine.call("a:count")).toBe(1);
    expect(engine.engine.nextWake() - START).toSatisfy((ms) => ms % 10_000 === 0);
  });
});

describe("the system calls that fail as the system does", () => {
  test.each([
    ["a:occ", "OptimisticConcurrencyControlFailure", "Documents read from or written to some table changed"],
    ["a:busy", "Busy", "I'm a bit busy."],
    [
      "a:outer",
      "OptimisticConcurrencyControlFailure",
      "Documents read from or written to some table changed",
    ],
    ["a:busyQuery", "Busy", "I'm a bit busy."],
  ])("%s ends as %s, whatever the function catches, and without another run", async (path, code, text) => {
    await open(null);
    const reply = refusal(path);
    expect(reply).toMatchObject({ ok: false, code });
    expect(reply.message).toContain(text);
    expect(engine.call("a:count")).toBe(0);
    expect(engine.call("a:look")).toBeLessThanOrEqual(101);
  });
});

test("the share of conflicts is the rate", () => {
  const conflicts = new Conflicts({ rate: 0.25, seed: 9 });
  const write = /** @type {any} */ ({ table: { name: "t" } });
  for (let i = 0; i < 10_000; i++) {
    try {
      conflicts.strike([write]);
    } catch {
      // counted
    }
  }
  expect(conflicts.count).toBeGreaterThan(2300);
  expect(conflicts.count).toBeLessThan(2700);
});

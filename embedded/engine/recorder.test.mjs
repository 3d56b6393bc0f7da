import { afterEach, describe, expect, test } from "vitest";
import { Recorder } from "./recorder.mjs";
import { TestEngine, writeFunctions } from "./testing.mjs";

const FILES = {
  "schema.ts": `
    import { defineSchema, defineTable } from "convex/server";
    import { v } from "convex/values";
    export default defineSchema({
      tasks: defineTable({ status: v.string() }).index("by_status", ["status"]),
      counters: defineTable({ count: v.number() }),
    });
  `,
  "a.ts": `
    import { anyApi as internal, internalMutationGeneric as internalMutation, mutationGeneric as mutation, queryGeneric as query } from "convex/server";
    export const add = mutation({ handler: (ctx, { status }) => ctx.db.insert("tasks", { status }) });
    export const claim = mutation({ handler: async (ctx) => {
      const task = await ctx.db.query("tasks").withIndex("by_status", (q) => q.eq("status", "ready")).first();
      if (task !== null) await ctx.db.patch(task._id, { status: "running" });
    } });
    export const finish = mutation({ handler: (ctx, { id }) => ctx.db.patch(id, { status: "done" }) });
    export const fail = mutation({ handler: async (ctx) => { await ctx.db.insert("tasks", { status: "x" }); throw new Error("no"); } });
    export const list = query({ handler: (ctx, { status }) => ctx.db.query("tasks").withIndex("by_status", (q) => q.eq("status", status)).collect() });
    export const later = mutation({ handler: (ctx) => ctx.scheduler.runAfter(0, internal.a.claim, {}) });
    export const outer = mutation({ handler: (ctx) => ctx.runMutation(internal.a.claim, {}) });
  `,
};

/** @type {TestEngine} */
let engine;
afterEach(() => engine.dispose());

async function open(options = { record: true }) {
  engine = new TestEngine(options);
  await engine.load(writeFunctions(engine.root, FILES));
  engine.serve([{ op: "recording", id: 1, clear: true }]);
}
const recording = () => engine.send({ op: "recording" });
const named = ({ indexes }, entries) => entries.map(([index, ...rest]) => [indexes[index], ...rest]);

describe("with a recorder", () => {
  test("each committed run of a mutation is kept with what it read and wrote", async () => {
    await open();
    const id = engine.call("a:add", { status: "ready" });
    engine.call("a:claim");
    engine.call("a:finish", { id });
    const kept = recording();
    const [add, claim, finish] = kept.records;
    expect(kept.records.map(({ path }) => path)).toEqual(["a:add", "a:claim", "a:finish"]);
    expect(add).toMatchObject({ ranges: [], ids: [], documents: [["tasks", id]], scheduled: false });
    expect(
      named(kept, add.keys)
        .map(([index]) => index)
        .sort(),
    ).toEqual(["tasks.by_creation_time", "tasks.by_id", "tasks.by_status"]);
    expect(claim.ids).toEqual([id]);
    const [[index, low, high]] = named(kept, claim.ranges);
    expect(index).toBe("tasks.by_status");
    const [[, ready]] = add.keys.filter(([key]) => kept.indexes[key] === "tasks.by_status");
    expect(low <= ready && ready < high).toBe(true);
    expect(claim.keys.filter(([key]) => kept.indexes[key] === "tasks.by_status").length).toBe(2); // from ready, to running
    expect(finish).toMatchObject({ ranges: [], ids: [id] });
    expect(BigInt(finish.ts) > BigInt(claim.ts)).toBe(true);
  });

  test("what was read by a function inside it belongs to it, and scheduled runs are kept too", async () => {
    await open();
    engine.call("a:add", { status: "ready" });
    engine.call("a:outer");
    engine.call("a:later");
    const { records } = recording();
    expect(records.map(({ path, scheduled }) => [path, scheduled])).toEqual([
      ["a:add", false],
      ["a:outer", false],
      ["a:later", false],
      ["a:claim", true],
    ]);
    expect(records[1].ranges.length).toBe(1);
    expect(records[3].ranges.length).toBe(1);
  });

  test("a run that failed and a query leave nothing", async () => {
    await open();
    expect(() => engine.call("a:fail")).toThrow("no");
    engine.call("a:list", { status: "ready" });
    expect(recording().records).toEqual([]);
  });

  test("a run tells how many subscriptions it made stale", async () => {
    await open();
    engine.call("a:add", { status: "other" }); // the first document of a table makes every query of it run again
    engine.subscribe(71, "a:list", { status: "ready" });
    engine.subscribe(72, "a:list", { status: "ready" });
    engine.subscribe(73, "a:list", { status: "done" });
    engine.call("a:add", { status: "ready" });
    engine.call("a:add", { status: "other" });
    expect(recording().records.map(({ touched }) => touched)).toEqual([0, 2, 0]);
  });

  test("can be emptied", async () => {
    await open();
    engine.call("a:add", { status: "ready" });
    expect(engine.send({ op: "recording", clear: true })).toBe(1);
    expect(recording().records).toEqual([]);
  });

  test("time that a virtual clock has skipped keeps runs apart", async () => {
    const clock = new Float64Array(new SharedArrayBuffer(8));
    clock[0] = 1_800_000_000_000;
    await open({ record: true, clock });
    engine.call("a:add", { status: "ready" });
    engine.send({ op: "advance", to: clock[0] + 60_000, isFirst: true });
    engine.call("a:add", { status: "ready" });
    const [first, second] = recording().records;
    expect(second.arrived - first.arrived).toBeGreaterThanOrEqual(60_000);
    expect(second.arrived - first.arrived).toBeLessThan(120_000);
  });
});

test("without a recorder nothing is kept and asking is refused", async () => {
  await open({});
  expect(() => recording()).toThrow("This host does not record: start it with --record");
});

describe("the oldest runs give way", () => {
  /** @param {Recorder} recorder @param {string} path @param {number} [bytes] */
  const note = (recorder, path, bytes = 0) => {
    recorder.begin({ path, scheduled: false, arrived: 0, reads: recorder.reads() });
    const key = Buffer.alloc(bytes, 1);
    recorder.commit(1n, [{ id: "i", table: "t", keys: [{ indexId: 1, oldKey: null, newKey: key }] }], 0);
  };
  const kept = (recorder) => [
    recorder
      .recording([])
      .records.map(({ path }) => path)
      .join(""),
    recorder.recording([]).dropped,
  ];

  test("above their number", async () => {
    await open({});
    const recorder = new Recorder({ records: 3 });
    for (const path of "abc") note(recorder, path);
    expect(kept(recorder)).toEqual(["abc", 0]);
    note(recorder, "d");
    expect(kept(recorder)).toEqual(["bcd", 1]);
  });

  test("above their bytes, one larger than all by itself too", async () => {
    await open({});
    const recorder = new Recorder({ bytes: 3000 });
    for (const path of "ab") note(recorder, path, 1300);
    expect(kept(recorder)).toEqual(["ab", 0]);
    note(recorder, "c", 1300);
    expect(kept(recorder)).toEqual(["bc", 1]);
    note(recorder, "d", 4000);
    expect(kept(recorder)).toEqual(["", 4]);
    note(recorder, "e", 10);
    expect(kept(recorder)).toEqual(["e", 4]);
  });
});

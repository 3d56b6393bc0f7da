import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { TestEngine } from "./testing.mjs";
import { decodeInt64 } from "./values.mjs";

/** @type {TestEngine} */
let engine;
beforeEach(async () => {
  engine = new TestEngine();
  await engine.load();
});
afterEach(() => engine.dispose());

const ranks = (/** @type {string} */ group) =>
  engine.call("items:list", { group }).map((/** @type {{ rank: number }} */ item) => item.rank);

describe("a batch", () => {
  test("keeps what succeeded and drops what failed", () => {
    const { replies } = engine.serve([
      engine.message("items:add", { group: "a", rank: 1 }),
      engine.message("items:addThenFail", { group: "a" }),
      engine.message("items:add", { group: "a", rank: 2 }),
      engine.message("items:list", { group: "a" }),
    ]);
    expect(replies.map(({ ok }) => ok)).toEqual([true, false, true, true]);
    expect(JSON.parse(replies[3].value)).toHaveLength(2);
    engine.reopen();
    expect(engine.serve([]).ts).toBe(replies[2].ts);
  });

  test("gives each mutation a timestamp of its own, rising", () => {
    const { ts, replies } = engine.serve(
      [1, 2, 3].map((rank) => engine.message("items:add", { group: "a", rank })),
    );
    const times = replies.map((reply) => BigInt(reply.ts));
    expect(times).toEqual([...new Set(times)].sort());
    expect(ts).toBe(String(times.at(-1)));
  });

  test("loses nothing that was answered when the file is opened again", async () => {
    engine.serve([1, 2, 3].map((rank) => engine.message("items:add", { group: "a", rank })));
    engine.reopen();
    await engine.load();
    expect(ranks("a")).toEqual([1, 2, 3]);
  });
});

describe("a call inside a mutation", () => {
  test("that fails takes back its own writes only, and can be caught", () => {
    const caught = engine.call("items:survive", { inner: "items:addThenFail", args: { group: "inner" } });
    expect(caught.message).toMatch(/^Uncaught Error: changed my mind\n {4}at handler/);
    expect([ranks("outer"), ranks("inner")]).toEqual([[0], []]);
  });

  test("hands the data of a ConvexError to the catch", () => {
    const caught = engine.call("items:survive", { inner: "items:failWithData", args: {} });
    expect(caught).toMatchObject({
      isConvexError: true,
      data: { code: "full", size: { $integer: "AwAAAAAAAAA=" } },
    });
  });

  test("has its own arguments and result checked", () => {
    const wrongArgs = engine.call("items:survive", { inner: "items:add", args: { group: 1 } });
    expect(wrongArgs.message).toContain("ArgumentValidationError");
    const missing = engine.call("items:survive", { inner: "items:nothing", args: {} });
    expect(missing.message).toContain("Could not find public function");
    expect(ranks("outer")).toEqual([0, 0]);
  });

  test("goes down with its caller", () => {
    expect(() => engine.call("items:passOn", { inner: "items:failWithData" })).toThrow("ConvexError");
    expect(ranks("data")).toEqual([]);
  });

  test("may run beside others of the same caller", () => {
    expect(engine.call("items:addInParallel")).toBe(4);
    expect(ranks("parallel")).toEqual([0, 1, 2, 3]);
  });

  test("with a stale snapshot sees the documents as they were before the mutation wrote", () => {
    engine.call("items:add", { group: "stale", rank: 3 });
    const { stale, fresh } = engine.call("items:staleCount");
    expect(stale).toEqual([3]);
    expect(fresh).toEqual([3, 7]);
    expect(ranks("stale")).toEqual([3, 7]);
  });
});

describe("clocks", () => {
  test("creation times rise inside a mutation, over mutations and over restarts, with a clock that stands", async () => {
    engine.dispose();
    engine = new TestEngine({ now: () => 1_700_000_000_000 });
    await engine.load();
    const times = [...engine.call("items:clocks"), ...engine.call("items:clocks")];
    engine.reopen();
    await engine.load();
    times.push(...engine.call("items:clocks"));
    expect(times).toEqual([...new Set(times)].sort((a, b) => a - b));
    expect(times).toHaveLength(9);
  });

  test("creation times rise over a restart also when one mutation made more documents than the clock had room for", async () => {
    engine.dispose();
    engine = new TestEngine({ now: () => 1_700_000_000_000 });
    await engine.load();
    engine.call("items:addMany", { count: 9000 });
    engine.reopen();
    await engine.load();
    engine.call("items:addMany", { count: 1 });
    const [last, before] = engine.call("bag:newest", { table: "items" });
    expect(last._creationTime).toBeGreaterThan(before._creationTime);
  });

  test("timestamps rise over a restart with a clock that went back", async () => {
    const before = BigInt(engine.reply("items:add", { group: "a", rank: 1 }).ts);
    const created = engine.call("items:first", { group: "a" })._creationTime;
    engine.reopen({ now: () => 1_000_000_000_000 });
    await engine.load();
    expect(BigInt(engine.reply("items:add", { group: "b", rank: 1 }).ts)).toBeGreaterThan(before);
    expect(engine.call("items:first", { group: "b" })._creationTime).toBeGreaterThan(created);
  });

  test("timestamps, ids and creation times rise while the clock goes back", async () => {
    let now = 1_700_000_000_000;
    engine.dispose();
    engine = new TestEngine({ now: () => now });
    await engine.load();
    const seen = [];
    for (const back of [0, 1, 3_600_000, 10 * 365 * 86_400_000]) {
      now -= back;
      const { ts } = engine.reply("items:add", { group: "a", rank: back });
      const { _id, _creationTime } = engine.call("bag:newest", { table: "items" })[0];
      seen.push([BigInt(ts), _id, _creationTime]);
    }
    for (const [i, [ts, id, created]] of seen.slice(1).entries()) {
      const before = seen[i];
      expect([ts > before[0], id > before[1], created > before[2]]).toEqual([true, true, true]);
    }
  });

  test("ids are not used again after their documents are gone and the host was restarted", async () => {
    const id = engine.call("items:add", { group: "a", rank: 1 });
    engine.call("items:remove", { id });
    engine.reopen();
    await engine.load();
    expect(engine.call("items:add", { group: "a", rank: 2 })).not.toBe(id);
    expect(engine.call("items:get", { id })).toBeNull();
  });

  test("tables keep their numbers over a restart", async () => {
    const id = engine.call("items:add", { group: "a", rank: 1 });
    engine.reopen();
    await engine.load();
    expect(engine.call("items:get", { id })).toMatchObject({ rank: 1 });
  });
});

describe("the commit timestamp", () => {
  test("is a placeholder for its own mutation and the commit's nanoseconds for all others", () => {
    const { value, ts } = engine.reply("events:add", { text: "one" });
    expect(JSON.parse(value)).toMatchObject({ isPlaceholder: true, found: 1 });
    const [event] = engine.call("events:all");
    expect(event.text).toBe("one!");
    expect(decodeInt64(event.at)).toBe(BigInt(ts));
  });

  test("rises from mutation to mutation of one batch, and orders the index", () => {
    engine.serve(["a", "b", "c"].map((text) => engine.message("events:add", { text })));
    const events = engine.call("events:all");
    const times = events.map((/** @type {any} */ event) => decodeInt64(event.at));
    expect(times).toEqual([...new Set(times)].sort());
    const after = engine.call("events:all", { after: events[0].at });
    expect(after.map((/** @type {any} */ event) => event.text)).toEqual(["b!", "c!"]);
  });

  test("is a placeholder again when a nested write over it is undone", () => {
    expect(engine.call("events:rollBackInside")).toEqual({ text: "kept", isPlaceholder: true });
  });

  test("is resolved in what its mutation returns", () => {
    const { value, ts } = engine.reply("events:addAndReturn");
    const [event, at] = JSON.parse(value);
    expect([decodeInt64(event.at), decodeInt64(at)]).toEqual([BigInt(ts), BigInt(ts)]);
    expect(event.text).toBe('{"$commitTs":null}');
    const nothingWritten = engine.reply("events:returnPlaceholder");
    expect(decodeInt64(JSON.parse(nothingWritten.value))).toBe(BigInt(nothingWritten.ts));
  });

  test("cannot leave its mutation unresolved", () => {
    expect(() => engine.call("events:schedulePlaceholder")).toThrow(
      "cannot be an argument of a scheduled function",
    );
  });

  test("is on the clock of getSnapshotTs", () => {
    const { ts } = engine.reply("events:add", { text: "one" });
    expect(decodeInt64(engine.call("events:snapshotTs"))).toBe(BigInt(ts));
  });
});

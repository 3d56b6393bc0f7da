import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ADMIN, ANYONE, TestEngine } from "./testing.mjs";

/** @type {TestEngine} */
let engine;
beforeEach(async () => {
  engine = new TestEngine();
  await engine.load();
});
afterEach(() => engine.dispose());

const ranks = (/** @type {string} */ group) =>
  engine.call("items:list", { group }).map((/** @type {{ rank: number }} */ item) => item.rank);

describe("finding a function", () => {
  test("a default export answers to its module", () => {
    expect(engine.call("nested/deep:default")).toBe("the default export");
  });

  test("an unknown function is named in the refusal", () => {
    expect(() => engine.call("items:nothing")).toThrow(
      /^\[Request ID: [0-9a-f]{16}\] Server Error\nCould not find function for 'items:nothing'\. Did you forget to run `npx convex dev`\?\n$/,
    );
  });

  test("an internal function is hidden from clients and open to the admin", () => {
    expect(() => engine.call("items:secret", {}, { caller: ANYONE })).toThrow(
      "Could not find public function",
    );
    expect(engine.call("items:secret", {}, { caller: ADMIN })).toBe("for insiders");
  });

  test("a function of another kind is refused by name", () => {
    expect(() => engine.call("items:list", { group: "a" }, { kind: "mutation" })).toThrow(
      "Trying to execute items.js:list as Mutation, but it is defined as Query.",
    );
    expect(() => engine.call("items:act")).toThrow("but it is defined as Action.");
  });
});

describe("arguments and results", () => {
  test("wrong arguments are refused and nothing is written", () => {
    expect(() => engine.call("items:add", { group: "a", rank: "high" })).toThrow("ArgumentValidationError: ");
    expect(() => engine.call("items:add", { group: "a" })).toThrow("missing the required field `rank`");
    expect(() => engine.call("items:add", { group: "a", rank: 1, more: 1 })).toThrow("extra field `more`");
    expect(ranks("a")).toEqual([]);
  });

  test("anything but one object is refused by a function that says what it takes", () => {
    const call = (/** @type {string} */ args) => () => {
      const [reply] = engine.serve([{ ...engine.message("items:add", {}), args }]).replies;
      throw new Error(reply.message);
    };
    expect(call("[]")).toThrow(
      "ArgumentValidationError: Expected to receive a single object as the function's argument. Instead received 0 arguments: []",
    );
    expect(call('[{"group":"a"},1]')).toThrow('Instead received 2 arguments: [{group: "a"}, 1.0]');
    expect(call("[[1]]")).toThrow(
      "ArgumentValidationError: Expected to receive an object as the function's argument. Instead received: [1.0]",
    );
  });

  test("an id of another table is refused", () => {
    const { id } = engine.call("events:add", { text: "x" });
    expect(() => engine.call("items:get", { id })).toThrow("ArgumentValidationError: ");
  });

  test("a result that does not fit its validator is refused", () => {
    expect(() => engine.call("items:wrongReturn")).toThrow("ReturnsValidationError: ");
  });

  test("a value that Convex does not know is refused by name", () => {
    expect(() => engine.call("items:unserializable")).toThrow('Map[["a",1]] is not a supported Convex type');
  });

  test("every kind of value survives in both directions", () => {
    const value = {
      "": "an empty key",
      big: { $integer: "//////////8=" },
      bytes: { $bytes: "AAEC" },
      float: { $float: "AAAAAAAA+H8=" },
      list: [null, true, -1.5, "Grüße 🚦"],
    };
    expect(engine.call("items:echo", { value })).toEqual(value);
  });

  test("a text of six million characters survives", () => {
    const value = "x".repeat(6_000_000);
    expect(engine.call("items:echo", { value })).toBe(value);
  });

  test("arguments and results end at their limits", async () => {
    const small = new TestEngine({ limits: { argsBytes: 2060, resultBytes: 2002 } });
    await small.load();
    const echo = (/** @type {number} */ length) => small.call("items:echo", { value: "x".repeat(length) });
    expect(echo(2000)).toHaveLength(2000);
    expect(() => echo(2001)).toThrow(
      "Function items.js:echo return value is too large (actual: 1.96 KiB, limit: 1.96 KiB)",
    );
    const args = (/** @type {number} */ length) =>
      small.call("items:passOnLength", { value: "x".repeat(length) });
    expect(args(2048)).toBe(2048);
    expect(() => args(2049)).toThrow(
      "Arguments for items.js:passOnLength are too large (actual: 2.01 KiB, limit: 2.01 KiB)",
    );
    small.dispose();
  });

  test("values have Convex's bounds on the way in and out", () => {
    const echo = (/** @type {unknown} */ value) => () => engine.call("items:echo", { value });
    expect(echo(Array(8192).fill(0))).not.toThrow();
    expect(echo(Array(8193).fill(0))).toThrow(
      /Error\nInvalid arguments for items\.js:echo: Array length is too long \(8193 > maximum length 8192\)\n$/,
    );
    const object = (/** @type {number} */ fields) =>
      Object.fromEntries(Array.from({ length: fields }, (_, i) => [`f${i}`, 0]));
    expect(echo(object(1024))).not.toThrow();
    expect(echo(object(1025))).toThrow("Object has too many fields (1025 > maximum number 1024)");
    const deep = (/** @type {number} */ levels) => JSON.parse("[".repeat(levels) + "]".repeat(levels));
    expect(echo(deep(62))).not.toThrow(); // the arguments and their list are the other two
    expect(echo(deep(63))).toThrow("Value is too nested (nested 65 levels deep > maximum nesting 64)");
    expect(engine.call("items:make", { kind: "array", count: 8192 })).toHaveLength(8192);
    expect(() => engine.call("items:make", { kind: "array", count: 8193 })).toThrow(
      /Error\nFunction items\.js:make return value invalid: Array length is too long \(8193 > maximum length 8192\)\n$/,
    );
    expect(() => engine.call("items:make", { kind: "nested", count: 64 })).not.toThrow();
    expect(() => engine.call("items:make", { kind: "nested", count: 65 })).toThrow("nested 65 levels deep");
    expect(() => engine.call("items:make", { kind: "fields", count: 1025 })).toThrow("too many fields (1025");
  });

  test("field names have Convex's rules, and what starts with an underscore may be inside", () => {
    const echo = (/** @type {unknown} */ value) => () => engine.call("items:echo", { value });
    expect(echo({ "": 1, "a b": { _c: 2 }, ["x".repeat(1024)]: 3 })).not.toThrow();
    expect(echo({ $a: 1 })).toThrow("Field name $a starts with '$', which is reserved.");
    expect(echo({ é: 1 })).toThrow("Field names can only contain non-control ASCII characters");
    expect(echo({ "a\n": 1 })).toThrow("Field names can only contain non-control ASCII characters");
    expect(echo({ ["x".repeat(1025)]: 1 })).toThrow("Field name is too long (1025 > maximum 1024)");
  });

  test("half of a surrogate pair is refused wherever it comes from", () => {
    const make = (/** @type {string} */ kind) => () => engine.call("items:make", { kind, count: 1 });
    expect(make("pair")).not.toThrow();
    expect(make("high")).toThrow(
      "Function items.js:make failed. Could not parse return value as json: unexpected end of hex escape at line 1 column 8",
    );
    expect(make("low")).toThrow("lone leading surrogate in hex escape at line 1 column 7");
    expect(() => engine.call("items:insertSurrogate")).toThrow(
      "Uncaught Error: Received invalid json: unexpected end of hex escape at line 1 column",
    );
  });
});

describe("errors", () => {
  test("an error carries its name, its message and the frames of the app's own files", () => {
    expect(() => engine.call("items:addThenFail", { group: "a" })).toThrow(
      /^\[Request ID: [0-9a-f]{16}\] Server Error\nUncaught Error: changed my mind\n {4}at handler \(\.\.\/convex\/items\.ts:88:11\)\n/,
    );
  });

  test("the frames of the host are left out and awaiting callers are in", () => {
    const [, ...frames] = failureOf("runtime:throwDeep").message.split("\n    at ");
    expect(frames[0]).toMatch(/^inner \(\.\.\/convex\/runtime\.ts:\d+:\d+\)$/);
    expect(frames[1]).toMatch(/^(?:async )?outer \(\.\.\/convex\/runtime\.ts/);
    expect(frames.join()).not.toMatch(/prelude|node:|engine/);
  });

  test("something else than an error can be thrown", () => {
    expect(failureOf("runtime:throwText").message).toMatch(/\nUncaught only a text\n$/);
  });

  test("the data of a ConvexError reaches the client, and what was written is gone", () => {
    expect(failureOf("items:failWithData").data).toEqual({
      code: "full",
      size: { $integer: "AwAAAAAAAAA=" },
    });
    expect(ranks("data")).toEqual([]);
  });

  test("a plain error has no data", () => {
    expect(failureOf("items:addThenFail", { group: "a" }).data).toBeUndefined();
  });

  test("an error says Uncaught for each call that it left, with the frames of each", () => {
    expect(failureOf("items:passOn", { inner: "items:failWithData" }).message).toMatch(
      /\nUncaught ConvexError: Uncaught ConvexError: \{.*\}\n {4}at handler \(\.\.\/convex\/items\.ts:\d+:\d+\)\n\n$/,
    );
  });

  test("the frames of a call are its own, those that await it included", () => {
    expect(failureOf("runtime:helped").message).toMatch(
      /\nUncaught Error: Uncaught Error: helped\n {4}at helper \(.*\n {4}at async handler \(.*\n\n {4}at async handler \(.*\n$/,
    );
  });

  test("functions without a name are frames too, those that await included", () => {
    expect(failureOf("runtime:nameless").message).toMatch(
      /\nUncaught Error: Uncaught Error: helped\n {4}at helper \(.*\n {4}at async handler \(.*\n\n {4}at async <anonymous> \(\.\.\/convex\/runtime\.ts:\d+:\d+\)\n$/,
    );
  });

  test("what the host refuses of a call ends its line, for its caller too", () => {
    expect(failureOf("items:passOn", { inner: "items:patch" }).message).toMatch(
      /\nUncaught Error: ArgumentValidationError: [^]*[^\n]\n\n$/,
    );
    expect(failureOf("items:passOn", { inner: "items:none" }).message).toMatch(
      /\nUncaught Error: Could not find public function for [^\n]*\n( {4}at [^\n]*\n)*$/,
    );
  });

  test("data of a ConvexError passes through nested calls", () => {
    expect(failureOf("items:passOn", { inner: "items:failWithData" }).data).toMatchObject({ code: "full" });
  });

  test("log lines come with a failure too", () => {
    expect(() => engine.call("items:patch", { id: "nonsense", fields: {} })).toThrow(
      "ArgumentValidationError",
    );
    expect(failureOf("items:addThenFail", { group: "a" }).logLines).toEqual([]);
  });
});

describe("documents", () => {
  test("patch sets fields and removes what is undefined", () => {
    const id = engine.call("items:add", { group: "a", rank: 1, note: "old" });
    expect(engine.call("items:patch", { id, fields: { rank: 2 } })).toMatchObject({ rank: 2, note: "old" });
    expect(engine.call("items:patch", { id, fields: { rank: 3 }, unset: "note" })).not.toHaveProperty("note");
    expect(ranks("a")).toEqual([3]);
  });

  test("replace drops the other fields and keeps the system fields", () => {
    const id = engine.call("items:add", { group: "a", rank: 1, note: "old" });
    const before = engine.call("items:get", { id });
    const after = engine.call("items:replace", { id, fields: { group: "b", rank: 2 } });
    expect(after).toEqual({ _id: id, _creationTime: before._creationTime, group: "b", rank: 2 });
    expect([ranks("a"), ranks("b")]).toEqual([[], [2]]);
  });

  test("system fields cannot be changed", () => {
    const id = engine.call("items:add", { group: "a", rank: 1 });
    expect(() => engine.call("items:patch", { id, fields: { _creationTime: 1 } })).toThrow(
      "Provided creation time ",
    );
    expect(engine.call("items:patch", { id, fields: { _id: id, rank: 4 } })).toMatchObject({ rank: 4 });
    expect(engine.call("items:patch", { id, fields: {}, unset: "_id" })).toMatchObject({ _id: id });
    const other = engine.call("items:add", { group: "a", rank: 2 });
    expect(() => engine.call("items:replace", { id, fields: { _id: other, group: "a", rank: 1 } })).toThrow(
      `Provided document ID "${id}" doesn't match '_id' field "${other}"`,
    );
    expect(() => engine.call("bag:insertInto", { table: "bag", value: { _id: id } })).toThrow(
      `doesn't match '_id' field "${id}"`,
    );
    expect(() => engine.call("bag:insertInto", { table: "bag", value: { _new: 1 } })).toThrow(
      "isn't a valid document: Field '_new' starts with an underscore, which is only allowed for system fields like '_id'",
    );
  });

  test("a deleted document is gone for the mutation that deleted it and for all after it", () => {
    const id = engine.call("items:add", { group: "a", rank: 1 });
    expect(engine.call("items:remove", { id })).toBeNull();
    expect(engine.call("items:get", { id })).toBeNull();
    expect(() => engine.call("items:remove", { id })).toThrow(`Delete on nonexistent document ID ${id}`);
    expect(() => engine.call("items:patch", { id, fields: {} })).toThrow(
      `Update on nonexistent document ID ${id}`,
    );
    expect(() => engine.call("items:replace", { id, fields: {} })).toThrow(
      `Replace on nonexistent document ID ${id}`,
    );
  });

  test("a document that does not fit the schema is refused", () => {
    expect(() => engine.call("bag:insertInto", { table: "items", value: { group: 1, rank: 1 } })).toThrow(
      'Failed to insert or update a document in table "items" because it does not match the schema: ',
    );
    const id = engine.call("items:add", { group: "a", rank: 1 });
    expect(() => engine.call("items:patch", { id, fields: { rank: "x" } })).toThrow(
      "does not match the schema",
    );
    expect(ranks("a")).toEqual([1]);
  });

  test("a table that no schema names is made at its first document", () => {
    expect(engine.call("bag:countOf", { table: "unheard" })).toBe(0);
    engine.call("bag:insertInto", { table: "unheard", value: { x: 1 } });
    expect(engine.call("bag:countOf", { table: "unheard" })).toBe(1);
  });

  test("system tables and bad table names are refused", () => {
    const insert = (/** @type {string} */ table) => () => engine.call("bag:insertInto", { table, value: {} });
    expect(insert("_scheduled_functions")).toThrow("System tables (prefixed with `_`) are read-only.");
    expect(insert("a-b")).toThrow(
      "Invalid argument `table` for `db.insert`: Identifier a-b has invalid character '-': Identifiers can only contain alphanumeric characters or underscores",
    );
    expect(insert("1a")).toThrow(
      "Invalid first character '1' in 1a: Identifiers must start with an alphabetic character or underscore",
    );
    expect(insert("")).toThrow("Invalid argument `table` for `db.insert`: Identifier cannot be empty");
    expect(insert("a".repeat(65))).toThrow("Identifier is too long (65 > maximum 64)");
    expect(insert("a".repeat(64))).not.toThrow();
  });

  test("get refuses what is no id, and an id of another table than the one that is named", () => {
    const id = engine.call("items:add", { group: "a", rank: 1 });
    expect(() => engine.call("items:getAny", { id: "nonsense" })).toThrow(
      "Invalid argument `id` for `db.get`: Unable to decode ID: Invalid ID length 8",
    );
    expect(() => engine.call("items:getFrom", { table: "events", id })).toThrow(
      'Invalid argument `id` for `db.get`: expected to be an Id<"events">, got Id<"items"> instead.',
    );
    expect(engine.call("items:getFrom", { table: "items", id })).toMatchObject({ rank: 1 });
  });

  test("normalizeId knows the ids of a table", () => {
    const id = engine.call("items:add", { group: "a", rank: 1 });
    expect(engine.call("items:normalize", { table: "items", id })).toBe(id);
    expect(engine.call("items:normalize", { table: "events", id })).toBeNull();
    expect(engine.call("items:normalize", { table: "items", id: "nonsense" })).toBeNull();
  });
});

describe("who calls", () => {
  test("the identity is that of the caller, also in nested calls", () => {
    const caller = {
      admin: false,
      identity: { subject: "ann", issuer: "test", tokenIdentifier: "test|ann" },
    };
    expect(engine.call("items:identity", {}, { caller })).toEqual(caller.identity);
    expect(engine.call("items:whoRunsInside", {}, { caller })).toEqual(["ann", "ann"]);
    expect(engine.call("items:identity")).toBeNull();
  });
});

describe("a request with a key", () => {
  const once = { session: "5f0c", request: 3 };
  const add = () => engine.reply("items:add", { group: "once", rank: 1 }, { once });

  test("is applied once and answered alike each time, also after a restart", async () => {
    const first = add();
    expect(add()).toMatchObject({ value: first.value, ts: first.ts });
    engine.reopen();
    await engine.load();
    expect(add()).toMatchObject({ value: first.value, ts: first.ts });
    expect(ranks("once")).toEqual([1]);
  });

  test("runs again when it failed", () => {
    expect(() => engine.reply("items:addThenFail", { group: "once" }, { once })).toThrow("changed my mind");
    add();
    expect(ranks("once")).toEqual([1]);
  });
});

describe("syscalls", () => {
  test("a query cannot write", () => {
    expect(() => engine.call("items:writeFromQuery")).toThrow("cannot be used in a query");
  });

  test("an unknown one is called unknown", () => {
    expect(() => engine.call("items:unknownSyscall")).toThrow("Unknown async operation 1.0/noSuchThing");
  });
});

describe("limits", () => {
  /** @param {Partial<import("./limits.mjs").Limits>} limits */
  async function limited(limits) {
    engine.dispose();
    engine = new TestEngine({ limits });
    await engine.load();
    for (let rank = 0; rank < 5; rank++) engine.call("items:add", { group: "a", rank });
  }

  test("documents read end at the limit", async () => {
    await limited({ documentsRead: 3 });
    expect(engine.call("bag:readMany", { count: 3 })).toBe(3);
    expect(() => engine.call("bag:readMany", { count: 4 })).toThrow(
      "Too many documents read in a single function execution (limit: 3). Consider using smaller limits",
    );
  });

  test("bytes read end at the limit", async () => {
    await limited({ bytesRead: 300 });
    expect(engine.call("bag:readMany", { count: 1 })).toBe(1);
    expect(() => engine.call("bag:readMany", { count: 5 })).toThrow("Too many bytes read");
  });

  test("index ranges end at the limit", async () => {
    await limited({ databaseQueries: 3 });
    expect(engine.call("bag:getMany", { count: 3 })).toBe(3);
    expect(() => engine.call("bag:getMany", { count: 4 })).toThrow(
      "Too many reads in a single function execution (limit: 3)",
    );
  });

  test("documents written end at the limit, and nothing of such a call stays", async () => {
    await limited({ documentsWritten: 2 });
    engine.call("items:addMany", { count: 2 });
    expect(() => engine.call("items:addMany", { count: 3 })).toThrow(
      "Too many writes in a single function execution (limit: 2)",
    );
    expect(ranks("many")).toEqual([0, 1]);
  });

  test("bytes written end at the limit", async () => {
    await limited({ bytesWritten: 1 << 20 });
    const write = (/** @type {number} */ length) =>
      engine.call("bag:insertInto", { table: "bag", value: { text: "x".repeat(length) } });
    write(1_000_000);
    engine.reopen({ limits: { bytesWritten: 1000 } });
    await engine.load();
    expect(() => write(1000)).toThrow("Too many bytes written in a single function execution (limit: 1 KB)");
  });

  test("the arguments of scheduled functions end at the limit", async () => {
    await limited({ scheduledFunctionArgsBytes: 200 });
    expect(() => engine.call("jobs:many", { count: 50 })).toThrow(
      "Too large total size of the arguments of scheduled functions from this mutation (limit: 200 bytes)",
    );
  });

  test("a call that comes near to a limit is warned", async () => {
    await limited({ documentsRead: 5, documentsWritten: 10 });
    expect(engine.reply("bag:readMany", { count: 4 }).logLines).toEqual([]);
    expect(engine.reply("bag:readMany", { count: 5 }).logLines).toEqual([
      expect.stringMatching(
        /^\[WARN\] Many documents read in a single function execution \(actual: 5, limit: 5\)\. Consider using smaller limits in your queries/,
      ),
    ]);
    expect(engine.reply("items:addMany", { count: 9 }).logLines).toEqual([
      "[WARN] Many writes in a single function execution (actual: 9, limit: 10).",
    ]);
  });

  test("a call inside a call may be given less, and what it wrote in vain does not count", async () => {
    const inner = (/** @type {object} */ limits) =>
      engine.call("items:callWithLimits", { inner: "items:addMany", args: { count: 2 }, limits });
    expect(inner({ documentsWritten: 2 })).toMatchObject({ error: null, written: 3 });
    expect(inner({ documentsWritten: 1 })).toMatchObject({
      error: expect.stringContaining("Too many writes in a single function execution (limit: 2)"),
      written: 1,
    });
    expect(inner({ documentsRead: 0 })).toMatchObject({ error: null, written: 3 });
  });

  test("scheduled functions end at the limit", async () => {
    await limited({ functionsScheduled: 2 });
    engine.call("jobs:many", { count: 2 });
    expect(() => engine.call("jobs:many", { count: 3 })).toThrow(
      "Too many functions scheduled by this mutation (limit: 2)",
    );
    expect(engine.call("jobs:all")).toHaveLength(2);
  });

  test("calls inside calls end at the limit", () => {
    expect(engine.call("items:recurse", { depth: 8 })).toBe(8);
    expect(() => engine.call("items:recurse", { depth: 9 })).toThrow(
      "Cross component call depth limit exceeded. Do you have an infinite loop in your app?",
    );
  });

  test("a mutation can ask what it has used", () => {
    const metrics = engine.call("items:metrics");
    expect(metrics.documentsWritten).toEqual({ used: 1, remaining: 15_999 });
    expect(metrics.documentsRead.used).toBe(1);
    expect(metrics.databaseQueries.used).toBe(1);
  });
});

/**
 * @param {string} path
 * @param {object} [args]
 * @returns {import("./testing.mjs").CallFailed}
 */
function failureOf(path, args) {
  try {
    engine.call(path, args);
  } catch (error) {
    return /** @type {any} */ (error);
  }
  throw new Error(`${path} did not fail`);
}

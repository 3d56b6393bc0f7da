import { once } from "node:events";
import { createServer } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ADMIN_KEY, startTestHost } from "./testing.mjs";

const PATIENTLY = { timeout: 10_000 }; // on a loaded machine

/** @type {Awaited<ReturnType<typeof startTestHost>>} */
let host;
beforeAll(async () => void (host = await startTestHost()));
afterAll(() => host.stop());

const error = async (name, args) => (await host.reply("action", name, args)).errorMessage;
const asUser = (subject) =>
  `${ADMIN_KEY}:${Buffer.from(JSON.stringify({ subject, issuer: "https://i" })).toString("base64")}`;
async function rows(wanted) {
  for (let tries = 0; tries < 100; tries++) {
    if ((await host.query("acts:rows")).includes(wanted)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`no row ${wanted}`);
}

test("an action is warned of arguments and a value near their limits, after its own lines", async () => {
  const { logLines } = await host.reply("action", "acts:echo", { text: "x".repeat(14_000_000) });
  expect(logLines).toEqual([
    "[LOG] 'echoes'",
    "[WARN] Large size of the action arguments (actual: 14000011 bytes, limit: 16777216 bytes).",
    "[WARN] Large size of the action return value (actual: 14000002 bytes, limit: 16777216 bytes).",
  ]);
}, 20_000);

test("an action that does not wait for what it began is warned of it", async () => {
  const server = createServer(() => {}).listen(0, "127.0.0.1"); // which never answers
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  const { value, logLines } = await host.reply("action", "acts:hasty", { url: `http://127.0.0.1:${port}/` });
  server.closeAllConnections();
  server.close();
  expect(value).toBeNull();
  expect(logLines).toEqual([
    expect.stringMatching(
      /^\[WARN\] [123] unawaited operations?: \[fetch(, query)?\]\. Async operations should be awaited or they might not run\. See https:\/\/docs\.convex\.dev\/functions\/actions#dangling-promises for more information\.$/,
    ),
  ]);
});

describe("validators", () => {
  test("an action's arguments are checked before it runs", async () => {
    const answer = await host.reply("action", "acts:checked", { n: "one" });
    expect(answer.errorMessage).toMatch(
      /^\[Request ID: [0-9a-f]{16}\] Server Error\nArgumentValidationError: /,
    );
    expect(answer.logLines ?? []).toEqual([]);
  });

  test("an action's value is checked after it ran, and its log lines come with the failure", async () => {
    const answer = await host.reply("action", "acts:checked", { n: -1 });
    expect(answer.errorMessage).toContain("ReturnsValidationError: ");
    expect(answer.logLines).toEqual(["[LOG] 'ran with' -1"]);
    expect(await host.act("acts:checked", { n: 1 })).toBe("positive");
  });

  test("a function that returns undefined yields null", async () => {
    expect(await host.act("acts:plain")).toBeNull();
  });
});

describe("calls from an action", () => {
  const call = (kind, path, args = {}) => host.act("acts:callInner", { kind, path, args });

  test("a ConvexError keeps its class and its data through every kind of call", async () => {
    expect(await call("mutation", "acts:refuse")).toMatchObject({
      isConvexError: true,
      data: { big: { $integer: "BwAAAAAAAAA=" }, bytes: { $bytes: "AQ==" } },
    });
    expect(await call("action", "acts:refuseAction")).toMatchObject({
      isConvexError: true,
      data: "from below",
    });
    expect(await host.query("acts:rows")).not.toContain("undone");
  });

  test("a plain error keeps its text and has no data", async () => {
    const caught = await call("action", "acts:fail");
    expect(caught).toMatchObject({ isConvexError: false, data: null });
    expect(caught.message).toMatch(
      /^Uncaught TypeError: plain failure\n {4}at handler \(\.\.\/convex\/acts\.ts:/,
    );
  });

  test("wrong arguments and values of what is called can be caught", async () => {
    expect((await call("mutation", "acts:add", { text: 1 })).message).toMatch(/^ArgumentValidationError: /);
    expect((await call("action", "acts:checked", { n: 0 })).message).toMatch(/^ReturnsValidationError: /);
    expect((await call("query", "acts:nowhere")).message).toContain("Could not find");
    expect((await call("query", "acts:add", { text: "x" })).message).toContain(
      "Trying to execute acts.js:add as Query, but it is defined as Mutation.",
    );
  });

  test("the identity passes to nested calls and not to scheduled ones", async () => {
    const answer = await host.reply("action", "acts:whoamiBelow", {}, asUser("zoë"));
    expect(answer.value).toBe("zoë");
    await rows("nobody");
  });

  test("a function is called and scheduled by its handle", async () => {
    const [handle, nothing, seen] = await host.act("acts:byHandle");
    expect(handle).toMatch(/^function:\/\//);
    expect([nothing, seen.includes("by handle")]).toEqual([null, true]);
    await rows("later by handle");
  });

  test("what the host does not have, and what is too large, is refused in the action", async () => {
    expect(await host.act("acts:refusals")).toEqual([
      "Unknown async operation 1.0/nothing",
      "File storage needs Convex itself, this host has no file storage",
      "Invalid arguments for `runQuery`: Missing required argument 'name'",
      "Function handle not found",
      "Function handle not found",
      expect.stringContaining("too large"),
    ]);
  });

  test("many calls at once are all answered", async () => {
    expect(await host.act("acts:many", { count: 100 })).toBe(100);
  });
});

describe("scheduling from an action", () => {
  test("is refused for times that are none, with Convex's texts", async () => {
    const at = (ms) => error("acts:schedule", { ms, path: "acts:plain" });
    expect(await at({ $float: "AAAAAAAA+H8=" })).toContain(
      "Invalid arguments for `scheduler`: invalid type: null, expected f64",
    );
    expect(await at(-1)).toContain(
      "Invalid arguments for `ts`: cannot convert float seconds to Duration: value is negative",
    );
    expect(await at(Date.now() + 6 * 366 * 24 * 3600 * 1000)).toContain(
      " is more than 5 years in the future",
    );
    expect(await error("acts:schedule", { ms: Date.now(), path: "acts:nothing" })).toContain(
      "Attempted to schedule function",
    );
  });

  test("of what is no job cannot be canceled", async () => {
    const text = "Invalid argument `id` for `db.cancel_job`: Unable to decode ID: Invalid ID length 8";
    expect(await error("acts:cancel", { id: "nonsense" })).toContain(text);
    const [row] = await host.query("acts:rowIds");
    expect(await error("acts:cancel", { id: row })).toContain("Invalid scheduled function ID.");
  });

  test("an action that cancels itself is canceled, goes on, and what it schedules then is canceled too", async () => {
    const id = await host.act("acts:scheduleSelfCancel");
    const job = () => host.query("acts:job", { id });
    await expect
      .poll(async () => (await host.query("acts:rows")).includes("after the cancellation"), PATIENTLY)
      .toBe(true);
    expect(await job()).toMatchObject({ state: { kind: "canceled" }, completedTime: expect.any(Number) });
    const [child] = await host.query("acts:jobsNamed", { name: "acts.js:add" });
    expect(child.state).toEqual({ kind: "canceled" });
  });

  test("a scheduled action that fails has the error as its state", async () => {
    const id = await host.act("acts:scheduleFailure");
    await expect
      .poll(async () => (await host.query("acts:job", { id })).state, PATIENTLY)
      .toEqual({
        kind: "failed",
        error: expect.stringMatching(/^Uncaught TypeError: plain failure\n {4}at handler \(/),
      });
    expect(host.lines.some((line) => line.startsWith("acts:fail: [ERROR] Uncaught TypeError"))).toBe(true);
  });

  test("gives a job that can be read", async () => {
    const ms = Date.now() + 3_600_000;
    expect(await host.act("acts:schedule", { ms, path: "acts:plain" })).toMatchObject({
      name: "acts.js:plain",
      args: [{}],
      scheduledTime: ms,
      state: { kind: "pending" },
    });
  });
});

describe("log lines", () => {
  test("are kept up to 256, the last one saying so", async () => {
    const { logLines } = await host.reply("action", "acts:log", { count: 300 });
    expect(logLines).toHaveLength(256);
    expect(logLines.slice(-2)).toEqual([
      "[INFO] 'line' 254",
      "[ERROR] Log overflow (maximum 256). Remaining log lines omitted.",
    ]);
  });

  test("are cut at 32 KiB", async () => {
    const { logLines } = await host.reply("action", "acts:longLine");
    expect([logLines[0].length, logLines[0].slice(-40)]).toEqual([
      "[LOG] ".length + 32 * 1024 + " (truncated due to length)".length,
      `${"x".repeat(14)} (truncated due to length)`,
    ]);
  });

  test("tell how long something took", async () => {
    const { logLines } = await host.reply("action", "acts:log", { count: 0 });
    expect(logLines).toEqual([
      expect.stringMatching(/^\[INFO\] t: \d+ms$/),
      "[WARN] Timer 't' does not exist",
    ]);
  });

  test("print values as those of queries do, and a trace with frames of the app's own source", async () => {
    const { logLines } = await host.reply("action", "acts:trace");
    expect(logLines).toEqual([
      expect.stringMatching(
        /^\[LOG\] 'here' \{\n {2}a: 1\n\} \n {4}at \S+ \(\.\.\/convex\/acts\.ts:\d+:\d+\)\n$/,
      ),
    ]);
  });

  test("of actions that run at once are kept apart", async () => {
    const answers = await Promise.all([
      host.reply("action", "acts:sleep", { ms: 30 }),
      host.reply("action", "acts:log", { count: 2 }),
      host.reply("action", "acts:sleep", { ms: 10 }),
    ]);
    expect(answers.map(({ logLines }) => logLines.length)).toEqual([1, 4, 1]);
  });
});

describe("an action's end", () => {
  test("a promise that nobody awaits fails the action that rejected it, and no other", async () => {
    const [failed, other] = await Promise.all([
      error("acts:rejects"),
      host.reply("action", "acts:sleep", { ms: 20 }),
    ]);
    expect(failed).toContain(
      "Server Error\nUncaught Error: nobody awaits this\n    at handler (../convex/acts.ts:",
    );
    expect(other.value).toBe("awake");
  });

  test("is the end of its timers", async () => {
    await host.act("acts:leftover");
    await host.act("acts:sleep", { ms: 30 });
    expect(await host.act("acts:leftover")).toBeLessThan(3);
  });
});

test("an action searches vectors, with a filter", async () => {
  const add = (name, vector, color) => host.reply("mutation", "acts:addVector", { name, vector, color });
  await add("east", [1, 0], "red");
  await add("north", [0, 1], "red");
  await add("north-east", [1, 1], "blue");
  const nearest = (colors) => host.act("acts:nearest", { vector: [1, 0], colors });
  expect(await nearest(["red", "blue"])).toEqual([
    ["east", expect.closeTo(1, 5)],
    ["north-east", expect.closeTo(Math.SQRT1_2, 5)],
  ]);
  expect((await nearest(["red"])).map(([name]) => name)).toEqual(["east", "north"]);
});

test("actions have the globals of Convex's runtime, with fetch, timers, streams and real randomness", async () => {
  const server = createServer((request, response) => request.pipe(response));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${server.address().port}`;
  expect(await host.act("acts:realm", { url })).toEqual({
    absent: true,
    process: ["env"],
    env: [host.url, host.siteUrl, null],
    timer: "number",
    fetched: "streamed",
    form: "b",
    random: 3,
    signs: 32,
  });
  server.close();
});

import { rmSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { TestEngine, temporaryFolder, writeFunctions } from "./testing.mjs";

const START = 1_700_000_000_000;
let now = START;
/** @type {TestEngine} */
let engine;
beforeEach(async () => {
  now = START;
  engine = new TestEngine({ now: () => now });
  await engine.load();
});
afterEach(() => engine.dispose());

const later = (
  /** @type {number} */ delayMs,
  path = "jobs:record",
  args = /** @type {object} */ ({ text: "x" }),
) => engine.call("jobs:later", { delayMs, path, args });
const job = (/** @type {string} */ id) => engine.call("jobs:job", { id });
const texts = () => engine.call("jobs:bag").map((/** @type {{ text: string }} */ document) => document.text);

describe("a scheduled mutation", () => {
  test("waits until it is due, then runs once and has succeeded", () => {
    const id = later(1000);
    expect(job(id)).toMatchObject({
      name: "jobs.js:record",
      args: [{ text: "x" }],
      scheduledTime: START + 1000,
      state: { kind: "pending" },
    });
    expect(engine.engine.nextWake()).toBe(START + 1000);
    now = START + 999;
    engine.serve([]);
    expect(texts()).toEqual([]);
    now = START + 1000;
    engine.serve([]);
    engine.serve([]);
    expect(texts()).toEqual(["x"]);
    expect(job(id)).toMatchObject({ state: { kind: "success" }, completedTime: START + 1000 });
    expect(engine.engine.nextWake()).toBeNull();
  });

  test("that is due at once runs in the batch that scheduled it, and is in progress while it runs", () => {
    later(0);
    expect(engine.call("jobs:bag")).toMatchObject([{ text: "x", seen: "inProgress" }]);
  });

  test("may schedule another, which runs in the same batch, and what that one schedules in the next", () => {
    const args = { delayMs: 0, path: "jobs:record", args: { text: "x" } };
    later(0, "jobs:later", args);
    expect(texts()).toEqual(["x"]);
    later(0, "jobs:later", { ...args, path: "jobs:later", args });
    expect(texts()).toEqual(["x"]);
    expect(texts()).toEqual(["x", "x"]);
  });

  test("that fails is undone, and its job tells why", () => {
    const id = later(0, "jobs:fail", {});
    expect(texts()).toEqual([]);
    expect(job(id).state).toMatchObject({
      kind: "failed",
      error: expect.stringContaining("Uncaught Error: job failed"),
    });
  });

  test("that fails is told to the operator, who is its only listener", () => {
    later(0, "jobs:fail", {});
    const runs = engine.batches.flatMap((batch) => batch.runs).filter(({ caller }) => caller === "Scheduler");
    expect(runs).toMatchObject([
      { path: "jobs:fail", kind: "mutation", error: expect.stringMatching(/Error/) },
    ]);
  });

  test("with wrong arguments has failed", () => {
    const id = later(0, "jobs:record", { text: 1 });
    expect(job(id).state).toMatchObject({
      kind: "failed",
      error: expect.stringContaining("ArgumentValidationError"),
    });
  });

  test("is not scheduled by a mutation that fails", () => {
    expect(() => engine.call("jobs:laterThenFail")).toThrow("no");
    expect(engine.call("jobs:all")).toEqual([]);
  });

  test("can be canceled while it waits", () => {
    const id = later(1000);
    engine.call("jobs:cancel", { id });
    now = START + 2000;
    engine.serve([]);
    expect(texts()).toEqual([]);
    expect(job(id).state).toEqual({ kind: "canceled" });
  });

  test("can cancel itself, is warned of it, and what it wrote stays", () => {
    const id = later(0, "jobs:cancelSelf", {});
    expect(engine.batches.flatMap(({ runs }) => runs.flatMap(({ logLines }) => logLines))).toEqual([
      "[WARN] A scheduled mutation canceling itself is deprecated and will throw an error in a future version of Convex.",
    ]);
    expect(job(id).state).toEqual({ kind: "canceled" });
    expect(texts()).toEqual(["canceled itself"]);
  });

  test("is canceled by its id only", () => {
    expect(() => engine.call("jobs:cancel", { id: "nonsense" })).toThrow(
      "Invalid argument `id` for `db.cancel_job`: Unable to decode ID: Invalid ID length 8",
    );
    const item = engine.call("items:add", { group: "a", rank: 1 });
    expect(() => engine.call("jobs:cancel", { id: item })).toThrow(
      "Invalid scheduled function ID. The ID must be an ID on the '_scheduled_functions' table.",
    );
  });

  test("must be a function that exists", () => {
    expect(() => later(0, "jobs:nothing")).toThrow(
      "Attempted to schedule function, but no exported function nothing found in the file: jobs.js. Did you forget to export it?",
    );
  });

  test("that fell due while the host was down runs once after the restart", async () => {
    later(1000);
    engine.reopen();
    now = START + 60_000;
    await engine.load();
    engine.serve([]);
    expect(texts()).toEqual(["x"]);
  });

  test("that took the engine down has failed after the restart and is not run again", async () => {
    const id = later(1000, "jobs:spin", {});
    now = START + 2000;
    engine.reopen({ killed: { job: id, message: "Function execution timed out (maximum duration: 1s)" } });
    await engine.load();
    engine.serve([]);
    expect(job(id).state).toEqual({
      kind: "failed",
      error: "Function execution timed out (maximum duration: 1s)",
    });
    expect(texts()).toEqual([]);
  });

  test("pushes what it wrote to subscribers", () => {
    engine.subscribe(1, "jobs:bag");
    later(1000);
    now = START + 1000;
    engine.serve([]);
    expect(engine.updates()).toMatchObject([{ sub: 1, value: [{ text: "x" }] }]);
  });

  test("runs with nobody's identity", () => {
    const caller = { admin: true, identity: { subject: "ann" } };
    engine.call("jobs:later", { delayMs: 0, path: "jobs:recordIdentity", args: {} }, { caller });
    expect(texts()).toEqual(["null"]);
  });
});

describe("a scheduled action", () => {
  test("is handed out once, when its start is committed, and ends as it is told", () => {
    const id = later(0, "jobs:act", { n: 1 });
    expect(engine.batches.at(-1)?.actions).toEqual([{ job: id, path: "jobs:act", args: '[{"n":1}]' }]);
    expect(job(id).state).toEqual({ kind: "inProgress" });
    expect(engine.serve([]).actions).toEqual([]);
    engine.send({ op: "finish", job: id, ok: true });
    expect(job(id).state).toEqual({ kind: "success" });
  });

  test("that failed tells why", () => {
    const id = later(0, "jobs:act", { n: 1 });
    engine.send({ op: "finish", job: id, ok: false, message: "Uncaught Error: no" });
    expect(job(id).state).toEqual({ kind: "failed", error: "Uncaught Error: no" });
  });

  test("that was lost with the host has failed and is not run again", async () => {
    const id = later(0, "jobs:act", { n: 1 });
    engine.reopen();
    await engine.load();
    expect(engine.serve([]).actions).toEqual([]);
    expect(job(id).state.kind).toBe("failed");
  });

  test("that outlived the engine goes on", async () => {
    const id = later(0, "jobs:act", { n: 1 });
    engine.reopen({ running: [id] });
    await engine.load();
    expect(engine.serve([]).actions).toEqual([]);
    engine.send({ op: "finish", job: id, ok: true });
    expect(job(id).state).toEqual({ kind: "success" });
  });

  test("that was canceled while it runs schedules nothing more", () => {
    const parent = later(0, "jobs:act", { n: 1 });
    engine.send({ op: "cancel", job: parent });
    const id = engine.send({ op: "schedule", path: "jobs:act", args: '[{"n":2}]', at: START, parent });
    expect(job(id).state).toEqual({ kind: "canceled" });
    expect(engine.serve([]).actions).toEqual([]);
  });

  test("cannot be scheduled by another action with more arguments than a mutation could give it", () => {
    engine.dispose();
    engine = new TestEngine({ now: () => now, limits: { scheduledFunctionArgsBytes: 20 } });
    const schedule = (/** @type {string} */ args) =>
      engine.send({ op: "schedule", path: "jobs:act", args, at: START });
    return engine.load().then(() => {
      expect(schedule(`[{"n":${"1".repeat(12)}}]`)).toBeTypeOf("string"); // 20 bytes
      expect(() => schedule(`[{"n":${"1".repeat(13)}}]`)).toThrow("Too large total size of the arguments");
    });
  });

  test("can be scheduled and canceled by another action", () => {
    const id = engine.send({ op: "schedule", path: "jobs:act", args: '[{"n":1}]', at: START + 5000 });
    expect(job(id)).toMatchObject({ scheduledTime: START + 5000, state: { kind: "pending" } });
    engine.send({ op: "cancel", job: id });
    expect(job(id).state).toEqual({ kind: "canceled" });
    const item = engine.call("items:add", { group: "a", rank: 1 });
    expect(() => engine.send({ op: "cancel", job: item })).toThrow("Invalid scheduled function ID");
  });
});

describe("system tables", () => {
  test("are read through db.system and not through db", () => {
    const id = later(1000);
    expect(() => engine.call("jobs:asUserTable")).toThrow(
      "System tables can only be accessed from db.system.query().",
    );
    expect(() => engine.call("jobs:asUserDocument", { id })).toThrow(
      "System tables can only be accessed with db.system.",
    );
    const item = engine.call("items:add", { group: "a", rank: 1 });
    expect(() => engine.call("jobs:job", { id: item })).toThrow(
      "User tables cannot be accessed with db.system.",
    );
    expect(engine.call("jobs:storage")).toEqual([]);
  });
});

describe("crons", () => {
  const cronModule = (/** @type {string} */ schedule) => ({
    "crons.ts": `import { cronJobs, makeFunctionReference } from "convex/server";
      const crons = cronJobs();
      crons.interval("beat", ${schedule}, makeFunctionReference<"mutation">("beats:beat"), {});
      export default crons;`,
    "beats.ts": `import { internalMutationGeneric as internalMutation, queryGeneric as query } from "convex/server";
      export const beat = internalMutation({ args: {}, handler: (ctx) => ctx.db.insert("beats", { at: Date.now() }) });
      export const all = query({ args: {}, handler: (ctx) => ctx.db.query("beats").collect() });`,
  });
  test.each([
    [
      "crons",
      "export const crons = null;",
      "`convex/crons.js` must have a default export of a Crons object.",
    ],
    ["crons", "export default {};", "The default export of `convex/crons.js` is not a Crons object."],
    ["http", "export const http = null;", "`convex/http.js` must have a default export of a Router."],
    ["http", "export default null;", "The default export of `convex/http.js` is not a Router."],
  ])("are refused with a module of %s that is none: %s", async (name, text, message) => {
    const root = temporaryFolder();
    await expect(engine.load(writeFunctions(root, { [`${name}.ts`]: text }))).rejects.toThrow(message);
    rmSync(root, { recursive: true });
  });

  const beats = () => engine.call("beats:all").map((/** @type {{ at: number }} */ beat) => beat.at - START);

  test("an interval runs at once and then each period, over restarts, and what was missed is skipped", async () => {
    const root = temporaryFolder();
    const folder = writeFunctions(root, cronModule("{ seconds: 10 }"));
    await engine.load(folder);
    engine.serve([]);
    for (const at of [9_999, 10_000, 20_500]) {
      now = START + at;
      engine.serve([]);
    }
    expect(beats()).toEqual([0, 10_000, 20_500]);
    expect(engine.engine.nextWake()).toBe(START + 30_000);
    engine.reopen();
    now = START + 95_000;
    await engine.load(folder);
    engine.serve([]);
    expect(beats()).toEqual([0, 10_000, 20_500, 95_000]);
    expect(engine.engine.nextWake()).toBe(START + 100_000);
    rmSync(root, { recursive: true });
  });
});

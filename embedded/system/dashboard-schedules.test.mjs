import { rmSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bundleFunctions } from "../bundle.mjs";
import { temporaryFolder, TestEngine, writeFunctions } from "../engine/testing.mjs";

const ROWS = `import { actionGeneric as action, makeFunctionReference, mutationGeneric as mutation } from "convex/server";
    export const beat = mutation(() => null);
    export const act = action(() => null);
    export const actNow = mutation((ctx) => ctx.scheduler.runAfter(0, makeFunctionReference("rows:act"), {}));
    export const later = mutation((ctx, { delay }) =>
      ctx.scheduler.runAfter(delay, makeFunctionReference("rows:beat"), { delay }));
    export const cancel = mutation((ctx, { id }) => ctx.scheduler.cancel(id));`;
const PAGE = { cursor: null, numItems: 2 };
const CRONS = `import { cronJobs, makeFunctionReference } from "convex/server";
  const crons = cronJobs();
  const beat = makeFunctionReference<"mutation">("rows:beat");`;

/** @type {TestEngine} */
let engine;
/** @type {string} */
let root;
beforeEach(async () => {
  root = temporaryFolder();
  engine = new TestEngine();
  await push();
});
afterEach(() => {
  engine.dispose();
  rmSync(root, { recursive: true });
});

/** @param {Record<string, string>} [more]  files */
async function push(more = {}) {
  const bundle = await bundleFunctions(writeFunctions(root, { "rows.ts": ROWS, ...more }));
  engine.send({ op: "load", bundle, env: {} });
}

const call = (/** @type {string} */ name, args = {}) => engine.call(`_system/frontend/${name}:default`, args);
const int64 = (/** @type {{ $integer: string }} */ { $integer: text }) =>
  Buffer.from(text, "base64").readBigInt64LE();

describe("paginatedScheduledJobs", () => {
  const list = (more = {}) => call("paginatedScheduledJobs", { paginationOpts: PAGE, ...more });

  test("tells those that have not ended, the next ones first, also live", () => {
    engine.call("rows:later", { delay: 60_000 });
    const id = engine.call("rows:later", { delay: 30_000 });
    engine.subscribe(1, "_system/frontend/paginatedScheduledJobs:default", { paginationOpts: PAGE });
    engine.call("rows:later", { delay: 45_000 });
    expect(engine.updates()[0].value.page).toHaveLength(3); // a live page ends where it ended
    const { page, isDone, continueCursor } = list();
    expect([page.length, page[0]._id, isDone]).toEqual([2, id, false]);
    const [{ udfArgs, nextTs, originalScheduledTs, ...job }] = page;
    expect(job).toMatchObject({
      udfPath: "rows.js:beat",
      state: { type: "pending" },
      component: "",
      argsId: null,
    });
    expect(JSON.parse(Buffer.from(udfArgs.$bytes, "base64").toString())).toEqual([{ delay: 30_000 }]);
    expect([int64(nextTs) / 1_000_000n, nextTs]).toEqual([
      BigInt(Math.floor(call("getById", { id }).scheduledTime)),
      originalScheduledTs,
    ]);
    expect(list({ paginationOpts: { ...PAGE, cursor: continueCursor } })).toMatchObject({
      isDone: true,
      page: [{}],
    });
  });

  test("tells what runs before what waits", () => {
    const waiting = engine.call("rows:later", { delay: 30_000 });
    const running = engine.call("rows:actNow");
    engine.serve([]); // which begins what is due
    expect(list().page).toMatchObject([
      { _id: running, udfPath: "rows.js:act", state: { type: "inProgress" } },
      { _id: waiting, state: { type: "pending" } },
    ]);
    engine.send({ op: "finish", job: running, ok: true });
    expect(list().page).toMatchObject([{ _id: waiting }]);
  });

  test("tells those of a function, and none that has ended", () => {
    const id = engine.call("rows:later", { delay: 30_000 });
    expect(list({ udfPath: "rows.js:beat" }).page).toMatchObject([{ _id: id }]);
    expect(list({ udfPath: "rows.js:other" }).page).toEqual([]);
    engine.call("rows:cancel", { id });
    expect(list().page).toEqual([]);
  });
});

describe("listCronJobs", () => {
  const list = () => call("listCronJobs", { componentId: null });

  test("tells the crons in Convex's form, and again when they change", async () => {
    expect(list()).toEqual([]);
    engine.subscribe(1, "_system/frontend/listCronJobs:default", {});
    await push({
      "crons.ts": `${CRONS} crons.interval("beat", { minutes: 90 }, beat, { n: 1 }); export default crons;`,
    });
    const [{ value }] = engine.updates();
    const [{ _id, _creationTime, cronSpec, nextRun, ...rest }, ...others] = value;
    expect([rest, others]).toEqual([{ name: "beat", lastRun: null }, []]);
    const { udfArgs, udfPath, cronSchedule } = cronSpec;
    expect(JSON.parse(Buffer.from(udfArgs.$bytes, "base64").toString())).toEqual([{ n: 1 }]);
    expect([udfPath, cronSchedule.type, int64(cronSchedule.seconds)]).toEqual([
      "rows.js:beat",
      "interval",
      5400n,
    ]);
    expect(nextRun).toMatchObject({ cronJobId: _id, state: { type: "pending" }, prevTs: null });
    expect(Math.abs(Number(int64(nextRun.nextTs) / 1_000_000n) - _creationTime)).toBeLessThan(5_400_001);
  });

  test.each([
    [`crons.hourly("c", {}, beat)`, { type: "hourly", minuteUTC: null }],
    [`crons.hourly("c", { minuteUTC: 5 }, beat)`, { type: "hourly", minuteUTC: 5n }],
    [`crons.daily("c", { hourUTC: 1, minuteUTC: 2 }, beat)`, { type: "daily", hourUTC: 1n, minuteUTC: 2n }],
    [
      `crons.weekly("c", { dayOfWeek: "saturday", hourUTC: 1 }, beat)`,
      { type: "weekly", dayOfWeek: 6n, hourUTC: 1n, minuteUTC: null },
    ],
    [
      `crons.monthly("c", { day: 3, hourUTC: 1, minuteUTC: 2 }, beat)`,
      { type: "monthly", day: 3n, hourUTC: 1n, minuteUTC: 2n },
    ],
    [`crons.cron("c", "0 * * * *", beat)`, { type: "cron", cronExpr: "0 * * * *" }],
  ])("tells the schedule of %s", async (declared, expected) => {
    await push({ "crons.ts": `${CRONS} ${declared}; export default crons;` });
    const [{ cronSpec }] = list();
    const schedule = Object.entries(cronSpec.cronSchedule).map(([field, value]) => [
      field,
      value?.$integer === undefined ? value : int64(value),
    ]);
    expect(Object.fromEntries(schedule)).toEqual(expected);
  });
});

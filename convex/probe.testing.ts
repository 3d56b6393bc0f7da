/** What tests look at and break from the inside; part of no deployment, since its name has two dots. */
import { makeFunctionReference } from "convex/server";
import { v } from "convex/values";
import type { TableNames } from "./_generated/dataModel";
import { internalMutation, internalQuery, type MutationCtx } from "./_generated/server";
import { START } from "./model/retention";
import schema from "./schema";
import { moveToReady } from "./model/waiting";
import { emit } from "./model/triggers";
import { wakeWaiters as wakeAll } from "./model/waits";
import { vEmission } from "./trigger.validators";
import { completeIfDone } from "./model/groups";
import { loop, stateOf } from "./model/loops";
import { firstSettlement } from "./model/settlements";
import { vGroupSummary, type GroupSummary } from "./group.validators";

export const removeTask = internalMutation({
  args: { task: v.id("tasks") },
  returns: v.null(),
  handler: async (ctx, { task }) => {
    await ctx.db.delete("tasks", task);
    return null;
  },
});

export const removeRun = internalMutation({
  args: { run: v.id("runs") },
  returns: v.null(),
  handler: async (ctx, { run }) => {
    await ctx.db.delete("runs", run);
    return null;
  },
});

export const removeAgent = internalMutation({
  args: { name: v.string() },
  returns: v.null(),
  handler: async (ctx, { name }) => {
    const agent = await ctx.db
      .query("agents")
      .withIndex("by_name", (q) => q.eq("name", name))
      .unique();
    await ctx.db.delete("agents", agent!._id);
    return null;
  },
});

export const countTasks = internalQuery({
  args: {},
  returns: v.number(),
  handler: async (ctx) => (await ctx.db.query("tasks").take(1_000)).length,
});

export const countOutputs = internalQuery({
  args: {},
  returns: v.number(),
  handler: async (ctx) => (await ctx.db.query("outputs").take(1_000)).length,
});

/** Every key's row as one text. */
export const keyRows = internalQuery({
  args: {},
  returns: v.string(),
  handler: async (ctx) => JSON.stringify(await ctx.db.query("keys").take(100)),
});

export const controls = internalQuery({
  args: {},
  returns: v.array(v.id("controls")),
  handler: async (ctx) => (await ctx.db.query("controls").take(100)).map(({ _id }) => _id),
});

/** Each endpoint with how often it was asked, and which of these calls was answered last. */
export const endpoints = internalQuery({
  args: {},
  returns: v.array(v.object({ endpoint: v.id("endpoints"), asked: v.number(), answered: v.number() })),
  handler: async (ctx) => {
    const states = await ctx.db.query("endpointStates").take(100);
    return states.map(({ endpoint, asked, answered }) => ({ endpoint, asked, answered }));
  },
});

export const pendingJobs = internalQuery({
  args: {},
  returns: v.array(v.string()),
  handler: async (ctx) => {
    const jobs = await ctx.db.system.query("_scheduled_functions").take(1_000);
    return jobs.filter((job) => job.state.kind === "pending").map((job) => job.name.replace(".js:", ":"));
  },
});

/** What was ever scheduled, whatever became of it. */
export const everyJob = internalQuery({
  args: {},
  returns: v.array(v.string()),
  handler: async (ctx) =>
    (await ctx.db.system.query("_scheduled_functions").take(1_000)).map(({ name }) =>
      name.replace(".js:", ":"),
    ),
});

/** Let what is scheduled under this name never run. */
export const killJobs = internalMutation({
  args: { name: v.string() },
  returns: v.null(),
  handler: async (ctx, { name }) => {
    const jobs = await ctx.db.system.query("_scheduled_functions").take(1_000);
    for (const job of jobs) {
      if (job.state.kind === "pending" && job.name.replace(".js:", ":") === name)
        await ctx.scheduler.cancel(job._id);
    }
    return null;
  },
});

/**
 * Leave the dispatch loop as a pass that ran out of time leaves it: it counts as running and its job is over.
 * `again`: it was the pass that the watchdog had started for the first item in line.
 */
export const strandDispatch = internalMutation({
  args: { again: v.boolean() },
  returns: v.null(),
  handler: async (ctx, { again }) => {
    const row = (await ctx.db
      .query("loops")
      .withIndex("by_name", (q) => q.eq("name", "dispatch"))
      .unique())!;
    const state = (await ctx.db.get("loopState", row.state))!;
    const first = await ctx.db.query("ready").withIndex("by_lane_and_rank").first();
    await ctx.db.patch("loops", row._id, { running: true, starved: false });
    await ctx.db.patch("loopState", state._id, {
      job: null,
      ...(again ? { batch: 1, suspect: first!._id } : {}),
    });
    return null;
  },
});

/** Runs that are assigned or running although their session has ended. */
export const ownerlessRuns = internalQuery({
  args: {},
  returns: v.number(),
  handler: async (ctx) => {
    let count = 0;
    for (const run of await ctx.db.query("runs").take(2_000)) {
      const live = run.state === "assigned" || run.state === "running";
      if (live && (await ctx.db.get("sessions", run.session))!.ended !== null) count += 1;
    }
    return count;
  },
});

/** An event of a tenant, as whoever emits it tells it. */
export const wakeWaiters = internalMutation({
  args: { tenant: v.string(), name: v.string(), data: v.string() },
  returns: v.number(),
  handler: (ctx, { tenant, name, data }) => wakeAll(ctx, tenant, name, data),
});

const vEvent = { name: v.string(), data: v.string() };

/** A mutation of somebody's own that emits and then fails. */
export const emitAndFail = internalMutation({
  args: vEvent,
  returns: v.null(),
  handler: async (ctx, event) => {
    await emit(ctx, event);
    throw new Error("undone");
  },
});

/** A mutation of somebody's own that writes a row and emits, and in which another emit is undone. */
export const emitBesideARow = internalMutation({
  args: vEvent,
  returns: vEmission,
  handler: async (ctx, event) => {
    await ctx.db.insert("outputs", { text: event.data });
    await ctx.runMutation(failing, event).catch(() => undefined);
    return await emit(ctx, event);
  },
});

const failing = makeFunctionReference<"mutation", { name: string; data: string }, null>("probe:emitAndFail");

export const countNonces = internalQuery({
  args: {},
  returns: v.number(),
  handler: async (ctx) => (await ctx.db.query("nonces").take(1_000)).length,
});

/** As if a task were being prepared. */
export const prepare = internalMutation({
  args: { task: v.id("tasks") },
  returns: v.null(),
  handler: async (ctx, { task }) => {
    await ctx.db.patch("tasks", task, { preparing: "restart" });
    return null;
  },
});

/** As if a run had kept so many steps. */
export const setSteps = internalMutation({
  args: { run: v.id("runs"), steps: v.number() },
  returns: v.null(),
  handler: async (ctx, { run, steps }) => {
    await ctx.db.patch("runs", run, { steps });
    return null;
  },
});

/** As if so many signals lay with a task. */
export const setSignals = internalMutation({
  args: { task: v.id("tasks"), signals: v.number() },
  returns: v.null(),
  handler: async (ctx, { task, signals }) => {
    await ctx.db.patch("tasks", task, { signals });
    return null;
  },
});

/** As if something brought a delayed task back before its time. */
export const hurry = internalMutation({
  args: { task: v.id("tasks") },
  returns: v.null(),
  handler: async (ctx, { task }) => {
    const row = await ctx.db
      .query("delayed")
      .withIndex("by_task", (q) => q.eq("task", task))
      .unique();
    await moveToReady(ctx, row!._id);
    return null;
  },
});

/** The lanes of all live runs, how many runs are freed and not settled and in how many rows, the counters, and the jobs of dispatch that wait. */
export const books = internalQuery({
  args: {},
  returns: v.object({
    live: v.array(v.string()),
    freed: v.number(),
    freedRows: v.number(),
    counters: v.array(v.object({ kind: v.string(), name: v.string(), inUse: v.number() })),
    jobs: v.array(v.number()),
    stickies: v.number(),
  }),
  handler: async (ctx) => {
    const runs = await ctx.db.query("runs").take(5_000);
    const counters = await ctx.db.query("counters").take(5_000);
    const jobs = await ctx.db.system.query("_scheduled_functions").take(5_000);
    const freed = await ctx.db.query("freed").take(5_000);
    return {
      live: runs.filter(({ state }) => state === "assigned" || state === "running").map(({ lane }) => lane),
      freed: freed.reduce((sum, { runs = 1 }) => sum + runs, 0),
      freedRows: freed.length,
      counters: counters.map(({ kind, name, inUse }) => ({ kind, name, inUse })),
      jobs: jobs
        .filter((job) => job.state.kind === "pending" && /^dispatch(\.js)?:pass$/.test(job.name))
        .map((job) => job.scheduledTime),
      stickies: (await ctx.db.query("stickies").take(5_000)).length,
    };
  },
});

/**
 * Leave the settle loop as a pass that ran out of time leaves it. `again`: it was the one that the watchdog had started for
 * the first item.
 */
export const strandSettle = internalMutation({
  args: { again: v.boolean() },
  returns: v.null(),
  handler: async (ctx, { again }) => {
    const row = await loop(ctx, "settle");
    const { _id, generation } = await stateOf(ctx, row);
    await ctx.db.patch("loops", row._id, { running: true });
    await ctx.db.patch("loopState", _id, { job: null, generation: generation + 1 });
    const first = await firstSettlement(ctx);
    if (again) await ctx.db.patch("settlements", first!._id, { suspect: true });
    return null;
  },
});

export const settlements = internalQuery({
  args: {},
  returns: v.number(),
  handler: async (ctx) => (await ctx.db.query("settlements").take(1_000)).length,
});

/** Complete a group, and lose the try of its callback that was scheduled with that. */
export const loseCallback = internalMutation({
  args: { group: v.id("groups") },
  returns: v.null(),
  handler: async (ctx, { group }) => {
    await completeIfDone(ctx, group);
    for (const job of await ctx.db.system.query("_scheduled_functions").order("desc").take(50)) {
      if (job.state.kind === "pending" && job.name.includes("callBack")) await ctx.scheduler.cancel(job._id);
    }
    return null;
  },
});

/** The callback of a group is mended: another one stands under its name. */
export const mendCallback = internalMutation({
  args: { group: v.id("groups"), callback: v.string() },
  returns: v.null(),
  handler: async (ctx, { group, callback }) => {
    await ctx.db.patch("groups", group, { onComplete: { callback } });
    return null;
  },
});

async function keep(ctx: MutationCtx, summary: GroupSummary): Promise<void> {
  await ctx.db.insert("outputs", { text: `note ${JSON.stringify(summary)}` });
}

/** A callback of callbacks.testing.ts: it keeps what it is told. */
export const note = internalMutation({
  args: vGroupSummary.fields,
  returns: v.null(),
  handler: async (ctx, summary) => {
    await keep(ctx, summary);
    return null;
  },
});

/** It writes and throws, until its third try. */
export const flaky = internalMutation({
  args: vGroupSummary.fields,
  returns: v.null(),
  handler: async (ctx, summary) => {
    await keep(ctx, summary);
    const { tries } = (await ctx.db.get("groups", summary.group))!;
    if (tries < 3) throw new Error(`not yet: try ${tries}`);
    return null;
  },
});

export const broken = internalMutation({
  args: vGroupSummary.fields,
  returns: v.null(),
  handler: async (ctx, summary) => {
    await keep(ctx, summary);
    throw new Error("never");
  },
});

/** What callbacks were told, and what stands of it. */
export const notes = internalQuery({
  args: {},
  returns: v.array(v.string()),
  handler: async (ctx) => {
    const rows = await ctx.db.query("outputs").take(1_000);
    return rows.flatMap(({ text }) => (text.startsWith("note ") ? [text.slice(5)] : []));
  },
});

/** How many rows each table has, at most 2,000 counted; those without any are left out. */
export const rowCounts = internalQuery({
  args: {},
  returns: v.record(v.string(), v.number()),
  handler: async (ctx) => {
    const counts: Record<string, number> = {};
    for (const table of Object.keys(schema.tables) as TableNames[]) {
      const rows = await ctx.db.query(table).take(2_000);
      if (rows.length > 0) counts[table] = rows.length;
    }
    return counts;
  },
});

/** As if a page of retention had died. @returns its generation */
export const strandUpkeep = internalMutation({
  args: { busyUntil: v.number() },
  returns: v.number(),
  handler: async (ctx, { busyUntil }) => {
    const generation = 5;
    await ctx.db.insert("upkeep", { name: "retention", cursor: START, generation, busyUntil });
    return generation;
  },
});

/** Where a task's large input is. */
export const inputOf = internalQuery({
  args: { task: v.id("tasks") },
  returns: v.union(v.id("outputs"), v.null()),
  handler: async (ctx, { task }) => (await ctx.db.get("tasks", task))!.inputId,
});

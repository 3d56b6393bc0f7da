/** One attempt of a task, from its assignment to its end. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import {
  ACCEPT_MS,
  MAX_LINE_CHARS,
  MAX_REDO,
  MAX_WATCH_MS,
  TAIL_CHUNKS,
  TIMEOUT_GRACE_MS,
} from "../constants";
import { refuse } from "../errors";
import type { Assignment, Chunk, Fault, RunState, TaskView, Usage } from "../validators";
import { allotmentOf, holdBack, reserve } from "./allot";
import { decideStart, drawsOf } from "./draws";
import { leaveBudgetWork } from "./budget.work";
import { record } from "./events";
import { wakeTimersBy } from "./loops";
import type { Assignable } from "./plan";
import { handOver } from "./push";
import { judge, type Ending } from "./retry";
import { Room } from "./room";
import { close, get as getTask, hasBegun } from "./tasks";
import { checkNumber, keepText } from "./text";
import { leaveLine, putInLine, wakeFor } from "./waiting";
import { isSandboxed } from "./sandbox";
import { added } from "./usage";
import { settingsGone, settingsOf, versionFor, type Known } from "./versions";
import { suspend, type Suspension } from "./waits";

/**
 * Assign a ready task to a worker's inbox as a new run.
 * Only the dispatch loop calls this, so a task reaches one worker and limits are exact.
 *
 * @param worker - the pick's worker as this transaction reads it
 * @param known - agents that this transaction has read
 * @returns whether it was assigned: not when the task or the worker went away since the loop looked, nor when the task
 *   cannot go on, nor without room in its budgets; then it waits for them
 */
export async function assign(
  ctx: MutationCtx,
  pick: Assignable,
  worker: Doc<"workers"> | null,
  now: number,
  known: Known = new Map(),
): Promise<boolean> {
  const ready = await ctx.db.get("ready", pick.ready);
  if (ready === null || worker?.session !== pick.session || !worker.live || worker.draining) return false;
  const task = (await ctx.db.get("tasks", ready.task))!;
  const pinned = await versionFor(ctx, task, worker, known);
  if (pinned === null) {
    await ctx.db.delete("ready", ready._id);
    await close(ctx, task, "failed", null, { code: "version_gone" }, { error: settingsGone(task) });
    return false;
  }
  const draws = await drawsOf(ctx, task, now);
  const budget = decideStart(draws);
  if (budget.kind !== "granted") {
    await holdBack(ctx, ready, task, draws, budget, now);
    return false;
  }
  const attempt = task.attempt + 1;
  const run = await ctx.db.insert("runs", {
    task: task._id,
    attempt,
    worker: worker._id,
    session: pick.session,
    lane: ready.lane,
    state: "assigned",
    deadlineAt: now + ACCEPT_MS,
    assignedAt: now,
    startedAt: null,
    endedAt: null,
    usage: null,
    error: null,
    ...(task.steps === undefined ? {} : { steps: task.steps }),
    ...(pinned && { pinned }),
    ...(task.fork && (await isSandboxed(ctx, task.fork)) && { sandboxed: true as const }),
    ...(draws.length > 0 && { budgeted: true as const }),
  });
  if (draws.length > 0) await reserve(ctx, task, run, draws, budget);
  await ctx.db.delete("ready", ready._id);
  await ctx.db.patch("tasks", task._id, {
    status: "running",
    attempt,
    run,
    startedAt: task.startedAt ?? now,
    updated: ctx.db.vars.commitTs,
  });
  const waitedMs = Math.max(0, Math.round(now - ready._creationTime)); // in line, for a worker
  await record(ctx, task, "run_assigned", run, { attempt, worker: worker.name, waitedMs });
  if (worker.endpoint !== undefined) await handOver(ctx, worker.endpoint, run, now);
  return true;
}

export function isLive(run: Pick<Doc<"runs">, "state">): boolean {
  return run.state === "assigned" || run.state === "running";
}

/** The worker has begun. From here on the run is bound by its own time limit, and by the grace of a cancel. */
export async function accept(ctx: MutationCtx, run: Doc<"runs">, now: number): Promise<void> {
  if (run.state !== "assigned") return;
  const task = await ctx.db.get("tasks", run.task);
  const limits = [];
  if (task?.cancelRequested) limits.push(run.deadlineAt);
  if (task && task.timeoutMs !== null) limits.push(now + task.timeoutMs + TIMEOUT_GRACE_MS);
  const deadlineAt = limits.length === 0 ? 0 : Math.min(...limits);
  await ctx.db.patch("runs", run._id, { state: "running", startedAt: now, deadlineAt });
  if (deadlineAt > 0) await wakeTimersBy(ctx, deadlineAt);
}

/** A run of which its worker tells for the first time what it did: it has begun, at the earliest when it was given. */
export function asBegun(run: Doc<"runs">): Doc<"runs"> {
  return { ...run, startedAt: run.startedAt ?? run.assignedAt };
}

/**
 * End a live run and settle what follows, in one transaction: the failure and the next attempt commit together, and so do
 * the result and the end of the task. The caller tells dispatch of the room, once for all the runs that it ends.
 *
 * @param told - all that it has used, by its worker's last word; null: what it has told of until now
 * @param room - where the caller collects the room of several runs, to leave it to dispatch itself
 */
export async function end(
  ctx: MutationCtx,
  run: Doc<"runs">,
  ending: Ending,
  told: Usage | null,
  now: number,
  room?: Room,
): Promise<void> {
  const usage = told ?? run.usage;
  const error = "error" in ending ? shortened(ending.error) : null;
  const state: RunState = ending.kind; // the states in which a run ends are the ways in which it can
  await ctx.db.patch("runs", run._id, { state, startedAt: run.startedAt, endedAt: now, usage, error });
  const freed = room ?? new Room();
  freed.note(run);
  if (room === undefined) await freed.leave(ctx);
  if (run.budgeted === true) await leaveBudgetWork(ctx, { kind: "ended", run: run._id });
  const task = await ctx.db.get("tasks", run.task);
  if (task === null) return; // removed by hand: there is nothing to follow
  const verdict = judge(ending, task, Math.random());
  const { failures, losses, releases, isolate } = verdict;
  const begun = run.steps !== undefined || verdict.next === "suspended"; // a wait is a step too
  const change = {
    ...{ failures, losses, releases, isolate, usage: added(task.usage, usage) },
    ...(run.steps === undefined ? {} : { steps: run.steps }),
    ...(begun && run.pinned && !task.pinned ? { pinned: run.pinned } : {}),
    ...(run.consumed === undefined ? {} : { signals: (task.signals ?? 0) - run.consumed }),
  };
  const data = { attempt: run.attempt, state, ...(error === null ? {} : { code: error.code }) };
  switch (verdict.next) {
    case "succeeded": {
      const text = ending.kind === "succeeded" ? ending.output : null;
      const output =
        text === null && run.outputId !== undefined
          ? { inline: null, id: run.outputId } // uploaded ahead of its end
          : await keepText(ctx, text);
      await close(ctx, task, "succeeded", run._id, data, {
        ...change,
        output: output.inline,
        outputId: output.id,
        error: null,
      });
      return;
    }
    case "cancelled":
      await close(ctx, task, "cancelled", run._id, data, change);
      return;
    case "failed":
      await close(ctx, task, "failed", run._id, data, { ...change, error, ...redoOf(ending) });
      return;
    case "suspended":
      // The states agree: only a run that asked to wait has this verdict.
      await suspend(ctx, task, run, ending as Suspension, change, now);
      return;
    case "retry": {
      if (await missedStart(ctx, task, run, now)) {
        const late = startFault(task);
        await close(ctx, task, "failed", run._id, { ...data, code: late.code }, { ...change, error: late });
        return;
      }
      const dueAt = now + verdict.delayMs;
      const since = verdict.keepsPlace ? task.dueAt : dueAt;
      const status = await putInLine(ctx, { ...task, ...change }, dueAt, now, since);
      await wakeFor(ctx, [dueAt], now);
      await ctx.db.patch("tasks", task._id, {
        ...change,
        status,
        dueAt: since,
        error,
        updated: ctx.db.vars.commitTs,
      });
      await record(ctx, task, "task_retried", run._id, { ...data, delayMs: Math.round(verdict.delayMs) });
    }
  }
}

/** Whether it is too late for a first run, now that this one ended without having begun. */
const missedStart = async (ctx: QueryCtx, task: Doc<"tasks">, run: Doc<"runs">, now: number) =>
  run.startedAt === null && task.startBy !== null && now >= task.startBy && !(await hasBegun(ctx, task));

/** What a task failed of that no worker began with in time. */
export function startFault({ startBy, retriedAt, _creationTime }: Doc<"tasks">): Fault {
  const hadMs = Math.ceil(startBy! - (retriedAt ?? _creationTime)); // creation times have fractions, and are a little late
  return { code: "start_deadline", message: `it had not begun within ${hadMs} ms of its submission` };
}

/** The run's worker is gone: its process died, or went silent past its lease. */
export function lose(
  ctx: MutationCtx,
  run: Doc<"runs">,
  error: Fault,
  blamed: boolean,
  now: number,
): Promise<void> {
  return end(ctx, run, { kind: "lost", error, begun: run.state === "running", blamed }, null, now);
}

/**
 * A report that comes after the run was lost: it was this run that took its worker down. It pays for that now, so that
 * its neighbours do not pay again.
 */
export async function blameLate(ctx: MutationCtx, run: Doc<"runs">): Promise<void> {
  const task = run.state === "lost" ? await ctx.db.get("tasks", run.task) : null;
  if (task === null || task.endedAt !== null || task.isolate) return;
  const failures = task.failures + 1;
  if (failures < task.retry.maxAttempts || task.status === "running") {
    await ctx.db.patch("tasks", task._id, { failures, isolate: true, updated: ctx.db.vars.commitTs });
    return;
  }
  await leaveLine(ctx, task);
  await close(
    ctx,
    task,
    "failed",
    run._id,
    { attempt: run.attempt }, // its state was told when it was lost
    { failures, error: run.error },
  );
}

/** Codes and messages are kept in rows that lists read: a line, not a dump. */
function shortened({ code, message }: Fault): Fault {
  return { code: code.slice(0, 100), message: message.slice(0, MAX_LINE_CHARS) };
}

/** The steps for which a task has failed; the last turn of a model, and what was said of it. */
function redoOf(ending: Ending): { redo?: string[] } {
  if (ending.kind !== "failed" || ending.redo === undefined) return {};
  return { redo: ending.redo.slice(0, MAX_REDO) };
}

/**
 * What a worker needs to begin; null when there is nothing to do any more. Large inputs stay behind: they are fetched one by
 * one.
 */
export async function assignment(ctx: QueryCtx, run: Doc<"runs">, agents: Known): Promise<Assignment | null> {
  const task = await ctx.db.get("tasks", run.task);
  if (task === null || task.cancelRequested) return null;
  // What a Python agent should be, its worker knows.
  const llm = task.kind === "llm" ? await settingsOf(ctx, task.agent, run.pinned?.version, agents) : null;
  const allotment = await allotmentOf(ctx, run);
  return {
    run: run._id,
    task: task._id,
    attempt: run.attempt,
    agent: task.agent,
    kind: task.kind,
    input: task.input,
    llm,
    timeoutMs: task.timeoutMs,
    isolate: task.isolate,
    once: task.retry.maxAttempts === 1,
    steps: run.steps ?? 0,
    signals: task.signals ?? 0,
    ...(task.pinned && { pinned: task.pinned }),
    ...(task.fork && (await forkTold(ctx, task, task.fork))),
    ...(task.traceparent !== undefined && { traceparent: task.traceparent }),
    ...(allotment !== undefined && { allotment }),
  };
}

/** What a run of a fork is told; the code that took the copied steps, where any will do. */
async function forkTold(
  ctx: QueryCtx,
  { pinned, steps }: Doc<"tasks">,
  id: Id<"forks">,
): Promise<Pick<Assignment, "fork" | "pinned">> {
  const row = await ctx.db.get("forks", id);
  if (row === null) return {};
  const { of, effects, change, code } = row;
  return {
    fork: { task: of, effects, ...(change && { change }) },
    ...(pinned === undefined && code && steps !== undefined && { pinned: code }),
  };
}

/**
 * Note that somebody looks at the task's live run, so that its worker sends text at once. Renewed while they look.
 * @returns the run to look at: the live one, else the last
 */
export async function watch(
  ctx: MutationCtx,
  id: Id<"tasks">,
  forMs: number,
  now: number,
): Promise<Id<"runs"> | null> {
  checkNumber("forMs", forMs, 0, Infinity);
  const task = await ctx.db.get("tasks", id);
  if (task === null) throw refuse("not_found", `No task ${id}.`);
  const run = task.run === null ? null : await ctx.db.get("runs", task.run);
  if (run === null || !isLive(run)) return task.run;
  const until = now + Math.min(forMs, MAX_WATCH_MS);
  const known = await ctx.db
    .query("watches")
    .withIndex("by_run", (q) => q.eq("run", run._id))
    .first();
  if (known === null) await ctx.db.insert("watches", { session: run.session, run: run._id, until });
  else if (known.until < until) await ctx.db.patch("watches", known._id, { until });
  return run._id;
}

/**
 * What a follower of a task needs next: the task, and the text of its run behind `after`, at most a page. A run other than
 * the one the follower has seen begins at its beginning.
 */
export async function follow(
  ctx: QueryCtx,
  id: Id<"tasks">,
  seen: { run: Id<"runs"> | null; after: number },
): Promise<{ task: TaskView; chunks: Chunk[] } | null> {
  const task = await getTask(ctx, id);
  if (task === null) return null;
  if (task.run === null) return { task, chunks: [] };
  const { chunks } = await tail(ctx, task.run, task.run === seen.run ? seen.after : -1);
  return { task, chunks };
}

/** The stream of a run behind `after`, at most a page. */
export async function tail(
  ctx: QueryCtx,
  id: Id<"runs">,
  after: number,
): Promise<{ chunks: Chunk[]; state: RunState }> {
  const run = await ctx.db.get("runs", id);
  if (run === null) throw refuse("not_found", `No run ${id}.`);
  const chunks = await ctx.db
    .query("chunks")
    .withIndex("by_run_and_seq", (q) => q.eq("run", id).gt("seq", after))
    .take(TAIL_CHUNKS);
  return {
    chunks: chunks.map(({ run, seq, call, attempt, kind, text }) => ({
      run,
      seq,
      call,
      attempt,
      kind,
      text,
    })),
    state: run.state,
  };
}

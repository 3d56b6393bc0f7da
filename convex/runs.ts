import { v } from "convex/values";
import { viewerMutation, viewerQuery } from "./functions";
import * as Runs from "./model/runs";
import { seenRun, seenTask } from "./model/scope";
import { vChunk, vRunState, vTaskView } from "./validators";

export const watch = viewerMutation({
  args: { task: v.string(), forMs: v.number() },
  returns: v.object({ run: v.union(v.id("runs"), v.null()) }),
  handler: async (ctx, { task, forMs }) => ({
    run: await Runs.watch(ctx, await seenTask(ctx, ctx.caller, task), forMs, Date.now()),
  }),
});

export const follow = viewerQuery({
  args: { task: v.string(), run: v.union(v.id("runs"), v.null()), after: v.number() },
  returns: v.union(v.object({ task: vTaskView, chunks: v.array(vChunk) }), v.null()),
  handler: async (ctx, { task, run, after }) =>
    Runs.follow(ctx, await seenTask(ctx, ctx.caller, task), { run, after }),
});

export const tail = viewerQuery({
  args: { run: v.string(), after: v.number() },
  returns: v.object({ chunks: v.array(vChunk), state: vRunState }),
  handler: async (ctx, { run, after }) => Runs.tail(ctx, await seenRun(ctx, ctx.caller, run), after),
});

import { v } from "convex/values";
import { submitMutation, submitQuery } from "./functions";
import * as Runs from "./model/runs";
import { vChunk, vRunState, vTaskView } from "./validators";

export const watch = submitMutation({
  args: { task: v.id("tasks"), forMs: v.number() },
  returns: v.object({ run: v.union(v.id("runs"), v.null()) }),
  handler: async (ctx, { task, forMs }) => ({ run: await Runs.watch(ctx, task, forMs, Date.now()) }),
});

export const follow = submitQuery({
  args: { task: v.id("tasks"), run: v.union(v.id("runs"), v.null()), after: v.number() },
  returns: v.union(v.object({ task: vTaskView, chunks: v.array(vChunk) }), v.null()),
  handler: (ctx, { task, run, after }) => Runs.follow(ctx, task, { run, after }),
});

export const tail = submitQuery({
  args: { run: v.id("runs"), after: v.number() },
  returns: v.object({ chunks: v.array(vChunk), state: vRunState }),
  handler: (ctx, { run, after }) => Runs.tail(ctx, run, after),
});

import { v } from "convex/values";
import { viewerMutation, viewerQuery } from "./functions";
import * as Runs from "./model/runs";
import { knownId } from "./model/text";
import { vChunk, vRunState, vTaskView } from "./validators";

export const watch = viewerMutation({
  args: { task: v.string(), forMs: v.number() },
  returns: v.object({ run: v.union(v.id("runs"), v.null()) }),
  handler: async (ctx, { task, forMs }) => ({
    run: await Runs.watch(ctx, knownId(ctx, "tasks", task), forMs, Date.now()),
  }),
});

export const follow = viewerQuery({
  args: { task: v.string(), run: v.union(v.id("runs"), v.null()), after: v.number() },
  returns: v.union(v.object({ task: vTaskView, chunks: v.array(vChunk) }), v.null()),
  handler: (ctx, { task, run, after }) => Runs.follow(ctx, knownId(ctx, "tasks", task), { run, after }),
});

export const tail = viewerQuery({
  args: { run: v.string(), after: v.number() },
  returns: v.object({ chunks: v.array(vChunk), state: vRunState }),
  handler: (ctx, { run, after }) => Runs.tail(ctx, knownId(ctx, "runs", run), after),
});

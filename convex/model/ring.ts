/** What happens when an alarm rings: one case for each kind. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { expire } from "./approvals";
import { attend } from "./attending";
import { missEnd, missStart } from "./deadlines";
import { retryCallback } from "./groups";
import { endLeftRuns } from "./sessions";
import { timeOut } from "./waits";
import { fire } from "./schedules";

/** Ring one alarm. It is gone from here on; whoever needs another sets it anew. */
export async function ring(ctx: MutationCtx, id: Id<"alarms">, now: number): Promise<void> {
  const alarm = await ctx.db.get("alarms", id);
  if (alarm === null || alarm.at > now) return;
  await ctx.db.delete("alarms", id);
  await HANDLERS[alarm.kind](ctx, alarm.target, now);
}

const HANDLERS: Record<
  Doc<"alarms">["kind"],
  (ctx: MutationCtx, target: string, now: number) => Promise<void>
> = {
  startBy: (ctx, task) => missStart(ctx, task as Id<"tasks">),
  endBy: (ctx, task, now) => missEnd(ctx, task as Id<"tasks">, now),
  callback: (ctx, group) => retryCallback(ctx, group as Id<"groups">),
  wait: (ctx, task, now) => timeOut(ctx, task as Id<"tasks">, now),
  approval: (ctx, approval, now) => expire(ctx, approval as Id<"approvals">, now),
  schedule: (ctx, schedule, now) => fire(ctx, schedule as Id<"schedules">, now),
  session: (ctx, session) => endLeftRuns(ctx, session as Id<"sessions">),
  endpoint: (ctx, endpoint, now) => attend(ctx, endpoint as Id<"endpoints">, now),
};

/** Schedules: what is submitted at which times. The alarm of a schedule stands at its next occurrence. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import {
  CATCH_UP_WINDOW_MS,
  MAX_DELAY_MS,
  MAX_JITTER_MS,
  MAX_LIST,
  MAX_PREVIEW,
  OVERLAP_TASKS,
} from "../constants";
import { refuse } from "../errors";
import type { ScheduleSpec, ScheduleView } from "../schedule.validators";
import type { Submitted, TaskSpec } from "../validators";
import { clearAlarm, setAlarm } from "./alarms";
import { decide, firesAt } from "./catchup";
import { cancelTree } from "./children";
import { nextAfter, readWhen, sameWhen, type Timing, type When } from "./cron";
import { record } from "./events";
import type { Caller } from "./keys";
import { submit } from "./submit";
import { hasEnded } from "./tasks";
import { checkTemplate, checkTemplateScope, inScope, isSame } from "./templates";
import { checkInteger, checkKey, checkName, checkNumber } from "./text";

type Schedule = Doc<"schedules">;
type State = Doc<"scheduleStates">;
type Settings = Omit<Schedule, "_id" | "_creationTime">;

const UNFIRED = { lastAt: null, lastTask: null, fired: 0, overlapped: 0, missed: null, lastError: null };

/**
 * Make the schedule of this tenant and name be as given. The same again changes nothing. A change of anything but its times
 * leaves its next occurrence as it is; one of its times counts from now.
 */
export async function set(
  ctx: MutationCtx,
  caller: Caller,
  spec: ScheduleSpec,
): Promise<{ schedule: Id<"schedules">; changed: boolean; nextRunAt: number | null }> {
  const now = Date.now();
  const known = await find(ctx, spec.tenant ?? "default", spec.name);
  if (known !== null) checkTemplateScope(caller, known.template);
  const settings = await read(ctx, caller, spec, known, now);
  if (known === null) {
    const schedule = await ctx.db.insert("schedules", settings);
    const nextAt = settings.enabled ? firstAfter(settings.when, now) : null;
    await ctx.db.insert("scheduleStates", { ...UNFIRED, schedule, nextAt });
    await setRinging(ctx, { ...settings, _id: schedule }, nextAt);
    return { schedule, changed: true, nextRunAt: nextAt };
  }
  const state = await stateOf(ctx, known._id);
  const changed = !isSame(settings, known);
  if (!changed) return { schedule: known._id, changed, nextRunAt: state.nextAt };
  await ctx.db.replace("schedules", known._id, settings);
  const keeps = sameWhen(settings.when, known.when) && settings.enabled === known.enabled;
  const nextAt = keeps ? state.nextAt : settings.enabled ? firstAfter(settings.when, now) : null;
  if (!keeps) await ctx.db.patch("scheduleStates", state._id, { nextAt });
  await setRinging(ctx, { ...settings, _id: known._id }, nextAt);
  return { schedule: known._id, changed, nextRunAt: nextAt };
}

/** A schedule's settings, checked. An interval that stays as it was keeps counting from when it did. */
async function read(
  ctx: QueryCtx,
  caller: Caller,
  spec: ScheduleSpec,
  known: Schedule | null,
  now: number,
): Promise<Settings> {
  const tenant = checkName("tenant", spec.tenant ?? "default");
  const name = checkName("name", spec.name);
  const when = readWhen(spec, now);
  const { template } = spec;
  await checkTemplate(ctx, caller, template, tenant);
  const { policy = "once", windowMs = CATCH_UP_WINDOW_MS } = spec.catchUp ?? {};
  return {
    tenant,
    name,
    when: known !== null && sameWhen(when, known.when) ? known.when : when,
    template,
    catchUp: { policy, windowMs: checkNumber("catchUp.windowMs", windowMs, 0, MAX_DELAY_MS) },
    overlap: spec.overlap ?? "allow",
    jitterMs: checkInteger("jitterMs", spec.jitterMs ?? 0, 0, MAX_JITTER_MS),
    enabled: spec.enabled ?? known?.enabled ?? true,
  };
}

function firstAfter(when: When, now: number): number {
  const next = nextAfter(when, now);
  if (next !== null) return next;
  throw refuse("invalid_argument", `at: ${new Date((when as { at: number }).at).toISOString()} has passed.`);
}

async function setRinging(
  ctx: MutationCtx,
  schedule: Pick<Schedule, "_id" | "when" | "jitterMs">,
  nextAt: number | null,
): Promise<void> {
  if (nextAt === null) await clearAlarm(ctx, "schedule", schedule._id);
  else await setAlarm(ctx, "schedule", schedule._id, fires(schedule, nextAt));
}

const fires = ({ _id, when, jitterMs }: Pick<Schedule, "_id" | "when" | "jitterMs">, nominal: number) =>
  firesAt(when, jitterMs, _id, nominal);

/** Its occurrences while it was paused are not missed ones. */
export async function enable(
  ctx: MutationCtx,
  caller: Caller,
  name: { tenant: string; name: string },
  enabled: boolean,
): Promise<ScheduleView> {
  const schedule = await mine(ctx, caller, name);
  const state = await stateOf(ctx, schedule._id);
  if (schedule.enabled === enabled) return view(schedule, state);
  const nextAt = enabled ? firstAfter(schedule.when, Date.now()) : null;
  await ctx.db.patch("schedules", schedule._id, { enabled });
  await ctx.db.patch("scheduleStates", state._id, { nextAt });
  await setRinging(ctx, schedule, nextAt);
  return view({ ...schedule, enabled }, { ...state, nextAt });
}

/** Remove a schedule; what it has submitted stays. */
export async function remove(
  ctx: MutationCtx,
  caller: Caller,
  name: { tenant: string; name: string },
): Promise<boolean> {
  const schedule = await find(ctx, name.tenant, name.name);
  if (schedule === null) return false;
  checkTemplateScope(caller, schedule.template);
  await clearAlarm(ctx, "schedule", schedule._id);
  await ctx.db.delete("scheduleStates", (await stateOf(ctx, schedule._id))._id);
  await ctx.db.delete("schedules", schedule._id);
  return true;
}

/**
 * Submit its task now, whatever its times, its overlap and whether it is paused; the times stay as they are.
 *
 * @param request - the caller's name for this call: sent again it finds the same task
 */
export async function runNow(
  ctx: MutationCtx,
  caller: Caller,
  name: { tenant: string; name: string },
  request: string,
): Promise<Submitted> {
  const schedule = await mine(ctx, caller, name);
  const dedupKey = checkKey("request", `schedule:${schedule._id}:now:${request}`);
  const [answer] = await submit(ctx, caller, [{ ...specOf(schedule), dedupKey }]);
  if (answer!.ok && !answer!.duplicate) {
    const state = await stateOf(ctx, schedule._id);
    const before = (await openOf(ctx, state)).map((task) => task._id);
    await ctx.db.patch("scheduleStates", state._id, { lastTask: answer!.task, before });
  }
  return answer!;
}

/**
 * The time of an occurrence has come. Its task, the note that it was done and the next alarm are one transaction, so it is
 * done exactly once whatever conflicts, dies or comes twice.
 */
export async function fire(ctx: MutationCtx, id: Id<"schedules">, now: number): Promise<void> {
  const schedule = await ctx.db.get("schedules", id);
  if (schedule === null || !schedule.enabled) return;
  const state = await stateOf(ctx, id);
  if (state.nextAt === null) return;
  const due = decide(schedule.when, schedule.catchUp, state.nextAt, now, (nominal) =>
    fires(schedule, nominal),
  );
  const change: Partial<State> = { nextAt: due.next };
  if (due.missed !== null) change.missed = due.missed;
  let { lastTask, before = [], fired, overlapped } = state;
  for (const nominal of due.fire) {
    const open = schedule.overlap === "allow" ? [] : await openOf(ctx, { lastTask, before });
    const spec = await past(ctx, schedule, open);
    if (spec === null) {
      overlapped += 1;
      continue;
    }
    const dedupKey = `schedule:${id}:${nominal}`;
    const [answer] = await submit(ctx, null, [{ ...spec, dedupKey }]);
    if (!answer!.ok) {
      change.lastError = { at: now, code: answer!.code, message: answer!.message };
      continue;
    }
    change.lastError = null;
    change.lastAt = nominal;
    lastTask = answer!.task;
    before = open.map((task) => task._id);
    fired += 1;
    const data = { schedule: schedule.name, nominal, lateMs: now - nominal };
    await record(ctx, { _id: lastTask, tenant: schedule.tenant }, "schedule_fired", null, data);
  }
  await ctx.db.patch("scheduleStates", state._id, { ...change, lastTask, before, fired, overlapped });
  await setRinging(ctx, schedule, due.next);
}

/** Those of its tasks that have not ended, the newest last: its last one, and what had not ended when that was submitted. */
async function openOf(
  ctx: QueryCtx,
  { lastTask, before = [] }: Pick<State, "lastTask" | "before">,
): Promise<Doc<"tasks">[]> {
  const open: Doc<"tasks">[] = [];
  for (const id of lastTask === null ? [] : [...before, lastTask].slice(-OVERLAP_TASKS)) {
    const task = await ctx.db.get("tasks", id);
    if (task !== null && !hasEnded(task)) open.push(task);
  }
  return open;
}

/** What to submit although these of its tasks have not ended; null: nothing. */
async function past(ctx: MutationCtx, schedule: Schedule, open: Doc<"tasks">[]): Promise<TaskSpec | null> {
  const spec = specOf(schedule);
  if (open.length === 0) return spec;
  if (schedule.overlap === "cancel_other") {
    for (const task of open) await cancelTree(ctx, task._id);
    return spec;
  }
  // The one that waits already is the one that may.
  if (schedule.overlap === "skip" || open.some((task) => task.status === "waiting")) return null;
  return { ...spec, after: open.map((task) => ({ on: task._id, onFailure: "run" })) };
}

function specOf({ tenant, template }: Schedule): TaskSpec {
  return { ...template, tenant };
}

/** The next times of a schedule, or of one that is not set yet, nominal, in milliseconds since the epoch. */
export async function preview(
  ctx: QueryCtx,
  caller: Caller,
  of: { tenant: string; name: string } | Timing,
  count: number,
  after: number,
): Promise<number[]> {
  checkInteger("count", count, 1, MAX_PREVIEW);
  checkNumber("after", after, 0, 8.64e15);
  const when = "name" in of ? (await mine(ctx, caller, of)).when : readWhen(of, after);
  const times: number[] = [];
  for (let at = nextAfter(when, after); at !== null && times.length < count; at = nextAfter(when, at)) {
    times.push(at);
  }
  return times;
}

export async function get(
  ctx: QueryCtx,
  caller: Caller,
  { tenant, name }: { tenant: string; name: string },
): Promise<ScheduleView | null> {
  const schedule = await find(ctx, tenant, name);
  if (schedule === null) return null;
  checkTemplateScope(caller, schedule.template);
  return view(schedule, await stateOf(ctx, schedule._id));
}

/** A tenant's schedules, by name, a page of `limit` at a time, less those whose queue the caller's key does not serve. */
export async function list(
  ctx: QueryCtx,
  caller: Caller,
  { tenant, limit, cursor }: { tenant: string; limit: number; cursor: string | null },
): Promise<{ schedules: ScheduleView[]; cursor: string | null }> {
  const found = await ctx.db
    .query("schedules")
    .withIndex("by_tenant_and_name", (q) => q.eq("tenant", tenant))
    .paginate({ numItems: checkInteger("limit", limit, 1, MAX_LIST), cursor });
  const schedules: ScheduleView[] = [];
  for (const schedule of found.page) {
    if (inScope(caller, schedule.template)) schedules.push(view(schedule, await stateOf(ctx, schedule._id)));
  }
  return { schedules, cursor: found.isDone ? null : found.continueCursor };
}

function find(ctx: QueryCtx, tenant: string, name: string): Promise<Schedule | null> {
  return ctx.db
    .query("schedules")
    .withIndex("by_tenant_and_name", (q) => q.eq("tenant", tenant).eq("name", name))
    .unique();
}

async function existing(
  ctx: QueryCtx,
  { tenant, name }: { tenant: string; name: string },
): Promise<Schedule> {
  const schedule = await find(ctx, tenant, name);
  if (schedule !== null) return schedule;
  throw refuse(
    "not_found",
    `No schedule ${JSON.stringify(name.slice(0, 80))} of the tenant ${JSON.stringify(tenant.slice(0, 80))}.`,
  );
}

/** A schedule that the caller may see, and change as far as its role goes. */
async function mine(
  ctx: QueryCtx,
  caller: Caller,
  name: { tenant: string; name: string },
): Promise<Schedule> {
  const schedule = await existing(ctx, name);
  checkTemplateScope(caller, schedule.template);
  return schedule;
}

async function stateOf(ctx: QueryCtx, schedule: Id<"schedules">): Promise<State> {
  const state = await ctx.db
    .query("scheduleStates")
    .withIndex("by_schedule", (q) => q.eq("schedule", schedule))
    .unique();
  return state!;
}

function view(schedule: Schedule, state: State): ScheduleView {
  const { _id, tenant, name, when, template, catchUp, overlap, jitterMs, enabled } = schedule;
  const { nextAt, lastAt, lastTask, fired, overlapped, missed, lastError } = state;
  return {
    schedule: _id,
    tenant,
    name,
    cron: when.kind === "cron" ? when.cron : null,
    timeZone: when.kind === "cron" ? when.timeZone : null,
    everyMs: when.kind === "interval" ? when.everyMs : null,
    at: when.kind === "once" ? when.at : null,
    template,
    catchUp,
    overlap,
    jitterMs,
    enabled,
    nextRunAt: nextAt,
    lastRunAt: lastAt,
    lastTask,
    fired,
    overlapped,
    missed,
    lastError,
  };
}

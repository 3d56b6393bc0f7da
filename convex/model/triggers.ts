/** Events from outside, and what they start: the tasks of triggers, and tasks that wait for them. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { MAX_CONDITIONS, MAX_EVENT_BYTES, MAX_LIST, MAX_TRIGGERS } from "../constants";
import { refuse } from "../errors";
import type {
  Condition,
  Emission,
  Emitted,
  EventTemplate,
  TriggerSpec,
  TriggerView,
} from "../trigger.validators";
import type { Submitted } from "../validators";
import { record } from "./events";
import type { Caller } from "./keys";
import { note, noteRefused } from "./nonces";
import { serves, type Queues } from "./scope";
import { submit } from "./submit";
import { checkTemplate, checkTemplateScope, inScope, isSame } from "./templates";
import { checkInteger, checkJson, checkKey, checkName, fitsIn, utf8Bytes } from "./text";
import { wakeWaiters } from "./waits";

/**
 * Tell that something has happened, in the transaction that makes it so: the tasks of its triggers and those that wait for
 * it start if and only if that commits. A mutation of yours calls this as a plain function.
 *
 * @param event - `data` is JSON text of at most MAX_EVENT_BYTES; the same `id` within NONCE_KEEP_MS does nothing, but that the
 *   triggers whose tasks were refused are tried again
 * @param under - what is noted for `id`, in place of one that the tenant's events share
 * @param queues - of the key that hears the answer: what goes to other queues starts all the same, and is not told
 * @throws invalid_argument or payload_too_large, naming the field. What a trigger's own task is refused for is in the answer
 */
export async function emit(
  ctx: MutationCtx,
  event: Emitted,
  { under, queues = null }: { under?: string; queues?: Queues } = {},
): Promise<Emission> {
  const tenant = checkName("tenant", event.tenant ?? "default");
  const name = checkName("name", event.name);
  const { data, id } = event;
  if (!fitsIn(data, MAX_EVENT_BYTES)) {
    throw refuse(
      "payload_too_large",
      `data: ${utf8Bytes(data)} bytes; at most ${MAX_EVENT_BYTES}. Store it elsewhere and pass a reference.`,
    );
  }
  checkJson("data", data);
  const now = Date.now();
  const noted = under ?? (id === undefined ? null : `event:${tenant}:${checkKey("id", id)}`);
  const known = noted === null ? null : await note(ctx, noted, now);
  const duplicate = known !== null;
  const left = known?.refused ?? [];
  if (duplicate && left.length === 0) return { duplicate, tasks: [], refused: [], woken: 0 };
  const triggers = await ctx.db
    .query("triggers")
    .withIndex("by_tenant_and_event", (q) => q.eq("tenant", tenant).eq("event", name))
    .take(MAX_TRIGGERS);
  const tasks: Id<"tasks">[] = [];
  const refused: Emission["refused"] = [];
  const again: string[] = [];
  const fields = triggers.some((trigger) => trigger.filter.length > 0) ? fieldsOf(data) : {};
  for (const trigger of triggers) {
    if (duplicate && !left.includes(trigger.name)) continue;
    if (!trigger.enabled || !trigger.filter.every((condition) => holds(condition, fields))) continue;
    const answer = await submitFor(ctx, trigger, { name, id: id ?? null, data });
    const told = serves(queues, trigger.template.queue ?? "default");
    if (answer.ok) {
      if (told) tasks.push(answer.task);
      const about = { trigger: trigger.name, event: name, id: id ?? null };
      await record(ctx, { _id: answer.task, tenant }, "trigger_fired", null, about);
    } else {
      again.push(trigger.name);
      if (told) refused.push({ trigger: trigger.name, code: answer.code, message: answer.message });
    }
    await noteError(ctx, trigger, answer);
  }
  if (noted !== null && again.length + left.length > 0) await noteRefused(ctx, noted, again);
  return { duplicate, tasks, refused, woken: duplicate ? 0 : await wakeWaiters(ctx, tenant, name, data) };
}

/**
 * Submit what a template says for something that has happened, of which it is told in its input. Debounced, the last event
 * counts; batched, the input is the array of what each event says.
 *
 * @returns the task, which may be one that gathers already
 */
export async function submitFor(
  ctx: MutationCtx,
  { tenant, template }: { tenant: string; template: EventTemplate },
  { name, id, data }: { name: string; id: string | null; data: string },
): Promise<Submitted> {
  const event = `{"name":${JSON.stringify(name)},"id":${JSON.stringify(id)},"data":${data}}`;
  const input = `{"event":${event},"input":${template.input}}`;
  const [answer] = await submit(ctx, null, [{ ...template, tenant, input }]);
  return answer!;
}

/** Written when it changes alone: events that come at the same time share this row. */
async function noteError(ctx: MutationCtx, trigger: Doc<"triggers">, answer: Submitted): Promise<void> {
  const lastError = answer.ok ? null : { code: answer.code, message: answer.message };
  if (trigger.lastError?.message !== lastError?.message) {
    await ctx.db.patch("triggers", trigger._id, { lastError });
  }
}

function fieldsOf(data: string): Record<string, unknown> {
  const value: unknown = JSON.parse(data);
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {};
}

function holds({ field, equals }: Condition, fields: Record<string, unknown>): boolean {
  return Object.hasOwn(fields, field) && fields[field] === equals;
}

/** Make the trigger of this tenant and name be as given. The same again changes nothing. */
export async function set(
  ctx: MutationCtx,
  caller: Caller,
  spec: TriggerSpec,
): Promise<{ changed: boolean }> {
  const tenant = checkName("tenant", spec.tenant ?? "default");
  const name = checkName("name", spec.name);
  const event = checkName("event", spec.event);
  const known = await find(ctx, tenant, name);
  if (known !== null) checkTemplateScope(caller, known.template);
  const { template, filter = [] } = spec;
  if (filter.length > MAX_CONDITIONS) {
    throw refuse("invalid_argument", `filter: ${filter.length} conditions given, at most ${MAX_CONDITIONS}.`);
  }
  for (const { field, equals } of filter) {
    checkKey("filter.field", field);
    if (typeof equals === "string" && equals !== "") checkKey("filter.equals", equals);
  }
  await checkTemplate(ctx, caller, template, tenant);
  if (known?.event !== event) await checkRoom(ctx, tenant, event);
  const enabled = spec.enabled ?? known?.enabled ?? true;
  const settings = { tenant, name, event, template, filter, enabled, lastError: known?.lastError ?? null };
  if (known === null) await ctx.db.insert("triggers", settings);
  else if (isSame(settings, known)) return { changed: false };
  else await ctx.db.replace("triggers", known._id, settings);
  return { changed: true };
}

async function checkRoom(ctx: QueryCtx, tenant: string, event: string): Promise<void> {
  const others = await ctx.db
    .query("triggers")
    .withIndex("by_tenant_and_event", (q) => q.eq("tenant", tenant).eq("event", event))
    .take(MAX_TRIGGERS);
  if (others.length < MAX_TRIGGERS) return;
  throw refuse("invalid_argument", `event: ${event} has ${MAX_TRIGGERS} triggers, and no more can be told.`);
}

export async function enable(
  ctx: MutationCtx,
  caller: Caller,
  { tenant, name }: { tenant: string; name: string },
  enabled: boolean,
): Promise<TriggerView> {
  const trigger = await find(ctx, tenant, name);
  if (trigger === null) throw refuse("not_found", `No trigger ${JSON.stringify(name.slice(0, 80))}.`);
  checkTemplateScope(caller, trigger.template);
  if (trigger.enabled !== enabled) await ctx.db.patch("triggers", trigger._id, { enabled });
  return view({ ...trigger, enabled });
}

/** Remove a trigger; what it has submitted stays. */
export async function remove(
  ctx: MutationCtx,
  caller: Caller,
  { tenant, name }: { tenant: string; name: string },
): Promise<boolean> {
  const trigger = await find(ctx, tenant, name);
  if (trigger === null) return false;
  checkTemplateScope(caller, trigger.template);
  await ctx.db.delete("triggers", trigger._id);
  return true;
}

/** A tenant's triggers, by name, a page of `limit` at a time, less those whose queue the caller's key does not serve. */
export async function list(
  ctx: QueryCtx,
  caller: Caller,
  { tenant, limit, cursor }: { tenant: string; limit: number; cursor: string | null },
): Promise<{ triggers: TriggerView[]; cursor: string | null }> {
  const found = await ctx.db
    .query("triggers")
    .withIndex("by_tenant_and_name", (q) => q.eq("tenant", tenant))
    .paginate({ numItems: checkInteger("limit", limit, 1, MAX_LIST), cursor });
  const seen = found.page.filter(({ template }) => inScope(caller, template));
  return { triggers: seen.map(view), cursor: found.isDone ? null : found.continueCursor };
}

function find(ctx: QueryCtx, tenant: string, name: string): Promise<Doc<"triggers"> | null> {
  return ctx.db
    .query("triggers")
    .withIndex("by_tenant_and_name", (q) => q.eq("tenant", tenant).eq("name", name))
    .unique();
}

function view({ tenant, name, event, template, filter, enabled, lastError }: Doc<"triggers">): TriggerView {
  return { tenant, name, event, template, filter, enabled, lastError };
}

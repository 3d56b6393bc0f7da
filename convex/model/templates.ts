/** Templates: what schedules, triggers and webhooks submit. */
import type { QueryCtx } from "../_generated/server";
import { MAX_TEMPLATE_BYTES } from "../constants";
import { refuse } from "../errors";
import type { Template } from "../schedule.validators";
import type { EventTemplate } from "../trigger.validators";
import { checkScope, type Caller } from "./keys";
import { serves } from "./scope";
import { checkSpec } from "./submit";
import { fitsIn, utf8Bytes } from "./text";

/** Refuse a template that the caller could not submit now. */
export async function checkTemplate(
  ctx: QueryCtx,
  caller: Caller,
  template: Template | EventTemplate,
  tenant: string,
): Promise<void> {
  if (!fitsIn(template.input, MAX_TEMPLATE_BYTES)) {
    throw refuse(
      "payload_too_large",
      `template.input: ${utf8Bytes(template.input)} bytes; at most ${MAX_TEMPLATE_BYTES}. Store it elsewhere and pass a reference.`,
    );
  }
  await checkSpec(ctx, caller, { ...template, tenant });
}

/** Refuse a caller whose key does not serve the template's queue. */
export function checkTemplateScope(caller: Caller, { queue = "default" }: Template): void {
  checkScope(caller, queue);
}

/** Whether the caller's key serves the template's queue. */
export const inScope = (caller: Caller, { queue = "default" }: Template): boolean =>
  serves(caller.queues, queue);

/** JSON text in which the order of fields says nothing: two settings are the same when their texts are. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === "object" && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}

/** Whether a row is as `settings` say. */
export function isSame<Row extends { _id: string; _creationTime: number }>(
  settings: Omit<Row, "_id" | "_creationTime">,
  row: Row,
): boolean {
  const { _id, _creationTime } = row;
  return canonical({ ...settings, _id, _creationTime }) === canonical(row);
}

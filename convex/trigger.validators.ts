/** Validators of events, triggers and webhooks, shared by schema, arguments and types. */
import { v, type Infer } from "convex/values";
import { vTemplate } from "./schedule.validators";
import { vFault, vTaskSpec } from "./validators";

// What an event or a call submits. What comes close together may share a task; an occurrence of a schedule has one of its
// own, which overlap decides over, so the template of a schedule has neither field.
export const vEventTemplate = vTemplate.extend(vTaskSpec.pick("debounce", "batch").fields);
export type EventTemplate = Infer<typeof vEventTemplate>;

/** Something that has happened outside of tasks. `data` is JSON text. */
export const vEmitted = v.object({
  tenant: v.optional(v.string()),
  name: v.string(),
  data: v.string(),
  id: v.optional(v.string()), // an event that comes again under its id does nothing
});
export type Emitted = Infer<typeof vEmitted>;

export const vEmission = v.object({
  duplicate: v.boolean(),
  tasks: v.array(v.id("tasks")), // that triggers submitted
  refused: v.array(v.object({ trigger: v.string(), code: v.string(), message: v.string() })),
  woken: v.number(), // tasks that waited for it; beyond a page the rest are woken by transactions of their own
});
export type Emission = Infer<typeof vEmission>;

// The event's data is an object whose field has this value.
export const vCondition = v.object({
  field: v.string(),
  equals: v.union(v.string(), v.number(), v.boolean(), v.null()),
});
export type Condition = Infer<typeof vCondition>;

export const vTriggerSpec = v.object({
  name: v.string(),
  tenant: v.optional(v.string()),
  event: v.string(),
  template: vEventTemplate, // its task's input is { event: { name, id, data }, input: the template's }; batched, the array of these
  filter: v.optional(v.array(vCondition)), // all of them hold
  enabled: v.optional(v.boolean()), // default: as it was, and true for a new one
});
export type TriggerSpec = Infer<typeof vTriggerSpec>;

export const vTriggerView = v.object({
  tenant: v.string(),
  name: v.string(),
  event: v.string(),
  template: vEventTemplate,
  filter: v.array(vCondition),
  enabled: v.boolean(),
  lastError: v.union(vFault, v.null()), // why a task of it was refused last
});
export type TriggerView = Infer<typeof vTriggerView>;

// standard: Standard Webhooks. github: X-Hub-Signature-256 with X-GitHub-Delivery, which nothing signs.
export const vWebhookScheme = v.union(v.literal("standard"), v.literal("github"));

// What a call does. event: emits it; of github, NAME.KIND with the kind of X-GitHub-Event.
export const vWebhookTarget = v.union(
  v.object({ kind: v.literal("event"), event: v.string() }),
  v.object({ kind: v.literal("task"), template: vEventTemplate }), // its input as of a trigger
);

export const vWebhookSpec = v.object({
  name: v.string(), // POST /webhooks/NAME
  tenant: v.optional(v.string()),
  scheme: v.optional(vWebhookScheme), // default: standard
  secretVariables: v.optional(v.array(v.string())), // of the deployment; any of their secrets signs
  target: vWebhookTarget,
  enabled: v.optional(v.boolean()), // default: as it was, and true for a new one
});
export type WebhookSpec = Infer<typeof vWebhookSpec>;

export const vWebhookView = v.object({
  name: v.string(),
  tenant: v.string(),
  scheme: vWebhookScheme,
  secretVariables: v.array(v.string()),
  target: vWebhookTarget,
  enabled: v.boolean(),
});
export type WebhookView = Infer<typeof vWebhookView>;

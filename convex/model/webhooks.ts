/** Calls from outside that are signed: who may call, how it is checked, and what a call does. */
import type { Doc } from "../_generated/dataModel";
import { env, type MutationCtx, type QueryCtx } from "../_generated/server";
import { MAX_LIST, MAX_SECRETS } from "../constants";
import { refuse } from "../errors";
import type { WebhookSpec, WebhookView } from "../trigger.validators";
import { record } from "./events";
import type { Caller } from "./keys";
import { isNew } from "./nonces";
import { flaw, secretsOf } from "./signing";
import { checkTemplate, checkTemplateScope, inScope, isSame } from "./templates";
import { checkInteger, checkJson, checkName } from "./text";
import { emit, submitFor } from "./triggers";

export const DEFAULT_SECRET = "SIGNALBOX_WEBHOOK_SECRET";

const VARIABLE = /^SIGNALBOX_[A-Z0-9_]{1,30}$/; // so that a webhook cannot be checked against anything else that is kept there
const DELIVERY = /^[A-Za-z0-9_-]{1,128}$/;
const KIND = /^[a-z0-9_]{1,40}$/;
const HEX_MAC = /^sha256=([0-9a-f]{64})$/;

/** What a call brings: its headers by lower-case name, and its body exactly as it came. */
export type Call = { header: (name: string) => string | null; body: string };

/** `status`: what the sender is answered. `reason`: for the log alone. */
export type Checked =
  { ok: true; id: string; kind: string | null } | { ok: false; status: 400 | 401 | 503; reason: string };

/**
 * Check who calls: by any of the webhook's secrets, in constant time.
 *
 * @returns the id under which the call is done once; of github also the kind of its event. GitHub signs neither of them.
 */
export async function check(
  { scheme, secretVariables }: Pick<WebhookView, "scheme" | "secretVariables">,
  { header, body }: Call,
  now: number,
  variables: Record<string, string | undefined> = env,
): Promise<Checked> {
  const texts = secretVariables.flatMap((name) => variables[name] ?? []);
  if (scheme === "github") return checkGithub(texts, { header, body });
  const secrets = texts.flatMap((text) => secretsOf(text) ?? []);
  if (secrets.length === 0) return noSecret(secretVariables);
  const id = header("webhook-id");
  const wrong = await flaw(
    secrets,
    { id, timestamp: header("webhook-timestamp"), signature: header("webhook-signature") },
    body,
    now,
  );
  if (wrong === null) return { ok: true, id: id!, kind: null };
  return { ok: false, status: wrong.includes("webhook-signature") ? 401 : 400, reason: wrong };

  function noSecret(names: string[]): Checked {
    return {
      ok: false,
      status: 503,
      reason: `${names.join(", ")} of the deployment: no whsec_ secret is set`,
    };
  }
}

async function checkGithub(texts: string[], { header, body }: Call): Promise<Checked> {
  const secrets = texts.filter((text) => text !== "");
  if (secrets.length === 0) return { ok: false, status: 503, reason: "no secret is set in the deployment" };
  const id = header("x-github-delivery");
  if (id === null || !DELIVERY.test(id)) {
    return { ok: false, status: 400, reason: "x-github-delivery is missing or malformed" };
  }
  const mac = HEX_MAC.exec(header("x-hub-signature-256") ?? "")?.[1];
  if (mac === undefined)
    return { ok: false, status: 401, reason: "x-hub-signature-256 is missing or malformed" };
  const given = Uint8Array.from(mac.match(/../g)!, (byte) => parseInt(byte, 16));
  const encoder = new TextEncoder();
  for (const secret of secrets) {
    const algorithm = { name: "HMAC", hash: "SHA-256" };
    const key = await crypto.subtle.importKey("raw", encoder.encode(secret), algorithm, false, ["verify"]);
    // The comparison takes the same time wherever the first difference is.
    if (await crypto.subtle.verify("HMAC", key, given, encoder.encode(body))) {
      const kind = header("x-github-event");
      return { ok: true, id, kind: kind !== null && KIND.test(kind) ? kind : null };
    }
  }
  return { ok: false, status: 401, reason: "x-hub-signature-256 does not match" };
}

/**
 * Do what a checked call says, and note its id, in one transaction: a call that comes again within NONCE_KEEP_MS does
 * nothing, and one that is refused can be sent again.
 *
 * @throws payload_too_large, invalid_argument, or what its task is refused for
 */
export async function receive(
  ctx: MutationCtx,
  name: string,
  call: { id: string; kind: string | null; body: string },
): Promise<{ duplicate: boolean; again: boolean }> {
  const webhook = await find(ctx, name);
  if (webhook?.enabled !== true) throw refuse("not_found", "No such webhook.");
  const { tenant, target } = webhook;
  checkJson("body", call.body);
  const nonce = `webhook:${name}:${call.id}`;
  if (target.kind === "event") {
    const event = call.kind === null ? target.event : checkName("event", `${target.event}.${call.kind}`);
    const { duplicate, refused } = await emit(
      ctx,
      { tenant, name: event, data: call.body },
      { under: nonce },
    );
    for (const { trigger, message } of refused)
      console.warn(`webhook ${name}: trigger ${trigger} was refused its task: ${message}`);
    return { duplicate, again: refused.some(({ code }) => !isFinal(code)) };
  }
  if (!(await isNew(ctx, nonce, Date.now()))) return { duplicate: true, again: false };
  const about = { name: call.kind === null ? name : `${name}.${call.kind}`, id: call.id, data: call.body };
  const answer = await submitFor(ctx, { tenant, template: target.template }, about);
  if (!answer.ok) throw refuse(answer.code as Parameters<typeof refuse>[0], answer.message);
  const fired = { webhook: name, id: call.id };
  await record(ctx, { _id: answer.task, tenant }, "webhook_received", null, fired);
  return { duplicate: false, again: false };
}

/** Whether a call that was refused so is refused whenever it is sent again. */
export const isFinal = (code: string): boolean => code === "payload_too_large" || code === "invalid_argument";

/** Make the webhook of this name be as given. The same again changes nothing. */
export async function set(
  ctx: MutationCtx,
  caller: Caller,
  spec: WebhookSpec,
): Promise<{ changed: boolean }> {
  const name = checkName("name", spec.name);
  const tenant = checkName("tenant", spec.tenant ?? "default");
  const { target, scheme = "standard", secretVariables = [DEFAULT_SECRET] } = spec;
  if (secretVariables.length < 1 || secretVariables.length > MAX_SECRETS) {
    throw refuse(
      "invalid_argument",
      `secretVariables: ${secretVariables.length} given; use 1 to ${MAX_SECRETS}.`,
    );
  }
  for (const variable of secretVariables) checkVariable(variable, scheme);
  if (target.kind === "event") checkName("target.event", target.event);
  else await checkTemplate(ctx, caller, target.template, tenant);
  const known = await find(ctx, name);
  if (known !== null) checkTargetScope(caller, known);
  const enabled = spec.enabled ?? known?.enabled ?? true;
  const settings = { name, tenant, scheme, secretVariables, target, enabled };
  if (known === null) await ctx.db.insert("webhooks", settings);
  else if (isSame(settings, known)) return { changed: false };
  else await ctx.db.replace("webhooks", known._id, settings);
  return { changed: true };
}

function checkVariable(variable: string, scheme: WebhookView["scheme"]): void {
  if (!VARIABLE.test(variable)) {
    throw refuse(
      "invalid_argument",
      "secretVariables: use names of SIGNALBOX_ and 1 to 30 capital letters, digits and _.",
    );
  }
  const set = env[variable];
  if (scheme === "github" ? !set : secretsOf(set) === null) {
    const form = scheme === "github" ? "a secret" : "whsec_ and base64 of 24 to 64 bytes";
    throw refuse(
      "invalid_argument",
      `secretVariables: ${variable} of the deployment is not set to ${form}. Set it first: npx convex env set ${variable}`,
    );
  }
}

export async function remove(ctx: MutationCtx, caller: Caller, name: string): Promise<boolean> {
  const webhook = await find(ctx, name);
  if (webhook === null) return false;
  checkTargetScope(caller, webhook);
  await ctx.db.delete("webhooks", webhook._id);
  return true;
}

function checkTargetScope(caller: Caller, { target }: Doc<"webhooks">): void {
  if (target.kind === "task") checkTemplateScope(caller, target.template);
}

/** All webhooks, by name, a page of `limit` at a time, less those whose task's queue the caller's key does not serve. */
export async function list(
  ctx: QueryCtx,
  caller: Caller,
  { limit, cursor }: { limit: number; cursor: string | null },
): Promise<{ webhooks: WebhookView[]; cursor: string | null }> {
  const found = await ctx.db
    .query("webhooks")
    .withIndex("by_name")
    .paginate({ numItems: checkInteger("limit", limit, 1, MAX_LIST), cursor });
  const seen = found.page.filter(({ target }) => target.kind === "event" || inScope(caller, target.template));
  return { webhooks: seen.map(view), cursor: found.isDone ? null : found.continueCursor };
}

/** What is needed to check a call; null when nobody may call under this name. */
export async function settings(ctx: QueryCtx, name: string): Promise<WebhookView | null> {
  const webhook = await find(ctx, name);
  return webhook?.enabled === true ? view(webhook) : null;
}

function find(ctx: QueryCtx, name: string): Promise<Doc<"webhooks"> | null> {
  return ctx.db
    .query("webhooks")
    .withIndex("by_name", (q) => q.eq("name", name))
    .unique();
}

function view({ name, tenant, scheme, secretVariables, target, enabled }: Doc<"webhooks">): WebhookView {
  return { name, tenant, scheme, secretVariables, target, enabled };
}

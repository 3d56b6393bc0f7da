import { ConvexError, v } from "convex/values";
import { internal } from "./_generated/api";
import { httpAction, internalMutation, internalQuery } from "./_generated/server";
import { MAX_WEBHOOK_BYTES } from "./constants";
import type { Refusal } from "./errors";
import { operatorMutation, operatorQuery } from "./functions";
import { forgetExpired } from "./model/nonces";
import * as Webhooks from "./model/webhooks";
import { vWebhookSpec, vWebhookView, type WebhookView } from "./trigger.validators";

export const set = operatorMutation({
  args: { webhook: vWebhookSpec },
  returns: v.object({ changed: v.boolean() }),
  handler: (ctx, { webhook }) => Webhooks.set(ctx, ctx.caller, webhook),
});

export const list = operatorQuery({
  args: { limit: v.optional(v.number()), cursor: v.optional(v.union(v.string(), v.null())) },
  returns: v.object({ webhooks: v.array(vWebhookView), cursor: v.union(v.string(), v.null()) }),
  handler: (ctx, { limit = 50, cursor = null }) => Webhooks.list(ctx, ctx.caller, { limit, cursor }),
});

export const remove = operatorMutation({
  args: { name: v.string() },
  returns: v.object({ removed: v.boolean() }),
  handler: async (ctx, { name }) => ({ removed: await Webhooks.remove(ctx, ctx.caller, name) }),
});

export const settings = internalQuery({
  args: { name: v.string() },
  returns: v.union(vWebhookView, v.null()),
  handler: (ctx, { name }) => Webhooks.settings(ctx, name),
});

export const receive = internalMutation({
  args: { name: v.string(), id: v.string(), kind: v.union(v.string(), v.null()), body: v.string() },
  returns: v.object({ duplicate: v.boolean(), again: v.boolean() }), // again: a trigger was refused its task, and it is to be sent again
  handler: (ctx, { name, ...call }) => Webhooks.receive(ctx, name, call),
});

export const forget = internalMutation({
  args: {},
  returns: v.null(),
  handler: async (ctx) => {
    await forgetExpired(ctx, Date.now());
    return null;
  },
});

const NAME = /^\/webhooks\/([A-Za-z0-9][A-Za-z0-9._:-]{0,63})$/;

/**
 * POST /webhooks/NAME. Public on purpose: the signature says who calls. No answer repeats anything of the call.
 * 200: done, now or when it came before; 400, 401, 413: refused for good; 503: to be sent again.
 */
export const handle = httpAction(async (ctx, request) => {
  const name = NAME.exec(new URL(request.url).pathname)?.[1];
  const webhook: WebhookView | null =
    name === undefined ? null : await ctx.runQuery(internal.webhooks.settings, { name });
  if (webhook === null) return answer(404, "no such webhook");
  if (Number(request.headers.get("content-length") ?? 0) > MAX_WEBHOOK_BYTES) return tooLarge();
  const bytes = await request.arrayBuffer();
  if (bytes.byteLength > MAX_WEBHOOK_BYTES) return tooLarge();
  const body = textOf(bytes);
  if (body === null) return answer(400, "the body is not UTF-8");
  const call = { header: (header: string) => request.headers.get(header), body };
  const checked = await Webhooks.check(webhook, call, Date.now());
  if (!checked.ok) {
    console.warn(`webhook ${webhook.name}: ${checked.status}: ${checked.reason}`);
    return answer(checked.status, REFUSED[checked.status]);
  }
  const { id, kind } = checked;
  try {
    const { duplicate, again } = await ctx.runMutation(internal.webhooks.receive, {
      name: webhook.name,
      id,
      kind,
      body,
    });
    return again ? answer(503, NOT_NOW) : Response.json({ ok: true, duplicate });
  } catch (error) {
    if (!(error instanceof ConvexError)) throw error;
    const { code, message } = error.data as Refusal;
    console.warn(`webhook ${webhook.name}: ${code}: ${message}`);
    if (code === "payload_too_large") return tooLarge();
    if (code === "invalid_argument") return answer(400, "the body is not JSON that this webhook takes");
    return answer(503, NOT_NOW);
  }
});

const NOT_NOW = "not now; send it again";
const REFUSED = {
  400: "the headers of the signature are missing, malformed or stale",
  401: "the signature does not match",
  503: NOT_NOW,
} as const;

const answer = (status: number, error: string) => Response.json({ ok: false, error }, { status });

const tooLarge = () =>
  answer(413, `the body is over ${MAX_WEBHOOK_BYTES} bytes, or over what its event may hold`);

function textOf(bytes: ArrayBuffer): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

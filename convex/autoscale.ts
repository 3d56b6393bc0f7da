/** How many slots a queue could use: as a query, and over HTTP for autoscalers such as KEDA's metrics-api scaler. */
import { ConvexError, v } from "convex/values";
import { api } from "./_generated/api";
import { httpAction } from "./_generated/server";
import type { ErrorCode, Refusal } from "./errors";
import { viewerQuery } from "./functions";
import { demandOf } from "./model/autoscale";
import { vDemand } from "./upkeep.validators";

export const read = viewerQuery({
  args: { queue: v.string() },
  returns: vDemand,
  handler: (ctx, { queue }) => demandOf(ctx, ctx.caller, queue, Date.now()),
});

const STATUS: Partial<Record<ErrorCode, number>> = {
  unauthorized: 401,
  forbidden: 403,
  invalid_argument: 400,
};

/** GET /autoscale?queue=NAME with `Authorization: Bearer KEY`. */
export const handle = httpAction(async (ctx, request) => {
  const [, key = ""] = /^Bearer +(\S+)$/i.exec(request.headers.get("authorization") ?? "") ?? [];
  const queue = new URL(request.url).searchParams.get("queue") ?? "default";
  try {
    return Response.json(await ctx.runQuery(api.autoscale.read, { key, queue }));
  } catch (error) {
    if (!(error instanceof ConvexError)) throw error;
    const { code, message } = error.data as Refusal;
    return Response.json({ code, message }, { status: STATUS[code] ?? 500 });
  }
});

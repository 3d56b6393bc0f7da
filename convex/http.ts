import { httpRouter } from "convex/server";
import { internal } from "./_generated/api";
import { httpAction } from "./_generated/server";

const http = httpRouter();

// Public on purpose: a load balancer or watchdog holds no key, and the answer names no task, agent or tenant.
http.route({
  path: "/health",
  method: "GET",
  handler: httpAction(async (ctx) => {
    const health = await ctx.runQuery(internal.health.read, {});
    return Response.json({ status: "ok", ...health });
  }),
});

export default http;

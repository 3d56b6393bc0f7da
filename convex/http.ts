import { httpRouter } from "convex/server";
import { internal } from "./_generated/api";
import { httpAction } from "./_generated/server";
import { handle as autoscale } from "./autoscale";
import { ask, callback, input } from "./push";
import { handle as webhook } from "./webhooks";

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

// Signed by the endpoint that holds the run which the body names; anything else is refused.
http.route({ path: "/push/callback", method: "POST", handler: callback });
http.route({ path: "/push/ask", method: "POST", handler: ask });
http.route({ path: "/push/input", method: "POST", handler: input });

// Signed by the sender, with the secrets of the webhook that the path names.
http.route({ pathPrefix: "/webhooks/", method: "POST", handler: webhook });

// Default deny: the key of an autoscaler, with the role submit or operator.
http.route({ path: "/autoscale", method: "GET", handler: autoscale });

export default http;

/** Validators of endpoints that runs are pushed to. */
import { v, type Infer } from "convex/values";

// push: it is given runs, and answers or calls back. wake: it is told that work waits, and starts a worker.
export const vEndpointMode = v.union(v.literal("push"), v.literal("wake"));

export const vEndpointSpec = v.object({
  name: v.string(),
  url: v.string(),
  healthUrl: v.optional(v.string()), // left out: `url` is asked, and any answer below 500 counts
  mode: v.optional(vEndpointMode),
  queues: v.optional(v.array(v.string())),
  labels: v.optional(v.array(v.string())), // that it carries, as a worker does
  secretVariable: v.string(), // the deployment's variable that holds the secret of its signatures
  enabled: v.optional(v.boolean()),
});
export type EndpointSpec = Infer<typeof vEndpointSpec>;

// An endpoint as it is kept.
export const endpointFields = {
  name: v.string(),
  url: v.string(),
  healthUrl: v.union(v.string(), v.null()),
  mode: vEndpointMode,
  queues: v.array(v.string()),
  labels: v.array(v.string()),
  secretVariable: v.string(),
  enabled: v.boolean(),
};

export const vEndpointView = v.object({
  ...endpointFields,
  live: v.boolean(), // runs are pushed to it
  misses: v.number(), // in a row: checks or calls that it did not answer
  error: v.union(v.string(), v.null()), // of the last of these
});
export type EndpointView = Infer<typeof vEndpointView>;

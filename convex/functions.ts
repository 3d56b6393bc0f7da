/** One builder for each kind of caller. It takes `key` off the arguments, so no handler ever sees a secret. */
import { customMutation, customQuery } from "convex-helpers/server/customFunctions";
import { v } from "convex/values";
import { mutation, query } from "./_generated/server";
import { authorize } from "./model/keys";
import type { Role } from "./validators";

const keyed = (roles: readonly Role[]) =>
  ({
    args: { key: v.string() },
    input: async (ctx: Parameters<typeof authorize>[0], { key }: { key: string }) => ({
      ctx: { caller: await authorize(ctx, key, roles) },
      args: {},
    }),
  }) as const;

export const workerMutation = customMutation(mutation, keyed(["worker"]));
export const workerQuery = customQuery(query, keyed(["worker"]));
export const submitMutation = customMutation(mutation, keyed(["submit", "operator"]));
// A viewer may look at everything that a submitter may, and keep a stream flowing while it looks.
const viewers = ["viewer", "submit", "operator"] as const;
export const viewerMutation = customMutation(mutation, keyed(viewers));
export const viewerQuery = customQuery(query, keyed(viewers));
export const operatorMutation = customMutation(mutation, keyed(["operator"]));
export const operatorQuery = customQuery(query, keyed(["operator"]));

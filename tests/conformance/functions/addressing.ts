import {
  internalAction,
  internalMutation,
  internalQuery,
  action,
  mutation,
  query,
} from "./_generated/server";
import data from "./data.json";
import type { Shape } from "./shapes";

const square: Shape = { sides: 4 };

export const json = query({ args: {}, handler: async () => ({ ...data, ...square }) });

export const hiddenQuery = internalQuery({ args: {}, handler: async () => "hidden query" });
export const hiddenMutation = internalMutation({ args: {}, handler: async () => "hidden mutation" });
export const hiddenAction = internalAction({ args: {}, handler: async () => "hidden action" });

export const aQuery = query({ args: {}, handler: async () => "a query" });
export const aMutation = mutation({ args: {}, handler: async () => "a mutation" });
export const anAction = action({ args: {}, handler: async () => "an action" });

/** Not a function of Convex: clients cannot call it. */
export const helper = () => "a helper";

// What handlers get as arguments, without validators.
export const argsOfQuery = query({ handler: async (_ctx, args) => ({ args: args as object }) });
export const argsOfMutation = mutation({ handler: async (_ctx, args) => ({ args: args as object }) });
export const argsOfAction = action({ handler: async (_ctx, args) => ({ args: args as object }) });

export const undefinedQuery = query({ args: {}, handler: async () => undefined });
export const undefinedMutation = mutation({ args: {}, handler: async () => undefined });
export const undefinedAction = action({ args: {}, handler: async () => undefined });

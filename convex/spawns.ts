/** The tasks that come with the end of a run, in a sub-transaction of its own. */
import { v } from "convex/values";
import { internalMutation } from "./_generated/server";
import { leaveLoopsAlone } from "./model/loops";
import { submitAll } from "./model/spawn";
import { vTaskSpec } from "./validators";

export const next = internalMutation({
  args: { parent: v.id("tasks"), specs: v.array(vTaskSpec) },
  returns: v.null(),
  handler: async (ctx, { parent, specs }) => {
    leaveLoopsAlone(ctx); // as the sync does that it is part of
    await submitAll(ctx, parent, specs);
    return null;
  },
});

import { v } from "convex/values";
import { viewerQuery } from "./functions";
import * as Rollup from "./model/rollup";
import { vCounters } from "./upkeep.validators";

export const read = viewerQuery({
  args: { scope: v.string(), from: v.number(), to: v.number() },
  returns: v.array(v.object({ bucket: v.number(), ...vCounters.fields })),
  handler: (ctx, { scope, from, to }) => Rollup.read(ctx, { scope, from, to }),
});

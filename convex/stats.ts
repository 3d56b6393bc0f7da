import { v } from "convex/values";
import { viewerQuery } from "./functions";
import { checkScope } from "./model/keys";
import * as Rollup from "./model/rollup";
import { needsEveryQueue } from "./model/scope";
import { vCounters } from "./upkeep.validators";

export const read = viewerQuery({
  args: { scope: v.string(), from: v.number(), to: v.number() },
  returns: v.array(v.object({ bucket: v.number(), ...vCounters.fields })),
  handler: (ctx, { scope, from, to }) => {
    const [kind, queue] = scope.split(/:(.*)/s) as [string, string | undefined];
    if (kind === "queue" && queue !== undefined) checkScope(ctx.caller, queue);
    else
      needsEveryQueue(ctx.caller, `scope: only queue:NAME is of a queue, ${JSON.stringify(kind)} is of all`);
    return Rollup.read(ctx, { scope, from, to });
  },
});

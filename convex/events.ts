import { submitMutation } from "./functions";
import * as Triggers from "./model/triggers";
import { vEmission, vEmitted } from "./trigger.validators";

export const emit = submitMutation({
  args: { event: vEmitted },
  returns: vEmission,
  handler: (ctx, { event }) => Triggers.emit(ctx, event, { queues: ctx.caller.queues }),
});

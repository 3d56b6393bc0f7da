/** Syscalls of the scheduler; what they do is part of the mutation's transaction. */

import { CallError } from "../errors.mjs";
import { containsCommitTs } from "../values.mjs";
import { addressedPath } from "./addresses.mjs";
import { jobId, scheduledMs } from "./scheduling-arguments.mjs";

/** @typedef {import("./index.mjs").Syscall} Syscall */

const SELF_CANCEL =
  "A scheduled mutation canceling itself is deprecated and will throw an error in a future version of Convex.";

/** @type {Record<string, Syscall>} */
export const SCHEDULING_SYSCALLS = {
  "1.0/schedule": (call, args) => {
    if (containsCommitTs(args.args)) {
      throw new CallError(
        "A commit timestamp that is not resolved yet cannot be an argument of a scheduled function.",
      );
    }
    call.frame.usage.schedule(JSON.stringify(args.args).length);
    const job = {
      path: addressedPath(args),
      args: [args.args],
      at: scheduledMs(args.ts),
      ...(call.scheduledFunctionId === null ? {} : { parent: call.scheduledFunctionId }),
    };
    return JSON.stringify(call.app.scheduler.schedule(job, call.now));
  },

  "1.0/cancel_job": (call, { id }) => {
    if (id === call.job) call.log(`[WARN] ${SELF_CANCEL}`);
    call.app.scheduler.cancel(jobId(id), call.now);
    return "null";
  },
};

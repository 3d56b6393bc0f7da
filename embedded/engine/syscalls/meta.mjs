/** Syscalls about the call itself. */

import { requestId } from "../../failures.mjs";
import { encodeInt64 } from "../values.mjs";
import { addressedPath, functionHandle } from "./addresses.mjs";

/** @typedef {import("./index.mjs").Syscall} Syscall */

/** @type {Record<string, Syscall>} */
export const META_SYSCALLS = {
  "1.0/getUserIdentity": (call) => JSON.stringify(call.caller.identity),
  "1.0/getTransactionMetrics": (call) => JSON.stringify(call.frame.usage.metrics()),
  "1.0/getSnapshotTs": (call) => JSON.stringify(encodeInt64(call.snapshotTs)),
  "1.0/getFunctionMetadata": (call) => JSON.stringify({ name: call.frame.entry.path, componentPath: "" }),
  "1.0/getDeploymentMetadata": () => JSON.stringify({ name: "embedded", region: null, class: "s16" }),
  "1.0/getRequestMetadata": (call) =>
    JSON.stringify({
      ip: null,
      userAgent: null,
      requestId: requestId(),
      scheduledFunctionId: call.job,
      authToken: null,
    }),
  "1.0/createFunctionHandle": (_call, args) => JSON.stringify(functionHandle(addressedPath(args))),
  "1.0/componentArgument": () => "{}",
};

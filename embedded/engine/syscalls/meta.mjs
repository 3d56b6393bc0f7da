/** Syscalls about the call itself. */

import { displayPath } from "../../paths.mjs";
import { requestMetadata } from "../../request-context.mjs";
import { CallError } from "../errors.mjs";
import { encodeInt64 } from "../values.mjs";
import { addressedPath, functionHandle } from "./addresses.mjs";

/** @typedef {import("./index.mjs").Syscall} Syscall */

/** @type {Record<string, Syscall>} */
export const META_SYSCALLS = {
  "1.0/getUserIdentity": (call) => JSON.stringify(call.caller.identity),
  "1.0/getTransactionMetrics": (call) => JSON.stringify(call.frame.usage.metrics()),
  "1.0/getSnapshotTs": (call) => JSON.stringify(encodeInt64(call.snapshotTs)),
  "1.0/getFunctionMetadata": (call) =>
    JSON.stringify({ name: displayPath(call.frame.entry.path), componentPath: "" }),
  "1.0/getDeploymentMetadata": () => JSON.stringify({ name: "embedded", region: null, class: "s16" }),
  "1.0/getRequestMetadata": (call) => {
    if (call.frame.entry.kind !== "mutation") throw new CallError("Cannot get request metadata in a Query");
    return JSON.stringify(requestMetadata(call.request));
  },
  "1.0/createFunctionHandle": (call, args) => {
    if (typeof args.functionHandle === "string") return JSON.stringify(args.functionHandle);
    const path = addressedPath(args, "createFunctionHandle");
    if (call.app.functions.get(path) === undefined) throw new CallError("Function handle not found");
    return JSON.stringify(functionHandle(path));
  },
  "1.0/auditLog": (call, { body }) => {
    call.audit(body);
    return "null";
  },
  "1.0/componentArgument": () => {
    throw new CallError("Component arguments are not available within the app");
  },
};

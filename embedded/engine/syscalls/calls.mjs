/** The syscall that calls another function inside the same transaction. */

import { CallError } from "../errors.mjs";
import { addressedPath } from "./addresses.mjs";

/** @type {import("./index.mjs").Syscall} */
export function runFunction(call, args) {
  const { udfType, transactionLimits } = args;
  const kind = udfType === "mutation" ? "mutation" : "query";
  const calledByQuery = call.frame.entry.kind === "query";
  if (calledByQuery && udfType !== "query")
    throw new CallError(`A query can call queries only, not a ${udfType}`);
  const entry = call.app.functions.find(addressedPath(args), kind, true);
  return call.runNested(entry, JSON.stringify([args.args]), {
    snapshot: udfType === "snapshotQuery",
    limits: transactionLimits,
  });
}

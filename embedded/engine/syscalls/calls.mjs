/** The syscall that calls another function inside the same transaction. */

import { functionNotFound } from "../../paths.mjs";
import { CallError } from "../errors.mjs";
import { checkValue } from "../values.mjs";
import { addressedPath } from "./addresses.mjs";
import { argument } from "./arguments.mjs";

const KINDS = new Map([
  ["query", "Query"],
  ["mutation", "Mutation"],
  ["snapshotQuery", "SnapshotQuery"],
]);

/** @type {import("./index.mjs").Syscall} */
export function runFunction(call, args) {
  const { udfType, transactionLimits } = args;
  const caller = call.frame.entry.kind;
  argument("args", "runUdf", () => checkValue(args.args, { commitTs: caller === "mutation" }));
  const path = addressedPath(args, "runUdf");
  if (!KINDS.has(udfType) || (caller === "query" && udfType !== "query")) {
    throw new CallError(
      `Cannot call a ${KINDS.get(udfType) ?? udfType} function from a ${KINDS.get(caller)} function`,
    );
  }
  const entry = call.app.functions.find(path, udfType === "mutation" ? "mutation" : "query", true);
  if (entry.native !== undefined && !call.caller.admin) throw new CallError(functionNotFound(path)); // whoever the function is called by
  return call.runNested(entry, JSON.stringify([args.args]), {
    snapshot: udfType === "snapshotQuery",
    budget: transactionLimits,
  });
}

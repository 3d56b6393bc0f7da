/** The list of callbacks that the tests run with, in place of callbacks.ts; the functions are those of probe.testing.ts. */
import { makeFunctionReference } from "convex/server";
import type { Callbacks } from "./callbacks";

const ref = (name: string) => makeFunctionReference(name) as unknown as Callbacks[string];

export const CALLBACKS: Callbacks = {
  note: ref("probe:note"),
  flaky: ref("probe:flaky"),
  broken: ref("probe:broken"),
};

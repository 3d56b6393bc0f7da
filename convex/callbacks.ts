/**
 * The callbacks that a group or task may name in `onComplete`: extend this list with mutations of your own. A caller can
 * name nothing else, so no key opens an internal function.
 *
 * A callback is called exactly once: what it writes commits in the transaction that marks it done. When it throws, nothing of
 * it stands, and it is called again later, CALLBACK_TRIES times in all; then `signalbox groups show` tells that it failed, and
 * `signalbox groups retry-callback` has it called anew.
 *
 *     import { internal } from "./_generated/api";
 *     export const CALLBACKS: Callbacks = { reportReady: internal.reports.ready };
 *
 *     // convex/reports.ts
 *     export const ready = internalMutation({ args: vGroupSummary.fields, returns: v.null(), handler: ... });
 */
import type { FunctionReference } from "convex/server";
import type { GroupSummary } from "./group.validators";

export type Callbacks = Record<string, FunctionReference<"mutation", "internal", GroupSummary, null>>;

export const CALLBACKS: Callbacks = {};

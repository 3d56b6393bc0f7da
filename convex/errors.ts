import { ConvexError } from "convex/values";

/** The codes a caller can act on; the worker maps each to an exception of its own. */
export type ErrorCode =
  | "unauthorized"
  | "forbidden"
  | "invalid_argument"
  | "not_found"
  | "unknown_agent"
  | "payload_too_large"
  | "session_ended"
  | "already_decided"
  | "arguments_changed"
  | "too_many_workers";

export type Refusal = { code: ErrorCode; message: string };

/** Refuse the whole call. `message` is one line: what is wrong, where, what to do. */
export function refuse(code: ErrorCode, message: string): ConvexError<Refusal> {
  return new ConvexError({ code, message });
}

/** Why the host ends a socket, and what the client is told: a last message, or a close code and a reason. */

import { withoutRequestId } from "../failures.mjs";
import { authError, fatalError } from "./messages.mjs";

const POLICY_VIOLATION = 1008;
const INTERNAL_ERROR = 1011;
const TRY_AGAIN = 1013;

/**
 * Ends a session. Clients connect again after every end but that of a protocol error.
 * Without a code the close frame is empty, which is how clients expect the end after an AuthError.
 */
export class SessionEnd extends Error {
  /**
   * @param {string} reason
   * @param {{ code?: number, lastMessage?: string }} told
   */
  constructor(reason, { code, lastMessage }) {
    super(reason);
    this.code = code;
    this.lastMessage = lastMessage;
  }
}

/**
 * The client broke the protocol and would again: official clients stop at a FatalError.
 *
 * @param {string} code
 * @param {string} message
 */
export function protocolError(code, message) {
  return new SessionEnd(`${code}: ${message}`, { code: POLICY_VIOLATION, lastMessage: fatalError(message) });
}

/** @param {string} why */
export function invalidMessage(why) {
  return protocolError("WSMessageInvalidJson", `Received Invalid JSON on websocket: ${why}`);
}

/**
 * The client may do the same again, later.
 *
 * @param {string} code
 * @param {string} message
 */
export function tryAgain(code, message) {
  return new SessionEnd(`${code}: ${message}`, { code: TRY_AGAIN });
}

/**
 * A function's run was ended by the system, not by the function: the client's mutation is applied once it has come again.
 *
 * @param {{ code?: string, message: string }} failure
 */
export function systemError({ code = "InternalServerError", message }) {
  return tryAgain(code, withoutRequestId(message));
}

/** @param {string} message */
export function internalError(message) {
  return new SessionEnd(`InternalServerError: ${message}`, { code: INTERNAL_ERROR });
}

/**
 * @param {string} message
 * @param {number} baseVersion  of the identity
 */
export function refusedCredential(message, baseVersion) {
  return new SessionEnd(message, { lastMessage: authError(message, baseVersion, true) });
}

/** @param {number} baseVersion */
export function tokenExpired(baseVersion) {
  const message = "Convex token identity expired";
  return new SessionEnd(message, { lastMessage: authError(message, baseVersion, false) });
}

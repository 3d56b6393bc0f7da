/** Reads the sync protocol's client messages. */

import { actingIdentity } from "../auth/identity.mjs";
import { isTooDeep } from "../json-depth.mjs";
import { canonicalPath, pathError } from "../paths.mjs";
import { invalidMessage, protocolError } from "./ends.mjs";

/**
 * @typedef {{ tokenType: "None" } | { tokenType: "User", value: string } | AdminCredential} Credential
 * @typedef {{ tokenType: "Admin", value: string, actingAs: import("../auth/identity.mjs").Identity | null }} AdminCredential
 */

/**
 * @param {string} text  one frame
 * @returns {Record<string, unknown> & { type: string }}
 * @throws {import("./ends.mjs").SessionEnd}
 */
export function parseMessage(text) {
  if (isTooDeep(text)) throw invalidMessage("recursion limit exceeded");
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    throw invalidMessage("the frame is not valid JSON");
  }
  if (typeof message !== "object" || message === null || typeof message.type !== "string") {
    throw invalidMessage("the frame is not a message with a type");
  }
  return message;
}

/**
 * @param {Record<string, unknown>} message
 * @param {string} field
 * @returns {number}
 * @throws {import("./ends.mjs").SessionEnd}
 */
export function readCount(message, field) {
  const value = message[field];
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > 0xffffffff) {
    throw invalidMessage(`${field} must be an unsigned 32-bit integer`);
  }
  return value;
}

/**
 * @param {Record<string, unknown>} message
 * @param {string} field
 * @returns {string}
 * @throws {import("./ends.mjs").SessionEnd}
 */
export function readText(message, field) {
  const value = message[field];
  if (typeof value !== "string" || value === "") throw invalidMessage(`${field} must be a text`);
  return value;
}

/**
 * @param {Record<string, unknown>} message  one that names a function
 * @returns {{ path: string, args: string }} a canonical path, and the JSON text of a one-element array
 * @throws {import("./ends.mjs").SessionEnd}
 */
export function readCall(message) {
  const path = readText(message, "udfPath");
  const error = pathError(path);
  if (error !== null) throw invalidMessage(error);
  const { args = [{}], componentPath = "" } = message;
  if (!Array.isArray(args) || args.length > 1) throw invalidMessage("args must be an array with one object");
  if (componentPath !== "" && componentPath !== null) {
    throw protocolError("ComponentPathNotFound", `Component path '${componentPath}' not found`);
  }
  return { path: canonicalPath(path), args: JSON.stringify(args.length === 0 ? [{}] : args) };
}

/**
 * @param {Record<string, unknown>} message
 * @returns {Credential}
 * @throws {import("./ends.mjs").SessionEnd}
 */
export function readCredential(message) {
  switch (message.tokenType) {
    case "None":
      return { tokenType: "None" };
    case "User":
      return { tokenType: "User", value: readText(message, "value") };
    case "Admin": {
      const attributes = message.impersonating ?? message.acting_as ?? null;
      const actingAs = attributes === null ? null : actingIdentity(attributes);
      if (attributes !== null && actingAs === null) {
        throw invalidMessage('either "tokenIdentifier" or "issuer" and "subject" of the user must be set');
      }
      return { tokenType: "Admin", value: readText(message, "value"), actingAs };
    }
    default:
      throw invalidMessage("tokenType must be Admin, User or None");
  }
}

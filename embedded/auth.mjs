/** Decides who a caller is from what it shows: an admin key, a user's token or nothing. */

import { createHash, timingSafeEqual } from "node:crypto";

/**
 * @typedef {object} Caller
 * @property {boolean} admin  may call internal functions
 * @property {Record<string, unknown> | null} identity  what `ctx.auth.getUserIdentity()` answers
 */

/** Known to everybody, so the host takes it on the loopback address only. */
export const DEVELOPMENT_ADMIN_KEY = "signalbox|development-admin-key";

/** @type {Caller} */
export const ANONYMOUS = Object.freeze({ admin: false, identity: null });

const NO_AUTH_PROVIDER =
  "No auth provider is configured on this host: user tokens cannot be checked, use an admin key or no token";

/** A credential that was refused. `code` is a transport error code of Convex. */
export class AuthError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** Checks credentials against one admin key. */
export class Authenticator {
  /** @param {string} adminKey */
  constructor(adminKey) {
    this.#digest = digest(adminKey);
  }

  /** @type {Buffer} */
  #digest;

  /**
   * The caller of an HTTP request.
   *
   * @param {string | undefined} header  the Authorization header: `Convex KEY[:BASE64(JSON identity)]`, `Bearer JWT` or none
   * @returns {Caller}
   * @throws {AuthError}
   */
  fromHeader(header) {
    if (header === undefined) return ANONYMOUS;
    const [, scheme = "", credential = ""] = /^(\S+) +(\S+) *$/.exec(header) ?? [];
    switch (scheme.toLowerCase()) {
      case "convex":
        return this.#fromCredential(credential);
      case "bearer":
        throw new AuthError("NoAuthProvider", NO_AUTH_PROVIDER);
      default:
        throw new AuthError(
          "InvalidAuthHeader",
          "The Authorization header must be 'Convex KEY' or 'Bearer TOKEN'",
        );
    }
  }

  /**
   * The caller behind a socket's Authenticate message.
   *
   * @param {Record<string, unknown>} message
   * @returns {Caller}
   * @throws {AuthError}
   */
  fromMessage(message) {
    switch (message.tokenType) {
      case "None":
        return ANONYMOUS;
      case "Admin": {
        if (typeof message.value !== "string" || !this.#matches(message.value)) throw badAdminKey();
        const acting = message.impersonating ?? message.acting_as ?? null;
        return { admin: true, identity: acting === null ? null : userIdentity(acting) };
      }
      case "User":
        throw new AuthError("NoAuthProvider", NO_AUTH_PROVIDER);
      default:
        throw new AuthError("InvalidAuthHeader", "tokenType must be Admin, User or None");
    }
  }

  /**
   * @param {string} credential
   * @returns {Caller}
   */
  #fromCredential(credential) {
    if (this.#matches(credential)) return { admin: true, identity: null };
    const colon = credential.lastIndexOf(":"); // base64 has no colon, a key may have
    if (colon === -1 || !this.#matches(credential.slice(0, colon))) throw badAdminKey();
    return { admin: true, identity: decodeIdentity(credential.slice(colon + 1)) };
  }

  /** @param {string} key */
  #matches(key) {
    return timingSafeEqual(digest(key), this.#digest);
  }
}

/** @param {string} key  `secret`, `instance|secret` or `kind:instance|secret`: only the secret counts */
function digest(key) {
  return createHash("sha256")
    .update(key.slice(key.indexOf("|") + 1))
    .digest();
}

function badAdminKey() {
  return new AuthError(
    "BadAdminKey",
    "The provided admin key is not this host's: give the one it was started with",
  );
}

/** @param {string} base64 */
function decodeIdentity(base64) {
  try {
    return userIdentity(JSON.parse(Buffer.from(base64, "base64").toString("utf8")));
  } catch (error) {
    if (error instanceof AuthError) throw error;
    throw new AuthError(
      "InvalidAuthHeader",
      "The identity after the admin key must be the base64 of a JSON object",
    );
  }
}

/**
 * @param {unknown} attributes
 * @returns {Record<string, unknown>} with `tokenIdentifier`, as a token of that issuer would give
 */
function userIdentity(attributes) {
  if (typeof attributes !== "object" || attributes === null || Array.isArray(attributes)) {
    throw new AuthError("InvalidAuthHeader", "The identity to act as must be a JSON object");
  }
  const identity = /** @type {Record<string, unknown>} */ (attributes);
  if (typeof identity.subject !== "string" || typeof identity.issuer !== "string") {
    throw new AuthError(
      "InvalidAuthHeader",
      "The identity to act as needs the strings 'subject' and 'issuer'",
    );
  }
  return { ...identity, tokenIdentifier: `${identity.issuer}|${identity.subject}` };
}

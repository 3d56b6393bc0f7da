/** Decides who a caller is from what it shows: an admin key, a user's token or nothing. */

import { timingSafeEqual } from "node:crypto";
import { secretOf } from "./admin-key.mjs";
import { AuthError } from "./auth/errors.mjs";
import { actingIdentity } from "./auth/identity.mjs";
import { KeySets } from "./auth/key-sets.mjs";
import { verifyToken } from "./auth/tokens.mjs";

export { AuthError };

/**
 * @typedef {object} Caller
 * @property {boolean} admin  may call internal functions, also while it acts as a user
 * @property {Record<string, unknown> | null} identity  what `ctx.auth.getUserIdentity()` answers
 * @typedef {{ caller: Caller, expiresAt: number | null }} Identified  ms since the epoch; null: a key does not expire
 */

/** @type {Caller} */
export const ANONYMOUS = Object.freeze({ admin: false, identity: null });

const MIN_COMPARED_BYTES = 256; // so that the length of a usual key does not show either
const SCHEME_CHARS = "convex ".length; // and as many as in "bearer "

/** Checks admin keys against one, and users' tokens against the providers of the functions that are served. */
export class Authenticator {
  /**
   * @param {string} adminKey
   * @param {object} [settings]
   * @param {() => import("./auth/providers.mjs").AuthProvider[]} [settings.providers]  of the functions that are served now
   * @param {KeySets} [settings.keySets]
   * @param {() => number} [settings.now]  ms since the epoch
   */
  constructor(adminKey, { providers = () => [], keySets = new KeySets(), now = () => Date.now() } = {}) {
    const secret = Buffer.from(secretOf(adminKey));
    this.#bytes = secret.length;
    this.#secret = Buffer.alloc(Math.max(secret.length, MIN_COMPARED_BYTES));
    this.#secret.set(secret);
    this.#given = Buffer.alloc(this.#secret.length);
    this.#providers = providers;
    this.#keySets = keySets;
    this.now = now;
  }

  /** With zeros behind it. */
  #secret;
  #bytes;
  /** Room for what is held against it. */
  #given;
  #providers;
  #keySets;
  /** Ms since the epoch, by which tokens expire. */
  now;

  /**
   * The caller of an HTTP request.
   *
   * @param {string | undefined} header  the Authorization header: `Convex KEY[:BASE64(JSON identity)]`, `Bearer JWT` or none
   * @returns {Promise<Caller>}
   * @throws {AuthError}
   */
  async authenticate(header) {
    const token = bearerToken(header);
    return token === null ? this.fromHeader(header) : (await this.#verify(token)).caller;
  }

  /**
   * The caller of an HTTP request to what is for the admin alone, known at once: a user's token is refused unread.
   *
   * @param {string | undefined} header
   * @returns {Caller}
   * @throws {AuthError}
   */
  fromHeader(header) {
    if (header === undefined) return ANONYMOUS;
    if (bearerToken(header) !== null) throw notAdmin();
    if (!/^convex /i.test(header)) throw new AuthError("InvalidAdminKey", "Invalid admin key", 400);
    const credential = header.slice(SCHEME_CHARS).trim();
    if (this.#matches(credential)) return { admin: true, identity: null };
    const colon = credential.lastIndexOf(":"); // base64 has no colon, a key may have
    if (colon === -1 || !this.#matches(credential.slice(0, colon))) throw badAdminKey();
    return { admin: true, identity: decodeIdentity(credential.slice(colon + 1)) };
  }

  /**
   * @param {string | undefined} header
   * @returns {Caller} an admin
   * @throws {AuthError} also for everybody else
   */
  requireAdmin(header) {
    const caller = this.fromHeader(header);
    if (!caller.admin) throw notAdmin();
    return caller;
  }

  /**
   * The caller behind a socket's Authenticate message.
   *
   * @param {import("./sync/requests.mjs").Credential} credential
   * @returns {Promise<Identified>}
   * @throws {AuthError}
   */
  async identify(credential) {
    switch (credential.tokenType) {
      case "None":
        return { caller: ANONYMOUS, expiresAt: null };
      case "Admin":
        if (!this.#matches(credential.value)) throw badAdminKey();
        return { caller: { admin: true, identity: credential.actingAs }, expiresAt: null };
      case "User":
        return this.#verify(credential.value);
    }
  }

  /**
   * @param {string} token
   * @returns {Promise<Identified>}
   */
  async #verify(token) {
    const { identity, expiresAt } = await verifyToken(token, {
      providers: this.#providers(),
      keySets: this.#keySets,
      now: this.now(),
    });
    return { caller: { admin: false, identity }, expiresAt };
  }

  /**
   * In a time that tells nothing of the secret: always as many bytes are compared. A hash would cost ten times as much.
   *
   * @param {string} key
   */
  #matches(key) {
    const given = secretOf(key);
    this.#given.fill(0).write(given);
    const isEqual = timingSafeEqual(this.#given, this.#secret);
    return isEqual && Buffer.byteLength(given) === this.#bytes;
  }
}

/**
 * @param {string | undefined} header
 * @returns {string | null}
 */
function bearerToken(header) {
  if (header === undefined) return null;
  if (header.length < SCHEME_CHARS)
    throw new AuthError("InvalidHeaderFailure", "Invalid authentication header", 400);
  return /^bearer /i.test(header) ? header.slice(SCHEME_CHARS).trim() : null;
}

function badAdminKey() {
  return new AuthError("BadAdminKey", "The provided admin key was invalid for this instance");
}

function notAdmin() {
  return new AuthError(
    "BadDeployKey",
    "The provided deploy key was invalid for this deployment. Double check that the environment this key was generated for matches the desired deployment.",
    403,
  );
}

/** @param {string} base64 */
function decodeIdentity(base64) {
  const identity = actingIdentity(parseJson(Buffer.from(base64, "base64").toString("utf8")));
  if (identity === null) throw new AuthError("HeaderParseFailure", "Malformed Authorization header.", 400);
  return identity;
}

/** @param {string} text */
function parseJson(text) {
  try {
    return /** @type {unknown} */ (JSON.parse(text));
  } catch {
    return null;
  }
}

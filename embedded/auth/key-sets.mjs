/** Gets providers' public keys: from data URLs, and over HTTP with a deadline, a bound and a cache. */

import { AuthError, invalidToken } from "./errors.mjs";

/** @typedef {Record<string, unknown>} Jwk  one key of a set, as it came */

const DEADLINE_MS = 10_000; // a socket's messages wait for it
const MAX_BYTES = 1 << 20;
const LIFE_MS = 300_000;
const REFRESH_MS = 10_000; // a token with an unknown key may ask again after this long, since providers rotate keys
const MEDIA_TYPE = /^application\/(?:json|jwk-set\+json)(?:;\s*charset=(?:utf-8|"utf-8"))?$/i;
const DATA_URL = /^data:([^,]*),(.*)$/s;

/** Remembers what it has fetched; there are as many entries as providers. */
export class KeySets {
  /** @param {{ now?: () => number, deadlineMs?: number }} [settings]  now: ms, from any start */
  constructor({ now = () => performance.now(), deadlineMs = DEADLINE_MS } = {}) {
    this.#now = now;
    this.#deadlineMs = deadlineMs;
  }

  #now;
  #deadlineMs;
  /** @type {Map<string, { at: number, keys: Promise<Jwk[]> }>} */
  #fetched = new Map();

  /**
   * The keys of a `customJwt` provider.
   *
   * @param {string} url  http, https or data
   * @param {unknown} kid  of the key that is wanted
   * @returns {Promise<Jwk[]>}
   * @throws {AuthError} InvalidAuthHeader
   */
  async custom(url, kid) {
    if (url.startsWith("data:")) return parseKeySet(url, readDataUrl(url));
    return this.#remembered(url, kid, async () => parseKeySet(url, await this.#fetchKeySet(url)));
  }

  /**
   * The keys of an OpenID Connect provider.
   *
   * @param {string} issuer  URL as the token has it
   * @param {unknown} kid
   * @returns {Promise<Jwk[]>}
   * @throws {AuthError} AuthProviderDiscoveryFailed
   */
  async discovered(issuer, kid) {
    return this.#remembered(issuer, kid, async () => {
      const about = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
      const metadata = await this.#fetchMetadata(issuer, about);
      if (metadata.issuer !== issuer || typeof metadata.jwks_uri !== "string") throw discoveryFailed(issuer);
      const { keys } = await this.#fetchMetadata(issuer, metadata.jwks_uri);
      if (!isKeyList(keys)) throw discoveryFailed(issuer);
      return keys;
    });
  }

  /**
   * @param {string} name
   * @param {unknown} kid
   * @param {() => Promise<Jwk[]>} fetchKeys
   */
  async #remembered(name, kid, fetchKeys) {
    const known = this.#fetched.get(name);
    if (known !== undefined) {
      const age = this.#now() - known.at;
      if (age < LIFE_MS) {
        const keys = await known.keys;
        if (age < REFRESH_MS || kid === undefined || keys.some((key) => key.kid === kid)) return keys;
      }
    }
    const keys = fetchKeys();
    const entry = { at: this.#now(), keys };
    this.#fetched.set(name, entry);
    keys.catch(() => {
      if (this.#fetched.get(name) === entry) this.#fetched.delete(name); // the next token asks again
    });
    return keys;
  }

  /** @param {string} url */
  async #fetchKeySet(url) {
    const where = `Could not fetch JWKS from URL '${url}'`;
    const check = "Check that the URL is correct and accessible.";
    const { status, statusText, type, body } = await this.#get(url).catch((/** @type {Error} */ error) => {
      throw invalidToken(`${where}: ${error.message}. ${check}`);
    });
    if (status !== 200) throw invalidToken(`${where}: HTTP ${status} ${statusText || "Unknown"}. ${check}`);
    if (!MEDIA_TYPE.test(type)) {
      throw invalidToken(
        `Invalid Content-Type '${type || "unknown"}' when fetching JWKS from '${url}'. Expected 'application/json' or 'application/jwk-set+json'.`,
      );
    }
    return body;
  }

  /**
   * @param {string} issuer
   * @param {string} url
   * @returns {Promise<Record<string, unknown>>}
   */
  async #fetchMetadata(issuer, url) {
    const { status, body } = await this.#get(url).catch(() => {
      throw discoveryFailed(issuer);
    });
    if (status !== 200) throw discoveryFailed(issuer, status, body);
    const value = parseJson(body);
    if (typeof value !== "object" || value === null) throw discoveryFailed(issuer);
    return /** @type {Record<string, unknown>} */ (value);
  }

  /** @param {string} url */
  async #get(url) {
    const response = await fetch(url, {
      headers: { accept: "application/json" },
      redirect: "manual",
      signal: AbortSignal.timeout(this.#deadlineMs),
    });
    const { status, statusText, headers } = response;
    /** @type {Uint8Array[]} */
    const pieces = [];
    let size = 0;
    for await (const piece of response.body ?? []) {
      size += piece.length;
      if (size > MAX_BYTES) throw new Error(`the answer is larger than ${MAX_BYTES} bytes`);
      pieces.push(piece);
    }
    const body = Buffer.concat(pieces).toString("utf8");
    return { status, statusText, type: headers.get("content-type") ?? "", body };
  }
}

/** @param {string} url */
function readDataUrl(url) {
  const [, type = "", data = null] = DATA_URL.exec(url) ?? [];
  const bytes = data === null ? null : decodeData(data, /;\s*base64\s*$/i.test(type));
  if (bytes === null) {
    throw invalidToken(
      "Invalid JWKS data URL. Check that the data URL is properly formatted and contains valid base64-encoded JSON.",
    );
  }
  return bytes;
}

/**
 * @param {string} data
 * @param {boolean} isBase64
 * @returns {string | null}
 */
function decodeData(data, isBase64) {
  try {
    const text = decodeURIComponent(data);
    if (!isBase64) return text;
    return /^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(text) ? Buffer.from(text, "base64").toString("utf8") : null;
  } catch {
    return null;
  }
}

/**
 * @param {string} url
 * @param {string} text
 * @returns {Jwk[]}
 */
function parseKeySet(url, text) {
  const set = /** @type {any} */ (parseJson(text));
  if (isKeyList(set?.keys)) return set.keys;
  throw invalidToken(
    `Invalid JWKS response body from '${url}'. The response is not valid JSON or doesn't match the expected JWKS format.`,
  );
}

/**
 * @param {unknown} keys
 * @returns {keys is Jwk[]}
 */
function isKeyList(keys) {
  return Array.isArray(keys) && keys.every((key) => typeof key?.kty === "string");
}

/** @param {string} text */
function parseJson(text) {
  try {
    return /** @type {unknown} */ (JSON.parse(text));
  } catch {
    return undefined;
  }
}

/**
 * @param {string} issuer
 * @param {number} [status]  that the provider answered with
 * @param {string} [body]
 */
function discoveryFailed(issuer, status, body = "") {
  const said = status === undefined ? "" : `: ${status} ${body.slice(0, 200)}`.trimEnd();
  const message = `Auth provider discovery of ${issuer} failed${said}`;
  return new AuthError("AuthProviderDiscoveryFailed", message, forwardedStatus(status ?? 400));
}

/** @param {number} status  a provider's */
function forwardedStatus(status) {
  if (status >= 500) return 503;
  return [401, 403, 404, 429].includes(status) ? status : 400;
}

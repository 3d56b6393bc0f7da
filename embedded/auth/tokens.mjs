/** Checks users' tokens: JSON Web Tokens of the providers that `auth.config` declares. */

import { createPublicKey, verify } from "node:crypto";
import { AuthError, invalidToken } from "./errors.mjs";
import { customJwtIdentity, oidcIdentity } from "./identity.mjs";
import { describeProviders, matchProvider, sameIssuer } from "./providers.mjs";

/**
 * @typedef {import("./identity.mjs").Identity} Identity
 * @typedef {import("./key-sets.mjs").Jwk} Jwk
 * @typedef {import("./providers.mjs").AuthProvider} AuthProvider
 * @typedef {object} Token
 * @property {Record<string, any>} header
 * @property {Record<string, any>} claims
 * @property {Buffer} signed
 * @property {Buffer} signature
 * @typedef {{ identity: Identity, expiresAt: number }} Verified  ms since the epoch
 */

const TOLERANCE_S = 5; // between the clocks of a customJwt provider and this host
const MIN_RSA_BITS = 2048;
const BASE64URL = /^[A-Za-z0-9_-]*$/;

/**
 * @param {string} text
 * @param {object} settings
 * @param {AuthProvider[]} settings.providers
 * @param {import("./key-sets.mjs").KeySets} settings.keySets
 * @param {number} settings.now  ms since the epoch
 * @returns {Promise<Verified>}
 * @throws {AuthError} with the code and the text of Convex
 */
export async function verifyToken(text, { providers, keySets, now }) {
  const token = parseToken(text);
  if (token === null) {
    throw invalidToken(
      "Could not parse JWT payload. Check that the token is a valid JWT format with three base64-encoded parts separated by dots.",
    );
  }
  const { iss } = token.claims;
  if (iss === undefined) throw missingIssuer();
  const provider = matchProvider(providers, iss, audiencesOf(token.claims));
  if (provider === undefined) throw noProvider(providers);
  return "domain" in provider
    ? verifyOidc(token, provider, await keySets.discovered(iss, token.header.kid), now)
    : verifyCustom(token, provider, await keySets.custom(provider.jwks, token.header.kid), now);
}

/**
 * @param {Token} token
 * @param {import("./providers.mjs").CustomJwtProvider} provider
 * @param {Jwk[]} keys
 * @param {number} now
 * @returns {Verified}
 */
function verifyCustom(
  { header, claims, signed, signature },
  { algorithm, issuer, applicationID },
  keys,
  now,
) {
  const { alg, kid } = header;
  const key = typeof kid === "string" ? keys.find((one) => one.kid === kid) : undefined;
  const isRight = key !== undefined && alg === algorithm && (key.alg === undefined || key.alg === algorithm);
  if (!isRight || !isSigned(algorithm, key, signed, signature)) {
    throw invalidToken(
      typeof kid === "string"
        ? `Could not decode token. The JWT's 'kid' (key ID) header is '${kid}', does this key match any key in the provider's JWKS?`
        : "Could not decode token. JWT may be missing a 'kid' (key ID) header.",
    );
  }
  if (!sameIssuer(issuer, claims.iss)) throw invalidToken(`Invalid issuer: ${claims.iss} != ${issuer}`);
  if (applicationID !== undefined && !audiencesOf(claims).includes(applicationID)) {
    throw invalidToken(`Invalid audience: ${applicationID} not in ${JSON.stringify(audiencesOf(claims))}`);
  }
  const { exp, iat, nbf, sub } = claims;
  const nowS = Math.floor(now / 1000);
  if (exp !== undefined && nowS - exp > TOLERANCE_S) {
    throw invalidToken(`Could not validate token: Token expired ${nowS - exp} seconds ago`);
  }
  for (const start of [iat, nbf]) {
    if (start === undefined || start - nowS <= TOLERANCE_S) continue;
    throw invalidToken(`Could not validate token: Token will be valid in ${start - nowS} seconds`);
  }
  if (sub === undefined || exp === undefined) {
    throw invalidToken(
      "Could not verify token claim. Check that the JWT contains valid claims and matches your auth provider configuration.",
    );
  }
  return { identity: customJwtIdentity(claims), expiresAt: exp * 1000 };
}

/**
 * @param {Token} token
 * @param {import("./providers.mjs").OidcProvider} provider
 * @param {Jwk[]} keys
 * @param {number} now
 * @returns {Verified}
 */
function verifyOidc({ header, claims, signed, signature }, { applicationID }, keys, now) {
  const { exp, iat, sub } = claims;
  if (exp === undefined || iat === undefined || sub === undefined) {
    throw invalidToken("Could not parse as OIDC ID token. Token might not be an OIDC-compliant JWT.");
  }
  const algorithm = header.alg === "RS256" || header.alg === "EdDSA" ? header.alg : null;
  const audiences = audiencesOf(claims);
  const candidates = keys.filter(
    (key) =>
      key.kty === (algorithm === "EdDSA" ? "OKP" : "RSA") &&
      (key.use === undefined || key.use === "sig") &&
      (header.kid === undefined || key.kid === header.kid),
  );
  const [key, ...others] = candidates;
  const isValid =
    algorithm !== null &&
    key !== undefined &&
    others.length === 0 && // which of several keys is meant must be said
    audiences.length === 1 &&
    audiences[0] === applicationID &&
    exp * 1000 > now &&
    isSigned(algorithm, key, signed, signature);
  if (!isValid) {
    throw new AuthError(
      "Unauthenticated",
      "Could not verify OIDC token claim. Check that the token signature is valid and the token hasn't expired.",
    );
  }
  return { identity: oidcIdentity(claims), expiresAt: exp * 1000 };
}

/**
 * @param {"RS256" | "ES256" | "EdDSA"} algorithm
 * @param {Jwk} jwk
 * @param {Buffer} signed
 * @param {Buffer} signature
 * @returns {boolean}
 */
function isSigned(algorithm, jwk, signed, signature) {
  try {
    const key = createPublicKey({ key: /** @type {any} */ (jwk), format: "jwk" });
    const { modulusLength = 0, namedCurve } = key.asymmetricKeyDetails ?? {};
    switch (algorithm) {
      case "RS256":
        return (
          key.asymmetricKeyType === "rsa" &&
          modulusLength >= MIN_RSA_BITS &&
          verify("sha256", signed, key, signature)
        );
      case "ES256":
        return (
          namedCurve === "prime256v1" &&
          verify("sha256", signed, { key, dsaEncoding: "ieee-p1363" }, signature)
        );
      case "EdDSA":
        return key.asymmetricKeyType === "ed25519" && verify(null, signed, key, signature);
    }
  } catch {
    return false; // no usable key
  }
}

/**
 * @param {string} text
 * @returns {Token | null} null: malformed
 */
function parseToken(text) {
  const parts = text.split(".");
  const [header = "", payload = "", signature = ""] = parts;
  if (parts.length !== 3 || !parts.every((part) => BASE64URL.test(part))) return null;
  const [decodedHeader, claims] = [decode(header), decode(payload)];
  if (decodedHeader === null || claims === null || !areClaims(claims)) return null;
  return {
    header: decodedHeader,
    claims,
    signed: Buffer.from(`${header}.${payload}`),
    signature: Buffer.from(signature, "base64url"),
  };
}

/**
 * @param {string} part
 * @returns {Record<string, any> | null}
 */
function decode(part) {
  try {
    const value = JSON.parse(Buffer.from(part, "base64url").toString("utf8"));
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

/** @param {Record<string, any>} claims */
function areClaims({ iss, sub, aud, exp, nbf, iat }) {
  const isText = (/** @type {unknown} */ value) => value === undefined || typeof value === "string";
  const isTime = (/** @type {unknown} */ value) => value === undefined || Number.isSafeInteger(value);
  const isAudience = Array.isArray(aud) ? aud.every((one) => typeof one === "string") : isText(aud);
  return isText(iss) && isText(sub) && isAudience && isTime(exp) && isTime(nbf) && isTime(iat);
}

/**
 * @param {Record<string, any>} claims
 * @returns {string[]}
 */
function audiencesOf({ aud = [] }) {
  return typeof aud === "string" ? [aud] : aud;
}

function missingIssuer() {
  return invalidToken(
    "Missing issuer claim ('iss') in JWT payload. The JWT must include an 'iss' claim that matches one of your configured auth providers.",
  );
}

/** @param {AuthProvider[]} providers */
function noProvider(providers) {
  return new AuthError(
    "NoAuthProvider",
    providers.length === 0
      ? "No auth provider found matching the given token (no providers configured). Check convex/auth.config.ts."
      : `No auth provider found matching the given token. Check that your JWT's issuer and audience match one of your configured providers: [${describeProviders(providers)}]`,
  );
}

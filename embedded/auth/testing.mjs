/** A customJwt provider for tests: its key, and tokens that it signs. */

import { generateKeyPairSync, sign } from "node:crypto";

export const ISSUER = "https://issuer.example";
export const AUDIENCE = "app";

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const ec = generateKeyPairSync("ec", { namedCurve: "P-256" });

/** Each kind of key by the algorithm that it is for. */
export const KEYS = { RS256: rsa, ES256: ec };

/**
 * @param {"RS256" | "ES256"} [algorithm]
 * @returns {Record<string, unknown>[]} the provider's public keys, by their `kid`
 */
export function keySet(algorithm = "ES256") {
  const jwk = KEYS[algorithm].publicKey.export({ format: "jwk" });
  return [{ ...jwk, kid: "k1", use: "sig", alg: algorithm }];
}

/** @param {unknown} keys */
export function dataUrl(keys) {
  return `data:application/json;base64,${Buffer.from(JSON.stringify({ keys })).toString("base64")}`;
}

/**
 * @param {Partial<import("./providers.mjs").CustomJwtProvider>} [changes]
 * @returns {import("./providers.mjs").CustomJwtProvider}
 */
export function provider(changes = {}) {
  const algorithm = changes.algorithm ?? "ES256";
  return {
    type: "customJwt",
    issuer: ISSUER,
    applicationID: AUDIENCE,
    jwks: dataUrl(keySet(algorithm)),
    algorithm,
    ...changes,
  };
}

/**
 * A token that the provider takes, but for the changes; undefined leaves a claim out.
 *
 * @param {Record<string, unknown>} [claims]
 * @param {{ header?: Record<string, unknown>, algorithm?: "RS256" | "ES256", key?: import("node:crypto").KeyObject }} [options]
 */
export function userToken(
  claims = {},
  { header = {}, algorithm = "ES256", key = KEYS[algorithm].privateKey } = {},
) {
  const now = Math.floor(Date.now() / 1000);
  return signedToken(
    { alg: algorithm, kid: "k1", typ: "JWT", ...header },
    { iss: ISSUER, sub: "u1", aud: AUDIENCE, iat: now, exp: now + 3600, ...claims },
    (data) => sign("sha256", data, { key, dsaEncoding: "ieee-p1363" }),
  );
}

/**
 * @param {unknown} header
 * @param {unknown} claims
 * @param {(data: Buffer) => Buffer} signer
 */
export function signedToken(header, claims, signer) {
  const encode = (/** @type {unknown} */ value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${encode(header)}.${encode(claims)}`;
  return `${signed}.${signer(Buffer.from(signed)).toString("base64url")}`;
}

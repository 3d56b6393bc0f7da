/** What `ctx.auth.getUserIdentity()` answers: from attributes that an admin gives, and from the claims of tokens. */

/**
 * @typedef {Record<string, unknown>} Identity  always with `tokenIdentifier`
 * @typedef {Record<string, any>} Claims  a token's payload
 */

const TEXTS = new Set([
  "tokenIdentifier",
  "issuer",
  "subject",
  "name",
  "givenName",
  "familyName",
  "nickname",
  "preferredUsername",
  "profileUrl",
  "pictureUrl",
  "websiteUrl",
  "email",
  "gender",
  "birthday",
  "timezone",
  "language",
  "phoneNumber",
  "address",
  "updatedAt",
]);
const BOOLEANS = new Set(["emailVerified", "phoneNumberVerified"]);

/** OIDC's standard claims by the fields that Convex shows them as. */
const STANDARD_CLAIMS = {
  name: "name",
  given_name: "givenName",
  family_name: "familyName",
  nickname: "nickname",
  preferred_username: "preferredUsername",
  profile: "profileUrl",
  picture: "pictureUrl",
  website: "websiteUrl",
  email: "email",
  email_verified: "emailVerified",
  gender: "gender",
  birthdate: "birthday",
  zoneinfo: "timezone",
  locale: "language",
  phone_number: "phoneNumber",
  phone_number_verified: "phoneNumberVerified",
};

const REGISTERED_CLAIMS = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];
const CHANGING_CLAIM = "fva"; // grows with each refresh of a token, so that no two results could be shared
const OIDC_CLAIMS = [
  ...["auth_time", "nonce", "acr", "amr", "azp", "at_hash", "c_hash", "middle_name", "address", "updated_at"],
  ...Object.keys(STANDARD_CLAIMS),
];

/**
 * The user that an admin acts as. Fields that Convex does not know are custom claims and stay as they are.
 *
 * @param {unknown} attributes
 * @returns {Identity | null} null: these are no attributes of a user
 */
export function actingIdentity(attributes) {
  if (typeof attributes !== "object" || attributes === null || Array.isArray(attributes)) return null;
  /** @type {Identity} */
  const identity = {};
  for (const [name, value] of Object.entries(attributes)) {
    const wanted = TEXTS.has(name) ? "string" : BOOLEANS.has(name) ? "boolean" : null;
    if (wanted !== null && value === null) continue; // as good as left out
    if (wanted !== null && typeof value !== wanted) return null;
    identity[name] = value;
  }
  if (identity.tokenIdentifier === undefined) {
    if (identity.issuer === undefined || identity.subject === undefined) return null;
    identity.tokenIdentifier = `${identity.issuer}|${identity.subject}`;
  }
  return identity;
}

/**
 * @param {Claims} claims  of a token of a `customJwt` provider, whose own claims come by their names, nested ones as "outer.inner"
 * @returns {Identity}
 */
export function customJwtIdentity(claims) {
  /** @type {Identity} */
  const identity = {};
  for (const [name, value] of Object.entries(claims)) {
    if (!REGISTERED_CLAIMS.includes(name)) flatten(name, value, identity);
  }
  delete identity[CHANGING_CLAIM];
  return { ...identity, ...whose(claims) };
}

/**
 * @param {Claims} claims  of an OpenID Connect ID token
 * @returns {Identity}
 */
export function oidcIdentity(claims) {
  /** @type {Identity} */
  const identity = {};
  for (const [name, value] of Object.entries(claims)) {
    if (REGISTERED_CLAIMS.includes(name) || OIDC_CLAIMS.includes(name) || name === CHANGING_CLAIM) continue;
    identity[name] = value;
  }
  for (const [claim, field] of Object.entries(STANDARD_CLAIMS)) {
    if (claims[claim] !== undefined && claims[claim] !== null) identity[field] = claims[claim];
  }
  if (typeof claims.address?.formatted === "string") identity.address = claims.address.formatted;
  if (typeof claims.updated_at === "number") {
    identity.updatedAt = new Date(claims.updated_at * 1000).toISOString().replace(/\.\d+Z$/, "+00:00");
  }
  return { ...identity, ...whose(claims) };
}

/** @param {Claims} claims */
function whose({ iss, sub }) {
  return { subject: sub, issuer: iss, tokenIdentifier: `${iss}|${sub}` };
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {Identity} into
 */
function flatten(name, value, into) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) into[name] = value;
  else for (const [inner, one] of Object.entries(value)) flatten(`${name}.${inner}`, one, into);
}

/** Reads what `auth.config` declares: which issuers' tokens are taken, and how they are checked. */

/**
 * @typedef {object} OidcProvider  its keys are found by OpenID Connect discovery
 * @property {string} domain  URL
 * @property {string} applicationID
 * @typedef {object} CustomJwtProvider
 * @property {"customJwt"} type
 * @property {string} issuer  URL
 * @property {string} [applicationID]  left out: tokens for anybody are taken
 * @property {string} jwks  http, https or data URL of the key set
 * @property {"RS256" | "ES256"} algorithm
 * @typedef {OidcProvider | CustomJwtProvider} AuthProvider
 */

/** `auth.config` cannot be used; the message is for the operator, on one line. */
export class AuthConfigError extends Error {
  /**
   * @param {string} message
   * @param {string} [reason]  Convex's, where it says less
   */
  constructor(message, reason = message) {
    super(message);
    /** What Convex tells the client that pushes. */
    this.text = `The pushed auth config is invalid: ${reason}`;
  }
}

const SEE_DOCS = "To learn more, see the auth documentation at https://docs.convex.dev/auth.";
const SHARED_ISSUER = /^https:\/\/api\.workos\.com\/?$/;

/**
 * @param {unknown} config  the default export of `auth.config` as JSON; undefined: there is no such module
 * @returns {AuthProvider[]}
 * @throws {AuthConfigError}
 */
export function parseProviders(config) {
  if (config === undefined) return [];
  if (config === null) throw new AuthConfigError(`auth config file is missing default export. ${SEE_DOCS}`);
  const providers = isRecord(config) ? config.providers : undefined;
  if (!Array.isArray(providers)) throw mismatch("missing field `providers` ");
  return providers.map(parseProvider);
}

/**
 * @param {AuthProvider[]} providers
 * @param {string} issuer  a token's
 * @param {string[]} audiences
 * @returns {AuthProvider | undefined} the first that takes the token
 */
export function matchProvider(providers, issuer, audiences) {
  return providers.find((provider) => {
    const { applicationID } = provider;
    if (applicationID !== undefined && !audiences.includes(applicationID)) return false;
    return sameIssuer("domain" in provider ? provider.domain : provider.issuer, issuer);
  });
}

/**
 * @param {string} declared  URL
 * @param {string} claimed  with or without its scheme
 */
export function sameIssuer(declared, claimed) {
  const url = /^https?:\/\//.test(claimed) ? claimed : `https://${claimed}`;
  return declared.replace(/\/+$/, "") === url.replace(/\/+$/, "");
}

/** @param {AuthProvider[]} providers */
export function describeProviders(providers) {
  return providers
    .map((provider) =>
      "domain" in provider
        ? `OIDC(domain=${provider.domain}, app_id=${provider.applicationID})`
        : `CustomJWT(issuer=${provider.issuer}, app_id=${provider.applicationID ?? "none"})`,
    )
    .join(", ");
}

/**
 * @param {unknown} provider
 * @param {number} index
 * @returns {AuthProvider}
 */
function parseProvider(provider, index) {
  const where = `Provider at index ${index}`;
  if (!isRecord(provider)) throw unmatched(`${where} is not an object`);
  const { type = "oidc", applicationID, domain, issuer, jwks, algorithm } = provider;
  if ("applicationId" in provider || "applicationid" in provider) {
    throw mismatch(
      `${where} must have applicationID property spelled lowercase 'application', capital I, capital D.`,
    );
  }
  if (type === "customJwt") {
    if (domain !== undefined) throw mismatch(`${where} is a customJwt so cannot have a 'domain' specified`);
    if (algorithm !== "RS256" && algorithm !== "ES256")
      throw unmatched(
        `${where}: unknown algorithm ${JSON.stringify(algorithm)}, expected \`RS256\` or \`ES256\``,
      );
    checkAudience(where, issuer, applicationID);
    return {
      type,
      issuer: providerUrl(text(where, "issuer", issuer)),
      ...(isAbsent(applicationID) ? {} : { applicationID: text(where, "applicationID", applicationID) }),
      jwks: text(where, "jwks", jwks),
      algorithm,
    };
  }
  if (type !== "oidc") throw mismatch(`${where} has unexpected 'type' value '${String(type)}'`);
  if (issuer !== undefined) throw mismatch(`${where} is oidc so cannot have an 'issuer' specified.`);
  return {
    domain: providerUrl(text(where, "domain", domain)),
    applicationID: text(where, "applicationID", applicationID),
  };
}

/**
 * @param {string} where
 * @param {unknown} issuer
 * @param {unknown} applicationID
 */
function checkAudience(where, issuer, applicationID) {
  if (!isAbsent(applicationID) || typeof issuer !== "string" || !SHARED_ISSUER.test(issuer)) return;
  throw new AuthConfigError(
    `This auth configuration appears potentially insecure: ${where} has an issuer that is shared among many applications, so must to specify an ApplicationID to check against an \`aud\` field of a JWT.`,
  );
}

/** @param {unknown} value */
function isAbsent(value) {
  return value === undefined || value === null;
}

/**
 * @param {string} where
 * @param {string} field
 * @param {unknown} value
 */
function text(where, field, value) {
  if (typeof value !== "string") throw unmatched(`${where} needs the text \`${field}\``);
  return value;
}

/** @param {string} given */
function providerUrl(given) {
  const refuse = (/** @type {string} */ why) =>
    new AuthConfigError(`Invalid provider domain URL "${given}": ${why}`);
  if (given.startsWith('"')) throw refuse('starts with a double quote (")');
  const hasScheme = /^\w+:\/\//.test(given);
  const url = hasScheme ? given : `https://${given}`;
  const parsed = URL.parse(url);
  if (parsed === null) throw refuse("it cannot be parsed");
  if (parsed.protocol !== "http:" && parsed.protocol !== "https:")
    throw refuse("scheme should be http or https");
  if (!hasScheme && parsed.hostname !== "localhost" && !/\.[a-z][a-z0-9-]+$/i.test(parsed.hostname)) {
    throw refuse("Does not look like a URL (must have a scheme or end with a top-level domain)");
  }
  return url;
}

const MISMATCH = "auth config file must include a list of provider credentials:";

/** @param {string} why */
function mismatch(why) {
  return new AuthConfigError(`${MISMATCH} ${why.trimEnd()}`, `${MISMATCH} ${why}`);
}

/** @param {string} why  which Convex does not tell */
function unmatched(why) {
  const reason = `${MISMATCH} data did not match any variant of untagged enum SerializedAuthInfo `;
  return new AuthConfigError(`${MISMATCH} ${why}`, reason);
}

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
function isRecord(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

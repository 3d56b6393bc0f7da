import { generateKeyPairSync, sign } from "node:crypto";
import { expect, test } from "vitest";
import { KeySets } from "./key-sets.mjs";
import { AUDIENCE, dataUrl, ISSUER, KEYS, keySet, provider, signedToken, userToken } from "./testing.mjs";
import { verifyToken } from "./tokens.mjs";

const NOW = Date.now();
const now = Math.floor(NOW / 1000);

/** @param {string} token @param {object} [settings] */
function check(token, { providers = [provider()], keySets = new KeySets(), at = NOW } = {}) {
  return verifyToken(token, { providers, keySets, now: at });
}

test.each(["RS256", "ES256"])(
  "a token signed with %s is taken, with its claims as Convex shows them",
  async (algorithm) => {
    const claims = {
      name: "Zoë 漢",
      email: "z@example.com",
      email_verified: true,
      roles: ["a"],
      org: { id: 7, plan: { tier: "x" } },
      fva: [1, 2],
    };
    const token = userToken({ ...claims, exp: now + 60 }, { algorithm });
    expect(await check(token, { providers: [provider({ algorithm })] })).toEqual({
      identity: {
        tokenIdentifier: `${ISSUER}|u1`,
        issuer: ISSUER,
        subject: "u1",
        name: "Zoë 漢",
        email: "z@example.com",
        email_verified: true,
        roles: ["a"],
        "org.id": 7,
        "org.plan.tier": "x",
      },
      expiresAt: (now + 60) * 1000,
    });
  },
);

test.each([
  ["one audience of several", { aud: ["other", AUDIENCE] }, provider()],
  ["no audience where none is asked for", { aud: undefined }, provider({ applicationID: undefined })],
  ["an issuer with a slash at its end", { iss: `${ISSUER}/` }, provider()],
  ["an issuer without its scheme", { iss: "issuer.example" }, provider()],
])("%s is taken", async (_, claims, one) => {
  expect((await check(userToken(claims), { providers: [one] })).identity.subject).toBe("u1");
});

test("the first provider that fits is asked, whatever stands before it", async () => {
  const providers = [provider({ applicationID: "else", jwks: "data:,nothing" }), provider()];
  expect((await check(userToken(), { providers })).identity.subject).toBe("u1");
});

test.each([
  ["5 s after its end", { exp: now - 5 }],
  ["5 s before its begin", { nbf: now + 5 }],
  ["5 s before it was issued", { iat: now + 5 }],
])("a token is taken %s, for clocks differ", async (_, claims) => {
  expect((await check(userToken(claims))).identity.subject).toBe("u1");
});

const otherKey = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
const smallKey = generateKeyPairSync("rsa", { modulusLength: 1024 });
const rs256 = provider({ algorithm: "RS256" });
const with_ = (changes) => [provider(changes)];
const [body = "", signature = ""] = [userToken().split(".").slice(0, 2).join("."), userToken().split(".")[2]];

test.each([
  [
    "expired 6 s ago",
    userToken({ exp: now - 6 }),
    [provider()],
    "InvalidAuthHeader",
    /expired 6 seconds ago/,
  ],
  [
    "not valid for 6 s",
    userToken({ nbf: now + 6 }),
    [provider()],
    "InvalidAuthHeader",
    /will be valid in 6 seconds/,
  ],
  [
    "issued in 6 s",
    userToken({ iat: now + 6 }),
    [provider()],
    "InvalidAuthHeader",
    /will be valid in 6 seconds/,
  ],
  [
    "without an end",
    userToken({ exp: undefined }),
    [provider()],
    "InvalidAuthHeader",
    /Could not verify token claim/,
  ],
  [
    "without a subject",
    userToken({ sub: undefined }),
    [provider()],
    "InvalidAuthHeader",
    /Could not verify token claim/,
  ],
  [
    "of no provider's issuer",
    userToken({ iss: "https://x.y" }),
    [provider()],
    "NoAuthProvider",
    /CustomJWT\(issuer=https:\/\/issuer.example, app_id=app\)/,
  ],
  [
    "for another audience",
    userToken({ aud: "other" }),
    [provider()],
    "NoAuthProvider",
    /issuer and audience/,
  ],
  ["for nobody", userToken({ aud: undefined }), [provider()], "NoAuthProvider", /issuer and audience/],
  ["where there are no providers", userToken(), [], "NoAuthProvider", /no providers configured/],
  [
    "without an issuer",
    userToken({ iss: undefined }),
    [provider()],
    "InvalidAuthHeader",
    /Missing issuer claim/,
  ],
  ["of two parts", body, [provider()], "InvalidAuthHeader", /three base64-encoded parts/],
  [
    "of letters that are no base64",
    `${body}.*`,
    [provider()],
    "InvalidAuthHeader",
    /three base64-encoded parts/,
  ],
  ["that is no JSON", `eA.eA.${signature}`, [provider()], "InvalidAuthHeader", /three base64-encoded parts/],
  [
    "whose end is a text",
    userToken({ exp: "never" }),
    [provider()],
    "InvalidAuthHeader",
    /Could not parse JWT/,
  ],
  [
    "without a key's id",
    userToken({}, { header: { kid: undefined } }),
    [provider()],
    "InvalidAuthHeader",
    /missing a 'kid'/,
  ],
  [
    "of an unknown key",
    userToken({}, { header: { kid: "k2" } }),
    [provider()],
    "InvalidAuthHeader",
    /header is 'k2'/,
  ],
  [
    "signed with another key",
    userToken({}, { key: otherKey }),
    [provider()],
    "InvalidAuthHeader",
    /header is 'k1'/,
  ],
  [
    "whose claims were changed",
    `${userToken({ sub: "u2" }).split(".").slice(0, 2).join(".")}.${signature}`,
    [provider()],
    "InvalidAuthHeader",
    /header is 'k1'/,
  ],
  ["of the wrong algorithm", userToken(), [rs256], "InvalidAuthHeader", /header is 'k1'/],
  [
    "that says it is not signed",
    userToken({}, { header: { alg: "none" } }),
    [provider()],
    "InvalidAuthHeader",
    /header is 'k1'/,
  ],
  [
    "signed with the public key as a secret",
    signedToken({ alg: "HS256", kid: "k1" }, { iss: ISSUER, aud: AUDIENCE, sub: "u", exp: now + 9 }, () =>
      Buffer.from("x"),
    ),
    [provider()],
    "InvalidAuthHeader",
    /header is 'k1'/,
  ],
  [
    "of a key that is too short",
    userToken({}, { algorithm: "RS256", key: smallKey.privateKey }),
    with_({
      algorithm: "RS256",
      jwks: dataUrl([{ ...smallKey.publicKey.export({ format: "jwk" }), kid: "k1" }]),
    }),
    "InvalidAuthHeader",
    /header is 'k1'/,
  ],
  [
    "of a key that is broken",
    userToken(),
    with_({ jwks: dataUrl([{ kty: "EC", crv: "P-256", x: "", y: "", kid: "k1" }]) }),
    "InvalidAuthHeader",
    /header is 'k1'/,
  ],
  [
    "of a key for another algorithm",
    userToken(),
    with_({ jwks: dataUrl([{ ...keySet()[0], alg: "ES384" }]) }),
    "InvalidAuthHeader",
    /header is 'k1'/,
  ],
  [
    "of a key set that is none",
    userToken(),
    with_({ jwks: dataUrl(5) }),
    "InvalidAuthHeader",
    /Invalid JWKS response body/,
  ],
  [
    "of a key set that is no JSON",
    userToken(),
    with_({ jwks: "data:text/plain,hello" }),
    "InvalidAuthHeader",
    /Invalid JWKS response body/,
  ],
  [
    "of a key set in a broken URL",
    userToken(),
    with_({ jwks: "data:;base64,%%%" }),
    "InvalidAuthHeader",
    /Invalid JWKS data URL/,
  ],
])("a token %s is refused with a code and a reason", async (_, token, providers, code, message) => {
  await expect(check(token, { providers })).rejects.toMatchObject({
    code,
    status: 401,
    message: expect.stringMatching(message),
  });
});

const OIDC = { domain: ISSUER, applicationID: AUDIENCE };
const rsaKey = { ...KEYS.RS256.publicKey.export({ format: "jwk" }), kid: "k1" };
const keys = (...set) => ({ discovered: async () => set });
const idToken = (claims = {}, header = {}) => userToken(claims, { algorithm: "RS256", header });

test("an OpenID Connect token's standard claims get Convex's names", async () => {
  const claims = {
    name: "Zoë",
    given_name: "Z",
    family_name: "Ë",
    nickname: "z",
    preferred_username: "zz",
    profile: "https://p",
    picture: "https://i",
    website: "https://w",
    email: "z@example.com",
    email_verified: false,
    gender: "f",
    birthdate: "2000-01-01",
    zoneinfo: "Europe/Paris",
    locale: "fr",
    phone_number: "+1",
    phone_number_verified: true,
    address: { formatted: "1 Street" },
    updated_at: 1_700_000_000,
    nonce: "n",
    jti: "j",
    role: { deep: 1 },
  };
  const { identity } = await check(idToken(claims), { providers: [OIDC], keySets: keys(rsaKey) });
  expect(identity).toEqual({
    tokenIdentifier: `${ISSUER}|u1`,
    issuer: ISSUER,
    subject: "u1",
    name: "Zoë",
    givenName: "Z",
    familyName: "Ë",
    nickname: "z",
    preferredUsername: "zz",
    profileUrl: "https://p",
    pictureUrl: "https://i",
    websiteUrl: "https://w",
    email: "z@example.com",
    emailVerified: false,
    gender: "f",
    birthday: "2000-01-01",
    timezone: "Europe/Paris",
    language: "fr",
    phoneNumber: "+1",
    phoneNumberVerified: true,
    address: "1 Street",
    updatedAt: "2023-11-14T22:13:20+00:00",
    role: { deep: 1 },
  });
});

test("an OpenID Connect provider may sign with Ed25519, and a token without a key's id is of its only key", async () => {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const claims = { iss: ISSUER, aud: AUDIENCE, sub: "u1", iat: now, exp: now + 60 };
  const token = signedToken({ alg: "EdDSA" }, claims, (data) => sign(null, data, privateKey));
  const keySets = keys(publicKey.export({ format: "jwk" }));
  expect((await check(token, { providers: [OIDC], keySets })).identity.subject).toBe("u1");
});

test.each([
  ["expired this second", idToken({ exp: now }), [rsaKey]],
  ["for two audiences", idToken({ aud: [AUDIENCE, "other"] }), [rsaKey]],
  ["of an unknown key", idToken({}, { kid: "k2" }), [rsaKey]],
  ["of one of two keys, unsaid", idToken({}, { kid: undefined }), [rsaKey, { ...rsaKey, kid: "k2" }]],
  ["of an algorithm for customJwt alone", userToken(), [keySet()[0]]],
  ["with a key for encryption", idToken(), [{ ...rsaKey, use: "enc" }]],
])("an OpenID Connect token %s is refused", async (_, token, set) => {
  const refused = check(token, { providers: [OIDC], keySets: keys(...set), at: now * 1000 });
  await expect(refused).rejects.toMatchObject({ code: "Unauthenticated", status: 401 });
});

test("a token without what OpenID Connect demands says so", async () => {
  const refused = check(idToken({ iat: undefined }), { providers: [OIDC], keySets: keys(rsaKey) });
  await expect(refused).rejects.toMatchObject({
    code: "InvalidAuthHeader",
    message: expect.stringMatching(/OIDC-compliant/),
  });
});

/** Users' tokens, and the providers in whose name they are signed; the keys are new in each run. */

import { generateKeyPairSync, sign } from "node:crypto";

const KEYS = {
  RS256: generateKeyPairSync("rsa", { modulusLength: 2048 }),
  ES256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
  other: generateKeyPairSync("rsa", { modulusLength: 2048 }),
};

export const ISSUERS = {
  rsa: "https://rsa.example.org",
  ec: "https://ec.example.org",
  anyAudience: "https://any.example.org",
  badKeySet: "https://bad.example.org",
};

function keySet(algorithm: "RS256" | "ES256"): string {
  const key = {
    ...KEYS[algorithm].publicKey.export({ format: "jwk" }),
    kid: "one",
    alg: algorithm,
    use: "sig",
  };
  const text = JSON.stringify({ keys: [key] });
  return `data:application/json;base64,${Buffer.from(text).toString("base64")}`;
}

const provider = (issuer: string, algorithm: "RS256" | "ES256", more: object = {}) => ({
  type: "customJwt",
  issuer,
  algorithm,
  jwks: keySet(algorithm),
  ...more,
});

/** The text of `auth.config.ts`; like any configuration it may look at the clock and at chance when it is loaded. */
export const AUTH_CONFIG = `
if (!(Date.now() > 0 && Math.random() < 1)) throw new Error("no clock");
export default { providers: ${JSON.stringify([
  provider(ISSUERS.rsa, "RS256", { applicationID: "conformance" }),
  provider(ISSUERS.ec, "ES256", { applicationID: "conformance" }),
  provider(ISSUERS.anyAudience, "RS256"),
  provider(ISSUERS.badKeySet, "RS256", { jwks: "data:text/plain,no%20JSON" }),
])} };
`;

const encoded = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A token that its issuer's provider takes, but for what is changed; a claim that is undefined is left out. */
export function token({
  issuer,
  claims = {},
  header = {},
  signedBy,
}: {
  issuer: string;
  claims?: Record<string, unknown>;
  header?: Record<string, unknown>;
  signedBy?: keyof typeof KEYS;
}): string {
  const algorithm = issuer === ISSUERS.ec ? "ES256" : "RS256";
  const now = Math.floor(Date.now() / 1000);
  const head = encoded({ alg: algorithm, typ: "JWT", kid: "one", ...header });
  const body = encoded({ iss: issuer, sub: "u1", aud: "conformance", iat: now, exp: now + 3600, ...claims });
  const key = { key: KEYS[signedBy ?? algorithm].privateKey, dsaEncoding: "ieee-p1363" as const };
  return `${head}.${body}.${sign("sha256", Buffer.from(`${head}.${body}`), key).toString("base64url")}`;
}

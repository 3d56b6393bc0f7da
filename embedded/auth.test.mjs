import { expect, test } from "vitest";
import { AuthError, Authenticator } from "./auth.mjs";

const KEY = "signalbox|se:cret";
const authenticator = new Authenticator(KEY);
const base64 = (value) =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64");

test.each([
  ["as it was given", `Convex ${KEY}`],
  ["with a deployment's prefix", `Convex prod:${KEY}`],
  ["without its instance", "Convex se:cret"],
  ["with the scheme in lower case", `convex ${KEY}`],
])("the admin key is known %s", (_, header) => {
  expect(authenticator.fromHeader(header)).toEqual({ admin: true, identity: null });
});

test.each([1, 255, 256, 257, 1000])(
  "an admin key of %s bytes is known, and none that is nearly it",
  (length) => {
    const key = "k".repeat(length);
    const long = new Authenticator(`signalbox|${key}`);
    expect(long.fromHeader(`Convex signalbox|${key}`).admin).toBe(true);
    const wrong = [`${key}k`, `${key.slice(1)}x`, `${key}\0`, `k|${key.slice(1)}`, `${key.slice(1)}é`];
    for (const given of wrong) expect(() => long.fromHeader(`Convex signalbox|${given}`)).toThrow(AuthError);
  },
);

test("no header is an anonymous caller", () => {
  expect(authenticator.fromHeader(undefined)).toEqual({ admin: false, identity: null });
});

test("the admin key with attributes acts as that user", () => {
  const identity = { subject: "u1", issuer: "https://issuer", name: "Zoë 漢" };
  expect(authenticator.fromHeader(`Convex ${KEY}:${base64(identity)}`)).toEqual({
    admin: true,
    identity: { ...identity, tokenIdentifier: "https://issuer|u1" },
  });
});

test.each([
  ["by its identifier alone", { tokenIdentifier: "t" }, { tokenIdentifier: "t" }],
  [
    "with claims of its own and a field that is left out",
    { subject: "u", issuer: "i", role: { a: [1] }, email: null, emailVerified: true },
    { subject: "u", issuer: "i", tokenIdentifier: "i|u", role: { a: [1] }, emailVerified: true },
  ],
])("the user that an admin acts as is known %s", (_, attributes, identity) => {
  expect(authenticator.fromHeader(`Convex ${KEY}:${base64(attributes)}`).identity).toEqual(identity);
});

test.each([
  ["another key", "Convex signalbox|other", "BadAdminKey", 401],
  ["the key and one character more", `Convex ${KEY}x`, "BadAdminKey", 401],
  [
    "an identity behind another key",
    `Convex nope:${base64({ subject: "u", issuer: "i" })}`,
    "BadAdminKey",
    401,
  ],
  ["an identity that is no JSON", `Convex ${KEY}:${base64("{")}`, "HeaderParseFailure", 400],
  ["an identity that is no object", `Convex ${KEY}:${base64([])}`, "HeaderParseFailure", 400],
  ["an identity without an issuer", `Convex ${KEY}:${base64({ subject: "u" })}`, "HeaderParseFailure", 400],
  [
    "an identity whose name is no text",
    `Convex ${KEY}:${base64({ subject: "u", issuer: "i", name: 5 })}`,
    "HeaderParseFailure",
    400,
  ],
  ["an empty header", "", "InvalidHeaderFailure", 400],
  ["a scheme alone", "Convex", "InvalidHeaderFailure", 400],
  ["an unknown scheme", "Basic eA==", "InvalidAdminKey", 400],
  ["three words", "Convex a b", "BadAdminKey", 401],
])("%s is refused with its own code", async (_, header, code, status) => {
  expect(() => authenticator.fromHeader(header)).toThrow(expect.objectContaining({ code, status }));
  await expect(authenticator.authenticate(header)).rejects.toMatchObject({ code, status });
});

test("what is for the admin alone is refused to everybody else", () => {
  expect(authenticator.requireAdmin(`Convex ${KEY}`)).toEqual({ admin: true, identity: null });
  for (const header of [undefined, "Bearer a.b.c"])
    expect(() => authenticator.requireAdmin(header)).toThrow(
      expect.objectContaining({ code: "BadDeployKey", status: 403 }),
    );
});

test("a user's token without providers says where to declare one", async () => {
  const token = `${base64({})}.${base64({ iss: "https://i" })}.`.replaceAll("=", "");
  await expect(authenticator.authenticate(`Bearer ${token}`)).rejects.toMatchObject({
    code: "NoAuthProvider",
    status: 401,
    message: expect.stringContaining("convex/auth.config.ts"),
  });
});

test("a socket's credential names its kind", async () => {
  const anonymous = { caller: { admin: false, identity: null }, expiresAt: null };
  expect(await authenticator.identify({ tokenType: "None" })).toEqual(anonymous);
  const acting = { tokenIdentifier: "t" };
  expect(await authenticator.identify({ tokenType: "Admin", value: KEY, actingAs: acting })).toEqual({
    caller: { admin: true, identity: acting },
    expiresAt: null,
  });
  await expect(
    authenticator.identify({ tokenType: "Admin", value: "wrong", actingAs: null }),
  ).rejects.toMatchObject({ code: "BadAdminKey" });
});

import { expect, test } from "vitest";
import { Authenticator } from "./auth.mjs";

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
  ["another key", "Convex signalbox|other", "BadAdminKey"],
  ["the key and one character more", `Convex ${KEY}x`, "BadAdminKey"],
  ["an identity behind another key", `Convex nope:${base64({ subject: "u", issuer: "i" })}`, "BadAdminKey"],
  ["an identity that is no JSON", `Convex ${KEY}:${base64("{")}`, "InvalidAuthHeader"],
  ["an identity that is no object", `Convex ${KEY}:${base64([])}`, "InvalidAuthHeader"],
  ["an identity without an issuer", `Convex ${KEY}:${base64({ subject: "u" })}`, "InvalidAuthHeader"],
  ["a user's token", "Bearer a.b.c", "NoAuthProvider"],
  ["an empty header", "", "InvalidAuthHeader"],
  ["a scheme alone", "Convex", "InvalidAuthHeader"],
  ["three words", "Convex a b", "InvalidAuthHeader"],
])("%s is refused with its own code", (_, header, code) => {
  expect(() => authenticator.fromHeader(header)).toThrow(expect.objectContaining({ code }));
});

test("a socket's message names the kind of its token", () => {
  expect(authenticator.fromMessage({ tokenType: "None" })).toEqual({ admin: false, identity: null });
  expect(authenticator.fromMessage({ tokenType: "Admin", value: KEY })).toEqual({
    admin: true,
    identity: null,
  });
  const acting = { subject: "u", issuer: "i" };
  expect(
    authenticator.fromMessage({ tokenType: "Admin", value: KEY, acting_as: acting }).identity,
  ).toMatchObject(acting);
  expect(() => authenticator.fromMessage({ tokenType: "Other" })).toThrow(/tokenType/);
});

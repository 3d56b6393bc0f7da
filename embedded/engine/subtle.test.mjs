import { createHmac, generateKeyPairSync, pbkdf2Sync, sign } from "node:crypto";
import { rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestEngine, temporaryFolder, writeFunctions } from "./testing.mjs";

/** Each text is the body of a query with `c` for crypto.subtle, `b` for text to bytes and `args`. */
const QUERIES = {
  signatures: `const key = await c.importKey("jwk", args.jwk, args.algorithm, true, ["verify"]);
    const right = await c.verify(args.algorithm, key, b64(args.signature), b("message"));
    const wrong = await c.verify(args.algorithm, key, b64(args.signature), b("massage"));
    return { right, wrong, type: key.type, name: key.algorithm.name, again: (await c.exportKey("jwk", key)).kty };`,
  privateSigns: `const key = await c.importKey("pkcs8", b64(args.pkcs8), args.algorithm, false, ["sign"]);
    return await c.sign(args.algorithm, key, b("message"));`,
  ciphers: `const key = await c.importKey("raw", new Uint8Array(args.bytes).fill(7), args.name, true, ["encrypt", "decrypt"]);
    const algorithm = { name: args.name, iv: new Uint8Array(16), counter: new Uint8Array(16), length: 64 };
    const secret = await c.encrypt(algorithm, key, b("message"));
    const tampered = new Uint8Array(secret.slice(0)); tampered[0] ^= 1;
    const failed = await c.decrypt(algorithm, key, tampered).then(() => null, (error: any) => error.name);
    return { back: new TextDecoder().decode(await c.decrypt(algorithm, key, secret)), bytes: secret.byteLength, failed };`,
  derived: `const key = await c.importKey("raw", b("password"), args.name, false, ["deriveBits", "deriveKey"]);
    const algorithm = { name: args.name, hash: "SHA-256", salt: b("salt"), info: b(""), iterations: 1000 };
    const aes = await c.deriveKey(algorithm, key, { name: "AES-GCM", length: 256 }, true, ["encrypt"]);
    return { bits: await c.deriveBits(algorithm, key, 256), aes: await c.exportKey("raw", aes) };`,
  hmac: `const key = await c.importKey("raw", b("key"), { name: "HMAC", hash: "SHA-512" }, false, ["sign"]);
    return await c.sign("HMAC", key, b("message"));`,
  generate: `return await c.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt"]);`,
  ecdsaSign: `const key = await c.importKey("pkcs8", b64(args.pkcs8), args.algorithm, false, ["sign"]);
    return await c.sign(args.algorithm, key, b("message"));`,
  unusable: `const key = await c.importKey("raw", b("key"), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    const told = async (run: () => Promise<unknown>) => run().then(() => "worked", (error: any) => [error.name, error instanceof DOMException]);
    return [
      await told(() => c.verify("HMAC", key, b(""), b(""))),
      await told(() => c.exportKey("raw", key)),
      await told(() => c.importKey("raw", b(""), { name: "HMAC", hash: "SHA-256" }, false, ["sign"])),
      await told(() => c.importKey("raw", b("key"), "AES-GCM", false, ["encrypt"])),
      await told(() => c.digest("MD5", b(""))),
    ];`,
};

const root = temporaryFolder();
const engine = new TestEngine({ root });
beforeAll(() =>
  engine.load(
    writeFunctions(root, {
      "keys.ts": `import { queryGeneric as query } from "convex/server";
        const c = crypto.subtle;
        const b = (text: string) => new TextEncoder().encode(text);
        const b64 = (text: string) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
        ${Object.entries(QUERIES)
          .map(([name, body]) => `export const ${name} = query(async (_ctx, args: any) => { ${body} });`)
          .join("\n")}`,
    }),
  ),
);
afterAll(() => {
  engine.dispose();
  rmSync(root, { recursive: true, force: true });
});

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const ec = generateKeyPairSync("ec", { namedCurve: "P-256" });
const ed = generateKeyPairSync("ed25519");
const message = Buffer.from("message");
const pkcs8 = (/** @type {import("node:crypto").KeyObject} */ key) =>
  key.export({ format: "der", type: "pkcs8" }).toString("base64");

describe("a query", () => {
  test.each([
    ["RSASSA-PKCS1-v1_5", { hash: "SHA-256" }, rsa, sign("sha256", message, rsa.privateKey)],
    [
      "RSA-PSS",
      { hash: "SHA-256", saltLength: 32 },
      rsa,
      sign("sha256", message, { key: rsa.privateKey, padding: 6, saltLength: 32 }),
    ],
    [
      "ECDSA",
      { hash: "SHA-256", namedCurve: "P-256" },
      ec,
      sign("sha256", message, { key: ec.privateKey, dsaEncoding: "ieee-p1363" }),
    ],
    ["Ed25519", {}, ed, sign(null, message, ed.privateKey)],
  ])("verifies %s", (name, parameters, { publicKey }, signature) => {
    const jwk = publicKey.export({ format: "jwk" });
    expect(
      engine.call("keys:signatures", {
        jwk,
        algorithm: { name, ...parameters },
        signature: signature.toString("base64"),
      }),
    ).toEqual({ right: true, wrong: false, type: "public", name, again: jwk.kty });
  });

  test("signs where no chance is needed", () => {
    const algorithm = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
    expect(engine.call("keys:privateSigns", { pkcs8: pkcs8(rsa.privateKey), algorithm })).toEqual({
      $bytes: sign("sha256", message, rsa.privateKey).toString("base64"),
    });
    expect(
      engine.call("keys:privateSigns", { pkcs8: pkcs8(ed.privateKey), algorithm: { name: "Ed25519" } }),
    ).toEqual({
      $bytes: sign(null, message, ed.privateKey).toString("base64"),
    });
    expect(engine.call("keys:hmac")).toEqual({
      $bytes: createHmac("sha512", "key").update("message").digest("base64"),
    });
  });

  test.each([
    ["AES-GCM", 16, 7 + 16, "OperationError"],
    ["AES-CTR", 24, 7, null],
    ["AES-CBC", 32, 16, expect.anything()],
  ])("encrypts and decrypts with %s", (name, bytes, length, failed) => {
    const result = engine.call("keys:ciphers", { name, bytes });
    expect(result).toMatchObject({ back: "message", bytes: length });
    if (name !== "AES-CBC") expect(result.failed).toEqual(failed);
  });

  test("derives what node:crypto derives", () => {
    for (const name of ["HKDF", "PBKDF2"]) {
      const { bits, aes } = engine.call("keys:derived", { name });
      expect(aes).toEqual(bits);
      expect(Buffer.from(bits.$bytes, "base64")).toHaveLength(32);
    }
    expect(engine.call("keys:derived", { name: "PBKDF2" }).bits.$bytes).toBe(
      pbkdf2Sync("password", "salt", 1000, 32, "sha256").toString("base64"),
    );
  });

  test("cannot make keys or sign by chance", () => {
    const refusal =
      "Uncaught Error: Can't use cryptographic randomness in queries and mutations. Please consider using an action. See https://docs.convex.dev/functions/actions for more details.";
    expect(() => engine.call("keys:generate")).toThrow(refusal);
    const algorithm = { name: "ECDSA", hash: "SHA-256", namedCurve: "P-256" };
    expect(() => engine.call("keys:ecdsaSign", { pkcs8: pkcs8(ec.privateKey), algorithm })).toThrow(refusal);
  });

  test("is told by name what a key cannot do", () => {
    expect(engine.call("keys:unusable")).toEqual([
      ["InvalidAccessError", true],
      ["InvalidAccessError", true],
      ["DataError", true],
      ["DataError", true],
      ["NotSupportedError", true],
    ]);
  });
});

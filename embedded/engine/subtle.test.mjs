import {
  createCipheriv,
  createHmac,
  diffieHellman,
  generateKeyPairSync,
  pbkdf2Sync,
  sign,
} from "node:crypto";
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
    const algorithm = { name: args.name, iv: new Uint8Array(args.name === "AES-GCM" ? 12 : 16), counter: new Uint8Array(16), length: 64 };
    const secret = await c.encrypt(algorithm, key, b("message"));
    const tampered = new Uint8Array(secret.slice(0)); tampered[0] ^= 1;
    const failed = await c.decrypt(algorithm, key, tampered).then(() => null, (error: any) => error.name);
    return { back: new TextDecoder().decode(await c.decrypt(algorithm, key, secret)), bytes: secret.byteLength, failed };`,
  derived: `const key = await c.importKey("raw", b("password"), args.name, false, ["deriveBits", "deriveKey"]);
    const algorithm = { name: args.name, hash: "SHA-256", salt: b("salt"), info: b(""), iterations: 1000 };
    const aes = await c.deriveKey(algorithm, key, { name: "AES-GCM", length: 256 }, true, ["encrypt"]);
    return { bits: await c.deriveBits(algorithm, key, 256), aes: await c.exportKey("raw", aes) };`,
  bounds: `const told = async (run: () => Promise<unknown>) => run().then(() => "worked", (error: any) => error.name + ": " + error.message);
    const usages: KeyUsage[] = ["encrypt", "decrypt"];
    const gcm = await c.importKey("raw", new Uint8Array(16), "AES-GCM", true, usages);
    const ctr = await c.importKey("raw", new Uint8Array(16), "AES-CTR", true, usages);
    const counter = new Uint8Array(16).fill(0xff);
    const iv = new Uint8Array(12);
    return [
      await told(() => c.encrypt({ name: "AES-GCM", iv: new Uint8Array(16) }, gcm, b(""))),
      await told(() => c.decrypt({ name: "AES-GCM", iv, tagLength: 96 }, gcm, new Uint8Array(32))),
      await told(() => c.decrypt({ name: "AES-GCM", iv }, gcm, new Uint8Array(15))),
      await told(() => c.encrypt({ name: "AES-CTR", counter, length: 0 }, ctr, b("x"))),
      await told(() => c.encrypt({ name: "AES-CTR", counter, length: 1 }, ctr, new Uint8Array(33))),
      await told(() => c.encrypt({ name: "AES-CTR", counter, length: 1 }, ctr, new Uint8Array(32))),
      await told(() => c.sign({ name: "foo" }, {} as any, b(""))),
      await told(() => c.encrypt({ name: "AES-CTR", counter, length: 1 }, gcm, b(""))),
    ];`,
  counted: `const key = await c.importKey("raw", new Uint8Array(16), "AES-CTR", false, ["encrypt"]);
    return await c.encrypt({ name: "AES-CTR", counter: new Uint8Array(16).fill(0xff), length: args.length }, key, new Uint8Array(32));`,
  shown: `const rsa = await c.importKey("jwk", args.jwk, { name: "RSA-PSS", hash: "SHA-256" }, true, ["verify"]);
    const { publicExponent } = rsa.algorithm as any;
    const hmac = await c.importKey("raw", b("key"), { name: "HMAC", hash: "SHA-512" }, true, ["sign"]);
    const aes = await c.importKey("raw", new Uint8Array(32), "AES-GCM", true, ["encrypt"]);
    const algs = [];
    for (const key of [rsa, hmac, aes]) algs.push((await c.exportKey("jwk", key)).alg);
    return { algs, exponent: publicExponent instanceof Uint8Array && [...publicExponent] };`,
  agreed: `const algorithm = { name: args.name, namedCurve: "P-256" };
    const own = await c.importKey("jwk", args.own, algorithm, true, ["deriveBits"]);
    const other = await c.importKey("jwk", args.other, algorithm, true, []);
    return await c.deriveBits({ name: args.name, public: other }, own, 128);`,
  none: `const key = await c.importKey("raw", b("password"), "PBKDF2", false, ["deriveBits"]);
    return (await c.deriveBits({ name: "PBKDF2", hash: "SHA-256", salt: b("salt"), iterations: 1000 }, key, 0)).byteLength;`,
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

  test.each([1, 2, 64, 127])("counts with the last %s bits of AES-CTR's counter", (length) => {
    const block = (/** @type {Buffer} */ counter) =>
      createCipheriv("aes-128-ecb", Buffer.alloc(16), null).setAutoPadding(false).update(counter);
    const last = Buffer.alloc(16, 0xff);
    const again = Buffer.from(((1n << 128n) - (1n << BigInt(length))).toString(16).padStart(32, "0"), "hex");
    expect(engine.call("keys:counted", { length })).toEqual({
      $bytes: Buffer.concat([block(last), block(again)]).toString("base64"),
    });
  });

  test("has Convex's bounds of ciphers, in its words", () => {
    expect(engine.call("keys:bounds")).toEqual([
      "NotSupportedError: AES-GCM IV must be 96 bits",
      "NotSupportedError: tag length must be 128 bits",
      "OperationError: The provided data is too small.",
      "OperationError: invalid counter length",
      "OperationError: too much data for counter length",
      "worked",
      "InvalidAccessError: invalid algorithm for key",
      "InvalidAccessError: invalid algorithm for key",
    ]);
  });

  test("sees what a key is, in its algorithm and its JWK", () => {
    const jwk = rsa.publicKey.export({ format: "jwk" });
    expect(engine.call("keys:shown", { jwk })).toEqual({
      algs: ["PS256", "HS512", "A256GCM"],
      exponent: [1, 0, 1],
    });
  });

  test.each(["ECDH", "X25519"])("agrees on a secret by %s", (name) => {
    const pair = () =>
      name === "ECDH" ? generateKeyPairSync("ec", { namedCurve: "P-256" }) : generateKeyPairSync("x25519");
    const [own, other] = [pair(), pair()];
    const args = {
      name,
      own: own.privateKey.export({ format: "jwk" }),
      other: other.publicKey.export({ format: "jwk" }),
    };
    const secret = diffieHellman({ privateKey: other.privateKey, publicKey: own.publicKey });
    expect(engine.call("keys:agreed", args)).toEqual({ $bytes: secret.subarray(0, 16).toString("base64") });
    expect(engine.call("keys:none")).toBe(0);
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

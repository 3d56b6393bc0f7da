/**
 * Web Cryptography for queries and mutations: the operations that need no randomness, each done at once.
 *
 * Algorithms are parsed JSON with an upper-case `name`, as the functions' side has normalized them.
 */

import {
  constants,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  diffieHellman,
  hkdfSync,
  pbkdf2Sync,
  sign as signWith,
  timingSafeEqual,
  verify as verifyWith,
} from "node:crypto";
import { SubtleError, hashOf, unsupported } from "./subtle-algorithm.mjs";

export { decrypt, encrypt } from "./subtle-ciphers.mjs";
export { SubtleError };

/**
 * @typedef {import("node:crypto").KeyObject} KeyObject
 * @typedef {import("./subtle-algorithm.mjs").Algorithm} Algorithm
 * @typedef {import("./subtle-algorithm.mjs").Key} Key
 */

const CURVES = new Map([
  ["P-256", "prime256v1"],
  ["P-384", "secp384r1"],
  ["P-521", "secp521r1"],
]);
const ASYMMETRIC = new Set([
  "RSASSA-PKCS1-V1_5",
  "RSA-PSS",
  "RSA-OAEP",
  "ECDH",
  "ECDSA",
  "ED25519",
  "X25519",
]);
const SECRET = new Set(["HMAC", "AES-CBC", "AES-CTR", "AES-GCM", "HKDF", "PBKDF2"]);
const SHOWN = new Map([
  ["RSASSA-PKCS1-V1_5", "RSASSA-PKCS1-v1_5"],
  ["ED25519", "Ed25519"],
]);
const RSA_ALGS = new Map([
  ["RSASSA-PKCS1-V1_5", "RS"],
  ["RSA-PSS", "PS"],
  ["RSA-OAEP", "RSA-OAEP-"],
]);

/** @param {Algorithm} algorithm @param {Uint8Array} data @returns {Uint8Array} */
export function digest(algorithm, data) {
  return createHash(hashOf({ name: "", hash: algorithm }))
    .update(data)
    .digest();
}

/**
 * @param {string} format  raw, jwk, pkcs8 or spki
 * @param {any} data  bytes, or the JWK
 * @param {Algorithm} algorithm
 * @returns {Key}
 * @throws {SubtleError}
 */
export function importKey(format, data, algorithm) {
  const { name } = algorithm;
  if (SECRET.has(name)) return importSecret(format, data, algorithm);
  if (!ASYMMETRIC.has(name)) throw unsupported(name);
  const handle = readKey(format, data, algorithm);
  const type = /** @type {"public" | "private"} */ (handle.type);
  const details = handle.asymmetricKeyDetails ?? {};
  const shown = SHOWN.get(name) ?? name;
  if (name === "ED25519" || name === "X25519") return { handle, type, algorithm: { name: shown } };
  if (name === "ECDSA" || name === "ECDH") {
    if (CURVES.get(String(algorithm.namedCurve)) !== details.namedCurve) {
      throw new SubtleError("DataError", "The key is not on the named curve");
    }
    return { handle, type, algorithm: { name, namedCurve: algorithm.namedCurve } };
  }
  const hash = { name: hashOf(algorithm).toUpperCase().replace("SHA", "SHA-") };
  const { modulusLength, publicExponent = 0n } = details;
  return {
    handle,
    type,
    algorithm: { name: shown, hash, modulusLength, publicExponent: bigEndian(publicExponent) },
  };
}

/** @param {bigint} number @returns {number[]} its bytes, without zeros before them */
function bigEndian(number) {
  const hex = number.toString(16);
  return [...Buffer.from(hex.padStart(hex.length + (hex.length % 2), "0"), "hex")];
}

/**
 * @param {string} format
 * @param {any} data
 * @param {Algorithm} algorithm
 * @returns {Key}
 */
function importSecret(format, data, algorithm) {
  const { name } = algorithm;
  const bytes = format === "jwk" ? Buffer.from(String(data.k), "base64url") : data;
  if (format !== "raw" && format !== "jwk") {
    throw new SubtleError("NotSupportedError", `${format} is not a format of ${name} keys`);
  }
  if (name === "HMAC" && bytes.length === 0) throw new SubtleError("DataError", "Zero-length key");
  if (name.startsWith("AES") && ![16, 24, 32].includes(bytes.length)) {
    throw new SubtleError("DataError", "Invalid key length");
  }
  const handle = createSecretKey(bytes);
  const length = bytes.length * 8;
  if (name !== "HMAC")
    return { handle, type: "secret", algorithm: name.startsWith("AES") ? { name, length } : { name } };
  const hash = { name: hashOf(algorithm).toUpperCase().replace("SHA", "SHA-") };
  return { handle, type: "secret", algorithm: { name, hash, length } };
}

/**
 * @param {string} format
 * @param {any} data
 * @param {Algorithm} algorithm
 * @returns {KeyObject}
 */
function readKey(format, data, algorithm) {
  try {
    switch (format) {
      case "jwk":
        return "d" in data
          ? createPrivateKey({ key: data, format: "jwk" })
          : createPublicKey({ key: data, format: "jwk" });
      case "pkcs8":
        return createPrivateKey({ key: Buffer.from(data), format: "der", type: "pkcs8" });
      case "spki":
        return createPublicKey({ key: Buffer.from(data), format: "der", type: "spki" });
      default:
        return createPublicKey({ key: rawToJwk(data, algorithm), format: "jwk" });
    }
  } catch {
    throw new SubtleError("DataError", `The ${format} key cannot be read`);
  }
}

/** @param {Uint8Array} raw  a public key @param {Algorithm} algorithm */
function rawToJwk(raw, { name, namedCurve }) {
  const text = (/** @type {Uint8Array} */ bytes) => Buffer.from(bytes).toString("base64url");
  if (name === "ED25519" || name === "X25519") {
    return { kty: "OKP", crv: SHOWN.get(name) ?? name, x: text(raw) };
  }
  const half = (raw.length - 1) / 2;
  return { kty: "EC", crv: namedCurve, x: text(raw.subarray(1, 1 + half)), y: text(raw.subarray(1 + half)) };
}

/** @param {Algorithm} algorithm  as a key shows it @returns {{ alg?: string }} what its JWK says of it */
function jwkAlg({ name, hash, length }) {
  const bits = String(hash?.name).replace("SHA-", "");
  const rsa = RSA_ALGS.get(name.toUpperCase());
  if (name === "HMAC") return { alg: `HS${bits}` };
  if (name === "RSA-OAEP" && bits === "1") return { alg: name };
  if (rsa !== undefined) return { alg: `${rsa}${bits}` };
  return name.startsWith("AES-") ? { alg: `A${length}${name.slice("AES-".length)}` } : {};
}

/**
 * @param {string} format
 * @param {Key} key
 * @returns {Uint8Array | object} bytes, or a JWK
 */
export function exportKey(format, { handle, type, algorithm }) {
  const jwk = () => handle.export({ format: "jwk" });
  if (format === "jwk") return { ...jwk(), ...jwkAlg(algorithm) };
  if (format === "raw") {
    if (type === "secret") return handle.export();
    if (type === "public") {
      const { x = "", y } = jwk();
      const bytes = (/** @type {string} */ part) => Buffer.from(part, "base64url");
      return y === undefined ? bytes(x) : Buffer.concat([Buffer.of(4), bytes(x), bytes(y)]);
    }
  }
  if (format === "spki" && type === "public") return handle.export({ format: "der", type: "spki" });
  if (format === "pkcs8" && type === "private") return handle.export({ format: "der", type: "pkcs8" });
  throw new SubtleError("NotSupportedError", `${algorithm.name} keys cannot be exported as ${format}`);
}

/**
 * @param {Algorithm} algorithm
 * @param {Key} key
 * @param {Uint8Array} data
 * @returns {Uint8Array}
 * @throws {SubtleError}
 */
export function sign(algorithm, key, data) {
  switch (algorithm.name) {
    case "HMAC":
      return createHmac(hashOf(key.algorithm), key.handle).update(data).digest();
    case "RSASSA-PKCS1-V1_5":
      return signWith(hashOf(key.algorithm), data, key.handle);
    case "ED25519":
      return signWith(null, data, key.handle);
    default:
      throw unsupported(algorithm.name);
  }
}

/**
 * @param {Algorithm} algorithm
 * @param {Key} key
 * @param {Uint8Array} signature
 * @param {Uint8Array} data
 * @returns {boolean}
 * @throws {SubtleError}
 */
export function verify(algorithm, key, signature, data) {
  const { handle } = key;
  switch (algorithm.name) {
    case "HMAC": {
      const expected = sign(algorithm, key, data);
      return expected.length === signature.length && timingSafeEqual(expected, signature);
    }
    case "RSASSA-PKCS1-V1_5":
      return verifyWith(hashOf(key.algorithm), data, handle, signature);
    case "RSA-PSS":
      return verifyWith(
        hashOf(key.algorithm),
        data,
        { key: handle, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: algorithm.saltLength },
        signature,
      );
    case "ECDSA":
      return verifyWith(hashOf(algorithm), data, { key: handle, dsaEncoding: "ieee-p1363" }, signature);
    case "ED25519":
      return verifyWith(null, data, handle, signature);
    default:
      throw unsupported(algorithm.name);
  }
}

/**
 * @param {Algorithm} algorithm  HKDF or PBKDF2; ECDH or X25519 with the other side's key as `public`
 * @param {Key} key
 * @param {number} bits
 * @returns {Uint8Array}
 * @throws {SubtleError}
 */
export function deriveBits(algorithm, key, bits) {
  if (!Number.isInteger(bits) || bits % 8 !== 0) {
    throw new SubtleError("OperationError", "The length must be a multiple of 8");
  }
  if (algorithm.name === "ECDH" || algorithm.name === "X25519") {
    const secret = diffieHellman({ privateKey: key.handle, publicKey: algorithm.public.handle });
    if (bits > secret.length * 8) throw new SubtleError("OperationError", "Invalid length");
    return secret.subarray(0, bits / 8);
  }
  const hash = hashOf(algorithm);
  if (bits === 0) return new Uint8Array(0);
  switch (algorithm.name) {
    case "HKDF":
      return new Uint8Array(hkdfSync(hash, key.handle, algorithm.salt, algorithm.info, bits / 8));
    case "PBKDF2":
      return pbkdf2Sync(key.handle.export(), algorithm.salt, algorithm.iterations, bits / 8, hash);
    default:
      throw unsupported(algorithm.name);
  }
}

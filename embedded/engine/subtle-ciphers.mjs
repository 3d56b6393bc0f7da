/** Ciphers of Web Cryptography in queries and mutations, with the bounds that Convex has. */

import { createCipheriv, createDecipheriv, privateDecrypt } from "node:crypto";
import { SubtleError, hashOf, unsupported } from "./subtle-algorithm.mjs";

/**
 * @typedef {import("./subtle-algorithm.mjs").Algorithm} Algorithm
 * @typedef {import("./subtle-algorithm.mjs").Key} Key
 */

const TAG_BYTES = 16; // of AES-GCM: Convex has no shorter tags
const GCM_IV_BYTES = 12; // nor other lengths of an IV
const BLOCK_BYTES = 16;

/** @param {string} message */
const failed = (message) => new SubtleError("OperationError", message);

/**
 * @param {Algorithm} algorithm  with its iv or counter
 * @param {Key} key
 * @param {Uint8Array} data
 * @returns {Uint8Array}
 * @throws {SubtleError}
 */
export function encrypt(algorithm, key, data) {
  switch (algorithm.name) {
    case "AES-CTR":
      return counterMode(algorithm, key, data);
    case "AES-CBC": {
      const work = createCipheriv(`aes-${key.algorithm.length}-cbc`, key.handle, cbcIv(algorithm));
      return Buffer.concat([work.update(data), work.final()]);
    }
    case "AES-GCM": {
      const work = createCipheriv(gcm(algorithm, key), key.handle, algorithm.iv, {
        authTagLength: TAG_BYTES,
      });
      if (algorithm.additionalData !== undefined) work.setAAD(algorithm.additionalData);
      return Buffer.concat([work.update(data), work.final(), work.getAuthTag()]);
    }
    default:
      throw unsupported(algorithm.name);
  }
}

/**
 * @param {Algorithm} algorithm
 * @param {Key} key
 * @param {Uint8Array} data
 * @returns {Uint8Array}
 * @throws {SubtleError}
 */
export function decrypt(algorithm, key, data) {
  switch (algorithm.name) {
    case "RSA-OAEP": {
      const options = { key: key.handle, oaepHash: hashOf(key.algorithm), oaepLabel: algorithm.label };
      return orFailed("OAEP decryption failed", () => privateDecrypt(options, data));
    }
    case "AES-CTR":
      return counterMode(algorithm, key, data);
    case "AES-CBC": {
      const work = createDecipheriv(`aes-${key.algorithm.length}-cbc`, key.handle, cbcIv(algorithm));
      return orFailed("Decryption failed", () => Buffer.concat([work.update(data), work.final()]));
    }
    case "AES-GCM": {
      const cipher = gcm(algorithm, key);
      if (data.length < TAG_BYTES) throw failed("The provided data is too small.");
      const work = createDecipheriv(cipher, key.handle, algorithm.iv, { authTagLength: TAG_BYTES });
      if (algorithm.additionalData !== undefined) work.setAAD(algorithm.additionalData);
      const end = data.length - TAG_BYTES;
      work.setAuthTag(data.subarray(end));
      return orFailed("Decryption failed", () =>
        Buffer.concat([work.update(data.subarray(0, end)), work.final()]),
      );
    }
    default:
      throw unsupported(algorithm.name);
  }
}

/**
 * @param {string} message
 * @param {() => Uint8Array} work
 */
function orFailed(message, work) {
  try {
    return work();
  } catch {
    throw failed(message);
  }
}

/** @param {Algorithm} algorithm @returns {Uint8Array} */
function cbcIv({ iv }) {
  if (iv?.length !== BLOCK_BYTES) throw failed("iv must be 16 bytes");
  return iv;
}

/** @param {Algorithm} algorithm @param {Key} key @returns {import("node:crypto").CipherGCMTypes} */
function gcm({ iv, tagLength }, key) {
  if (tagLength !== undefined && tagLength !== TAG_BYTES * 8) {
    throw new SubtleError("NotSupportedError", `tag length must be ${TAG_BYTES * 8} bits`);
  }
  if (iv?.length !== GCM_IV_BYTES) {
    throw new SubtleError("NotSupportedError", `AES-GCM IV must be ${GCM_IV_BYTES * 8} bits`);
  }
  return /** @type {import("node:crypto").CipherGCMTypes} */ (`aes-${key.algorithm.length}-gcm`);
}

/**
 * Of the counter only the last `length` bits count, and begin again at 0; Node counts with all of it, so there are two pieces then.
 *
 * @param {Algorithm} algorithm
 * @param {Key} key
 * @param {Uint8Array} data
 */
function counterMode({ counter, length }, key, data) {
  if (counter?.length !== BLOCK_BYTES) throw failed("counter must be 16 bytes");
  if (!(length > 0 && length <= 128)) throw failed("invalid counter length");
  const period = 1n << BigInt(length); // in blocks
  if (BigInt(data.length) > period * BigInt(BLOCK_BYTES)) throw failed("too much data for counter length");
  const start = BigInt(`0x${Buffer.from(counter).toString("hex")}`);
  const untilZero = (period - (start % period)) * BigInt(BLOCK_BYTES);
  const run = (/** @type {Uint8Array} */ from, /** @type {Uint8Array} */ piece) =>
    createCipheriv(`aes-${key.algorithm.length}-ctr`, key.handle, from).update(piece);
  if (untilZero >= BigInt(data.length)) return run(counter, data);
  const again = Buffer.from((start - (start % period)).toString(16).padStart(2 * BLOCK_BYTES, "0"), "hex");
  const first = Number(untilZero);
  return Buffer.concat([run(counter, data.subarray(0, first)), run(again, data.subarray(first))]);
}

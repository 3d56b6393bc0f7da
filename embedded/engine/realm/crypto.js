/* `crypto` for functions: chance is that of the call, and what needs real randomness is refused. Gives the globals. */
(function makeCrypto(host, shared) {
  "use strict";

  const { DOMException, viewOf } = shared;
  const key = Symbol("constructor");
  const handles = new WeakMap();
  const MAX_RANDOM_BYTES = 65536;

  class CryptoKey {
    constructor(given, { type, algorithm }, extractable, usages) {
      if (given !== key) throw new TypeError("Illegal constructor");
      const shown = { ...algorithm };
      if (shown.publicExponent !== undefined) shown.publicExponent = Uint8Array.from(shown.publicExponent);
      Object.assign(this, { type, extractable, algorithm: shown, usages: [...usages] });
      Object.freeze(this);
    }
    get [Symbol.toStringTag]() {
      return "CryptoKey";
    }
  }

  /** Ask the host; what it refuses is thrown in this realm. */
  function ask(operation, ...args) {
    const answer = host.subtle(operation, args);
    if (answer.error === undefined) return answer;
    throw new DOMException(answer.error.message, answer.error.name);
  }

  function bufferOf(bytes) {
    const copy = new Uint8Array(bytes.length);
    copy.set(bytes);
    return copy.buffer;
  }

  function normalize(algorithm) {
    const given = typeof algorithm === "string" ? { name: algorithm } : algorithm;
    if (typeof given !== "object" || given === null) {
      throw new DOMException("Unrecognized or invalid algorithm", "NotSupportedError");
    }
    const normal = { ...given, name: String(given.name).toUpperCase() };
    for (const field of ["iv", "counter", "additionalData", "salt", "info", "label"]) {
      if (normal[field] !== undefined) normal[field] = viewOf(normal[field]).slice();
    }
    if (normal.public !== undefined) normal.public = handles.get(normal.public);
    return normal;
  }

  function use(cryptoKey, usage, { name }) {
    const handle = handles.get(cryptoKey);
    if (handle === undefined || cryptoKey.algorithm.name.toUpperCase() !== name) {
      throw new DOMException("invalid algorithm for key", "InvalidAccessError");
    }
    if (!cryptoKey.usages.includes(usage)) {
      throw new DOMException(`CryptoKey does not have "${usage}" usage`, "InvalidAccessError");
    }
    return handle;
  }

  function refuseRandomness() {
    throw new Error(shared.refusal("cryptographic randomness"));
  }

  function required(given, needed, method) {
    if (given >= needed) return;
    throw new TypeError(
      `Failed to execute '${method}' on 'SubtleCrypto': ${needed} arguments required, but only ${given} present.`,
    );
  }

  const RANDOM_SIGNATURES = ["ECDSA", "RSA-PSS"];

  class SubtleCrypto {
    constructor(given) {
      if (given !== key) shared.throwUncatchable("Illegal constructor: SubtleCrypto");
    }
    get [Symbol.toStringTag]() {
      return "SubtleCrypto";
    }
    async digest(algorithm, data) {
      required(arguments.length, 2, "digest");
      return bufferOf(ask("digest", normalize(algorithm), viewOf(data)).bytes);
    }
    async importKey(format, data, algorithm, extractable, usages) {
      required(arguments.length, 5, "importKey");
      const wantsBytes = format !== "jwk";
      if (wantsBytes !== shared.isBytes(data)) throw new TypeError(`wrong keyData for format ${format}`);
      const { handle } = ask(
        "importKey",
        format,
        wantsBytes ? viewOf(data).slice() : { ...data },
        normalize(algorithm),
      );
      const imported = new CryptoKey(key, host.describeKey(handle), Boolean(extractable), usages);
      if (imported.usages.length === 0 && imported.type !== "public") {
        throw new DOMException(
          "Usages cannot be empty when importing a private or secret key.",
          "SyntaxError",
        );
      }
      handles.set(imported, handle);
      return imported;
    }
    async exportKey(format, cryptoKey) {
      required(arguments.length, 2, "exportKey");
      if (!cryptoKey.extractable) throw new DOMException("key is not extractable", "InvalidAccessError");
      const { bytes, jwk } = ask("exportKey", format, handles.get(cryptoKey));
      if (jwk === undefined) return bufferOf(bytes);
      return { ...JSON.parse(jwk), ext: cryptoKey.extractable, key_ops: [...cryptoKey.usages] };
    }
    async sign(algorithm, cryptoKey, data) {
      required(arguments.length, 3, "sign");
      const normal = normalize(algorithm);
      const handle = use(cryptoKey, "sign", normal);
      if (RANDOM_SIGNATURES.includes(normal.name)) refuseRandomness();
      return bufferOf(ask("sign", normal, handle, viewOf(data)).bytes);
    }
    async verify(algorithm, cryptoKey, signature, data) {
      required(arguments.length, 4, "verify");
      const normal = normalize(algorithm);
      return ask("verify", normal, use(cryptoKey, "verify", normal), viewOf(signature), viewOf(data)).value;
    }
    async encrypt(algorithm, cryptoKey, data) {
      required(arguments.length, 3, "encrypt");
      const normal = normalize(algorithm);
      const handle = use(cryptoKey, "encrypt", normal);
      if (normal.name === "RSA-OAEP") refuseRandomness();
      return bufferOf(ask("encrypt", normal, handle, viewOf(data)).bytes);
    }
    async decrypt(algorithm, cryptoKey, data) {
      required(arguments.length, 3, "decrypt");
      const normal = normalize(algorithm);
      return bufferOf(ask("decrypt", normal, use(cryptoKey, "decrypt", normal), viewOf(data)).bytes);
    }
    async deriveBits(algorithm, cryptoKey, length) {
      required(arguments.length, 3, "deriveBits");
      const normal = normalize(algorithm);
      return bufferOf(ask("deriveBits", normal, use(cryptoKey, "deriveBits", normal), length).bytes);
    }
    async deriveKey(algorithm, cryptoKey, derived, extractable, usages) {
      required(arguments.length, 5, "deriveKey");
      const normal = normalize(algorithm);
      const { name, length, hash } = normalize(derived);
      const blockBits = /512|384/.test(String(hash?.name ?? hash)) ? 1024 : 512;
      const bits = length ?? (name === "HMAC" ? blockBits : 256);
      const { bytes } = ask("deriveBits", normal, use(cryptoKey, "deriveKey", normal), bits);
      return this.importKey("raw", bufferOf(bytes), derived, extractable, usages);
    }
    async generateKey() {
      required(arguments.length, 3, "generateKey");
      refuseRandomness();
    }
    async wrapKey() {
      shared.throwNotImplemented("wrapKey", "SubtleCrypto");
    }
    async unwrapKey() {
      shared.throwNotImplemented("unwrapKey", "SubtleCrypto");
    }
  }

  const subtle = new SubtleCrypto(key);

  class Crypto {
    constructor(given) {
      if (given !== key) shared.throwUncatchable("Illegal constructor: Crypto");
    }
    get [Symbol.toStringTag]() {
      return "Crypto";
    }
    get subtle() {
      return subtle;
    }
    getRandomValues(view) {
      if (!ArrayBuffer.isView(view) || view instanceof Float32Array || view instanceof Float64Array) {
        throw new DOMException(
          "The provided ArrayBufferView is not an integer array type",
          "TypeMismatchError",
        );
      }
      const bytes = viewOf(view);
      if (bytes.length > MAX_RANDOM_BYTES) {
        throw new DOMException(
          `The ArrayBufferView's byte length (${bytes.length}) exceeds the number of bytes of entropy available via this API (${MAX_RANDOM_BYTES})`,
          "QuotaExceededError",
        );
      }
      for (let i = 0; i < bytes.length; i++) bytes[i] = shared.random32();
      return view;
    }
    randomUUID() {
      const bytes = this.getRandomValues(new Uint8Array(16));
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
      return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
    }
  }

  return { Crypto, CryptoKey, SubtleCrypto, crypto: new Crypto(key) };
});

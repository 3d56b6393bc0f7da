/*
 * Runs first in each context of the engine and gives it the globals of Convex's runtime. Every object that functions can hold,
 * promises above all, is made in here, in the context's own realm; only texts, numbers and byte views cross to `host`.
 */
(function prelude(host, environment) {
  "use strict";

  const NO_ACTION =
    "in queries and mutations. Please consider using an action. See https://docs.convex.dev/functions/actions for more details.";

  Error.stackTraceLimit = 50; // the engine's own frames, which nobody is shown, count too

  /** @param {Record<string, unknown>} values */
  function define(values) {
    for (const [name, value] of Object.entries(values)) {
      Object.defineProperty(globalThis, name, {
        value,
        writable: true,
        configurable: true,
        enumerable: false,
      });
    }
  }

  class DOMException extends Error {
    constructor(message = "", name = "Error") {
      super(message);
      Object.defineProperty(this, "name", { value: name });
    }
  }

  /* ---- syscalls ---- */

  function failure() {
    const { message, data } = host.takeFailure();
    const error = new Error(message);
    if (data !== undefined) error.data = JSON.parse(data);
    return error;
  }

  function syscall(op, args) {
    const result = host.syscall(op, args);
    if (result === undefined) throw failure();
    return result;
  }

  const Convex = {
    syscall,
    asyncSyscall: async (op, args) => syscall(op, args),
    jsSyscall(op) {
      throw new Error(`${op} is not available in queries and mutations`);
    },
  };

  /* ---- time and chance: the same for a call whenever it runs again ---- */

  let clock = 0;
  const RealDate = Date;
  function FrozenDate(...args) {
    if (new.target === undefined) return new RealDate(clock).toString();
    return Reflect.construct(RealDate, args.length === 0 ? [clock] : args, new.target);
  }
  Object.defineProperty(FrozenDate, "name", { value: "Date" });
  Object.defineProperty(FrozenDate, "length", { value: 7 });
  FrozenDate.prototype = RealDate.prototype;
  FrozenDate.prototype.constructor = FrozenDate;
  FrozenDate.now = () => clock;
  FrozenDate.parse = RealDate.parse;
  FrozenDate.UTC = RealDate.UTC;

  // sfc32: small, fast, and passes the usual tests of randomness.
  let a = 0;
  let b = 0;
  let c = 0;
  let counter = 1;
  function random32() {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }
  function seed(first, second, third) {
    a = first | 0;
    b = second | 0;
    c = third | 0;
    counter = 1;
    for (let round = 0; round < 12; round++) random32();
  }
  Math.random = () => (random32() * 0x200000 + (random32() >>> 11)) / 2 ** 53;

  /* ---- bytes and text ---- */

  function viewOf(data) {
    if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (Object.prototype.toString.call(data) === "[object ArrayBuffer]") return new Uint8Array(data);
    throw new TypeError("The data must be an ArrayBuffer or a view of one");
  }

  class TextEncoder {
    get encoding() {
      return "utf-8";
    }
    encode(text = "") {
      const bytes = new Uint8Array(host.utf8Length(String(text)));
      host.utf8Write(String(text), bytes);
      return bytes;
    }
    encodeInto(text, target) {
      const { read, written } = host.utf8Write(String(text), target);
      return { read, written };
    }
  }

  class TextDecoder {
    #decoder;
    constructor(label = "utf-8", options = {}) {
      this.#decoder = host.textDecoder(String(label), {
        fatal: Boolean(options.fatal),
        ignoreBOM: Boolean(options.ignoreBOM),
      });
      if (this.#decoder === undefined) throw new RangeError(`The encoding label "${label}" is not known`);
    }
    get encoding() {
      return this.#decoder.encoding;
    }
    get fatal() {
      return this.#decoder.fatal;
    }
    get ignoreBOM() {
      return this.#decoder.ignoreBOM;
    }
    decode(data = new Uint8Array(0), options = {}) {
      const text = host.decode(this.#decoder, viewOf(data), Boolean(options.stream));
      if (text === undefined) throw new TypeError("The encoded data was not valid");
      return text;
    }
  }

  function base64(convert) {
    return (text) => {
      const result = convert(String(text));
      if (result === undefined)
        throw new DOMException("The string contains invalid characters", "InvalidCharacterError");
      return result;
    };
  }

  class URL extends host.web.URL {
    constructor(url, base) {
      if (!host.web.URL.canParse(url, base)) throw new TypeError(`Invalid URL: ${String(url)}`);
      super(url, base);
    }
  }

  const CLONED_ERRORS = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };
  function structuredClone(value, options) {
    if (options?.transfer?.length > 0)
      throw new DOMException("Nothing can be transferred here", "DataCloneError");
    return clone(value, new Map());
  }
  function clone(value, seen) {
    if (typeof value === "function" || typeof value === "symbol") {
      throw new DOMException(`${String(value)} could not be cloned.`, "DataCloneError");
    }
    if (typeof value !== "object" || value === null) return value;
    if (seen.has(value)) return seen.get(value);
    const keep = (copy) => {
      seen.set(value, copy);
      return copy;
    };
    const kind = Object.prototype.toString.call(value).slice(8, -1);
    if (ArrayBuffer.isView(value)) {
      const buffer = clone(value.buffer, seen);
      const length = value.length ?? value.byteLength;
      return keep(new globalThis[kind](buffer, value.byteOffset, length));
    }
    switch (kind) {
      case "Boolean":
      case "Number":
      case "String":
      case "BigInt":
        return keep(Object(value.valueOf()));
      case "Date":
        return keep(new RealDate(value.getTime()));
      case "RegExp":
        return keep(new RegExp(value.source, value.flags));
      case "ArrayBuffer":
        return keep(value.slice(0));
      case "Map": {
        const copy = keep(new Map());
        for (const [key, member] of [...value]) copy.set(clone(key, seen), clone(member, seen));
        return copy;
      }
      case "Set": {
        const copy = keep(new Set());
        for (const member of [...value]) copy.add(clone(member, seen));
        return copy;
      }
      case "Error": {
        const copy = keep(new (CLONED_ERRORS[value.name] ?? Error)(value.message));
        Object.defineProperty(copy, "stack", { value: value.stack, writable: true, configurable: true });
        if ("cause" in value) copy.cause = clone(value.cause, seen);
        return copy;
      }
      case "Promise":
      case "WeakMap":
      case "WeakSet":
      case "WeakRef":
        throw new DOMException(`A ${kind} could not be cloned.`, "DataCloneError");
      default: {
        const copy = keep(Array.isArray(value) ? new Array(value.length) : {});
        for (const key of Object.keys(value)) copy[key] = clone(value[key], seen);
        return copy;
      }
    }
  }

  /* ---- cryptography ---- */

  const HASH_BYTES = { "SHA-1": 20, "SHA-256": 32, "SHA-384": 48, "SHA-512": 64 };
  const secrets = new WeakMap();

  class CryptoKey {
    constructor(secret, type, algorithm, extractable, usages) {
      secrets.set(this, secret);
      Object.assign(this, { type, algorithm, extractable, usages });
      Object.freeze(this);
    }
  }

  function hashName(algorithm) {
    const name = String(
      typeof algorithm === "object" && algorithm !== null ? algorithm.name : algorithm,
    ).toUpperCase();
    if (!Object.hasOwn(HASH_BYTES, name))
      throw new DOMException(`Unrecognized algorithm name ${name}`, "NotSupportedError");
    return name;
  }

  function requireHmac(algorithm) {
    const name = String(algorithm?.name ?? algorithm);
    if (name.toUpperCase() !== "HMAC")
      throw new DOMException(`${name} is not supported by this host`, "NotSupportedError");
  }

  function hmac(key, usage, data) {
    if (!key.usages.includes(usage))
      throw new DOMException(`The key does not permit to ${usage}`, "InvalidAccessError");
    const hash = key.algorithm.hash.name;
    const result = new Uint8Array(HASH_BYTES[hash]);
    host.hmac(hash, secrets.get(key), viewOf(data), result);
    return result;
  }

  function noRandomness(what) {
    return async () => {
      throw new DOMException(
        `${what} needs cryptographic randomness, which queries and mutations do not have`,
        "NotSupportedError",
      );
    };
  }

  const subtle = {
    async digest(algorithm, data) {
      const name = hashName(algorithm);
      const result = new Uint8Array(HASH_BYTES[name]);
      host.digest(name, viewOf(data), result);
      return result.buffer;
    },
    async importKey(format, keyData, algorithm, extractable, usages) {
      requireHmac(algorithm);
      if (format !== "raw")
        throw new DOMException(
          `Keys of format ${format} are not supported by this host`,
          "NotSupportedError",
        );
      const secret = viewOf(keyData).slice();
      if (secret.length === 0) throw new DOMException("A key of no bytes cannot be imported", "DataError");
      const hash = { name: hashName(algorithm.hash) };
      return new CryptoKey(
        secret,
        "secret",
        { name: "HMAC", hash, length: secret.length * 8 },
        Boolean(extractable),
        [...usages],
      );
    },
    async exportKey(format, key) {
      if (!key.extractable) throw new DOMException("The key is not extractable", "InvalidAccessError");
      if (format !== "raw")
        throw new DOMException(
          `Keys of format ${format} are not supported by this host`,
          "NotSupportedError",
        );
      return secrets.get(key).slice().buffer;
    },
    async sign(algorithm, key, data) {
      requireHmac(algorithm);
      return hmac(key, "sign", data).buffer;
    },
    async verify(algorithm, key, signature, data) {
      requireHmac(algorithm);
      const expected = hmac(key, "verify", data);
      const given = viewOf(signature);
      let difference = given.length ^ expected.length;
      for (let i = 0; i < expected.length; i++) difference |= expected[i] ^ (given[i] ?? 0);
      return difference === 0;
    },
    generateKey: noRandomness("generateKey"),
    encrypt: noRandomness("encrypt"),
    wrapKey: noRandomness("wrapKey"),
  };

  const crypto = {
    subtle,
    getRandomValues(view) {
      const bytes = viewOf(view);
      if (bytes.length > 65536)
        throw new DOMException("At most 65536 bytes can be asked for at once", "QuotaExceededError");
      for (let i = 0; i < bytes.length; i++) bytes[i] = random32();
      return view;
    },
    randomUUID() {
      const bytes = crypto.getRandomValues(new Uint8Array(16));
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
      return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
    },
  };

  /* ---- console ---- */

  const timers = new Map();
  const writer =
    (level) =>
    (...values) =>
      host.log(level, values);
  const console = {
    debug: writer("DEBUG"),
    info: writer("INFO"),
    log: writer("LOG"),
    warn: writer("WARN"),
    error: writer("ERROR"),
    trace: writer("LOG"),
    dir: (value) => host.log("LOG", [value]),
    assert: (condition, ...values) => void (condition || host.log("ERROR", ["Assertion failed:", ...values])),
    time: (label = "default") => void timers.set(label, clock),
    timeLog: (label = "default", ...values) =>
      host.logText("INFO", `${label}: ${clock - (timers.get(label) ?? clock)}ms`, values),
    timeEnd(label = "default") {
      console.timeLog(label);
      timers.delete(label);
    },
    group() {},
    groupEnd() {},
  };

  /* ---- what cannot be had ---- */

  const refuseTimer = (name) => () => {
    throw new Error(`Can't use ${name} ${NO_ACTION}`);
  };
  class WeakRef {
    #target;
    constructor(target) {
      this.#target = target;
    }
    deref() {
      return this.#target;
    }
  }
  class FinalizationRegistry {
    register() {}
    unregister() {
      return false;
    }
  }

  define({
    ...host.web,
    Convex,
    CryptoKey,
    DOMException,
    Date: FrozenDate,
    FinalizationRegistry,
    TextDecoder,
    TextEncoder,
    URL,
    WeakRef,
    atob: base64(host.atob),
    btoa: base64(host.btoa),
    clearInterval() {},
    clearTimeout() {},
    console,
    crypto,
    fetch: async () => {
      throw new TypeError(`Can't use fetch() ${NO_ACTION}`);
    },
    performance: { now: () => 0, timeOrigin: 0 },
    process: { env: Object.freeze(JSON.parse(environment)) },
    queueMicrotask: (callback) => void Promise.resolve().then(callback),
    self: globalThis,
    setInterval: refuseTimer("setInterval"),
    setTimeout: refuseTimer("setTimeout"),
    structuredClone,
  });

  /* ---- running functions ---- */

  let modules = {};
  let functions = new Map();
  /** A text: the value; an object: what was thrown; undefined: the promise did not settle. */
  let outcome;

  function describeThrown(thrown) {
    if (typeof thrown !== "object" || thrown === null || !("message" in thrown)) {
      return { name: "", message: typeof thrown === "string" ? thrown : host.inspect(thrown), stack: "" };
    }
    const { name, message, stack, data } = thrown;
    const described = {
      name: String(name),
      message: String(message),
      stack: typeof stack === "string" ? stack : "",
    };
    if ("ConvexErrorSymbol" in thrown && typeof data === "string") described.data = data;
    return described;
  }

  const KINDS = { isQuery: "query", isMutation: "mutation", isAction: "action" };
  const METHODS = { query: "invokeQuery", mutation: "invokeMutation" };

  /** The default export of a module that has to be of one class; undefined when there is no such module. */
  function defaultExport(module, flag, className) {
    if (modules[module] === undefined) return undefined;
    const value = modules[module].default;
    if (value === undefined)
      throw new Error(`\`convex/${module}.js\` must have a default export of a ${className}.`);
    if (value?.[flag] !== true)
      throw new Error(`The default export of \`convex/${module}.js\` is not a ${className}.`);
    return value;
  }

  /** Take up what the bundle has just left behind; answers with what it declares, as JSON text. */
  function collect() {
    modules = globalThis.__modules;
    delete globalThis.__modules;
    functions = new Map();
    const declared = [];
    for (const [module, exports] of Object.entries(modules)) {
      for (const [name, value] of Object.entries(exports)) {
        const flag =
          typeof value === "function" ? Object.keys(KINDS).find((one) => value[one] === true) : undefined;
        if (flag === undefined) continue;
        const path = `${module}:${name}`;
        functions.set(path, value);
        declared.push({
          path,
          kind: KINDS[flag],
          visibility: value.isPublic ? "public" : "internal",
          args: JSON.parse(value.exportArgs()),
          returns: JSON.parse(value.exportReturns()),
        });
      }
    }
    const app = modules["convex.config"]?.default;
    const components = (app?._childComponents ?? []).map(([name]) => name);
    const config = components.length === 0 ? app?.export() : undefined; // it refuses components that were not made ready for it
    const router = defaultExport("http", "isRouter", "Router");
    return JSON.stringify({
      functions: declared,
      schema: modules.schema?.default?.export() ?? null,
      crons: defaultExport("crons", "isCrons", "Crons object")?.export() ?? null,
      http: router !== undefined,
      routes: router?.getRoutes().map(([path, method]) => ({ path, method })) ?? [],
      config: config ?? null,
      ...("auth.config" in modules ? { auth: modules["auth.config"].default ?? null } : {}),
      env: config?.envVars ?? [],
      components,
    });
  }

  /** Begin a call; its end is in `takeOutcome` once the microtasks have run. */
  function start(path, kind, args, now, first, second, third) {
    clock = now;
    seed(first, second, third);
    outcome = undefined;
    const called = functions.get(path);
    called[METHODS[kind]](args).then(
      (value) => void (outcome = value),
      (thrown) => void (outcome = describeThrown(thrown)),
    );
  }

  /** Before modules are evaluated. */
  function prepare(now, first, second, third) {
    clock = now;
    seed(first, second, third);
  }

  return { prepare, collect, start, describeThrown, takeOutcome: () => outcome };
});

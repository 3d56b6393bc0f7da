/*
 * Runs first in each context of the engine and gives it the globals of Convex's runtime. Every object that functions can hold,
 * promises above all, is made in the context's own realm, by the scripts in realm/; only texts, numbers and byte views cross to `host`.
 */
(function prelude(host, environment, realm) {
  "use strict";

  const NO_ACTION =
    "in queries and mutations. Please consider using an action. See https://docs.convex.dev/functions/actions for more details.";
  const USE_NODE =
    "Consider calling an action defined in Node.js instead (https://docs.convex.dev/functions/actions).";

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

  /* ---- errors ---- */

  const DOM_CODES = {
    IndexSizeError: 1,
    HierarchyRequestError: 3,
    WrongDocumentError: 4,
    InvalidCharacterError: 5,
    NoModificationAllowedError: 7,
    NotFoundError: 8,
    NotSupportedError: 9,
    InUseAttributeError: 10,
    InvalidStateError: 11,
    SyntaxError: 12,
    InvalidModificationError: 13,
    NamespaceError: 14,
    InvalidAccessError: 15,
    TypeMismatchError: 17,
    SecurityError: 18,
    NetworkError: 19,
    AbortError: 20,
    URLMismatchError: 21,
    QuotaExceededError: 22,
    TimeoutError: 23,
    InvalidNodeTypeError: 24,
    DataCloneError: 25,
  };

  class DOMException extends Error {
    constructor(message = "", name = "Error") {
      super(message);
      Object.defineProperty(this, "name", { value: name });
      Object.defineProperty(this, "code", { value: Object.hasOwn(DOM_CODES, name) ? DOM_CODES[name] : 0 });
    }
    get [Symbol.toStringTag]() {
      return "DOMException";
    }
  }

  /** What ends the function however it goes on, as Convex ends it. */
  let uncatchable = null;
  function throwUncatchable(message) {
    const error = new Error(message);
    uncatchable ??= { name: "", message, stack: error.stack, uncatchable: true };
    throw error;
  }
  function throwNotImplemented(operation, className) {
    throwUncatchable(`Not implemented: ${operation} for ${className}. ${USE_NODE}`);
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
    jsSyscall: (op) => throwUncatchable(`Unknown JS syscall: ${op}`),
  };

  /* ---- time and chance: the same for a call whenever it runs again ---- */

  let clock = 0;
  let loadedAt = 0;
  let startedAt = null; // by the host's clock; null: time stands still
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

  /** Since the modules were loaded; it goes on while a mutation runs, and stands still in a query. */
  function performanceNow() {
    return clock - loadedAt + (startedAt === null ? 0 : host.realTime() - startedAt);
  }

  const { random, random32, seed } = realm.random();
  Math.random = random;

  /* ---- bytes ---- */

  function isBytes(data) {
    return ArrayBuffer.isView(data) || Object.prototype.toString.call(data) === "[object ArrayBuffer]";
  }

  function viewOf(data) {
    if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (isBytes(data)) return new Uint8Array(data);
    throw new TypeError("The data must be an ArrayBuffer or a view of one");
  }

  /* ---- what cannot be had, or does nothing ---- */

  let importing = true;
  function refusal(what) {
    return importing ? `${what} unsupported at import time` : `Can't use ${what} ${NO_ACTION}`;
  }

  /** As on Convex the refusal is a rejected promise, which ends the function: nobody holds the promise. */
  const refuseTimer = (name) => (handler) => {
    if (typeof handler === "string") throwNotImplemented("code string argument", name);
    void Promise.reject(new Error(refusal(name)));
    return 1;
  };

  function heldWeakly(value) {
    const kind = typeof value;
    if (kind === "symbol") return Symbol.keyFor(value) === undefined;
    return (kind === "object" && value !== null) || kind === "function";
  }
  class WeakRef {
    #target;
    constructor(target) {
      if (!heldWeakly(target)) throw new TypeError("target must be an object");
      this.#target = target;
    }
    deref() {
      return this.#target;
    }
    get [Symbol.toStringTag]() {
      return "WeakRef";
    }
  }
  class FinalizationRegistry {
    constructor(cleanup) {
      if (typeof cleanup !== "function") throw new TypeError("cleanup must be callable");
    }
    register(target) {
      if (!heldWeakly(target)) throw new TypeError("target must be an object");
    }
    unregister(token) {
      if (!heldWeakly(token)) throw new TypeError("unregisterToken must be an object");
    }
    get [Symbol.toStringTag]() {
      return "FinalizationRegistry";
    }
  }

  const variables = JSON.parse(environment);
  const env = new Proxy(
    {},
    {
      get(target, name) {
        if (typeof name !== "string") return Reflect.get(target, name);
        if (Object.hasOwn(variables, name)) return variables[name];
        if (name === "inspect") return () => "[process.env]";
        if (importing && host.isAuthConfig(new Error().stack)) {
          throw new Error(
            `Environment variable ${name} is used in auth config file but its value was not set`,
          );
        }
        return undefined;
      },
    },
  );

  /* ---- globals ---- */

  Atomics.wait = () => {
    throw new TypeError("Atomics.wait cannot be called in this context");
  };

  const shared = {
    DOMException,
    refusal,
    RealDate,
    isBytes,
    performanceNow,
    random32,
    throwNotImplemented,
    throwUncatchable,
    timeOrigin: () => loadedAt,
    viewOf,
  };
  const { console, forgetTimers } = realm.console(host);
  const { structuredClone } = realm.clone(shared);
  realm.wasm();
  const events = realm.events(shared);
  realm.web(host, shared, realm.differences(shared));
  define({
    ...events,
    ...realm.text(host, shared),
    ...realm.crypto(host, shared),
    ...realm.performance({ ...shared, structuredClone, EventTarget: events.EventTarget }),
    Convex,
    DOMException,
    Date: FrozenDate,
    FinalizationRegistry,
    WeakRef,
    clearInterval() {},
    clearTimeout() {},
    console,
    fetch: async (resource, options) => {
      new globalThis.Request(resource, options);
      throw new Error(refusal("fetch()"));
    },
    process: { env },
    self: globalThis,
    setInterval: refuseTimer("setInterval"),
    setTimeout: refuseTimer("setTimeout"),
    structuredClone,
  });

  /* ---- running functions ---- */

  let modules = {};
  const functions = new Map(); // those that were called
  /** A text: the value; an object: what was thrown; undefined: the promise did not settle. */
  let outcome;

  /** What V8 says about something that is no error, when nobody caught it. */
  function describeOther(thrown) {
    if (typeof thrown === "string") return thrown;
    if (typeof thrown === "bigint" || typeof thrown === "symbol" || typeof thrown === "function")
      return String(thrown);
    if (typeof thrown !== "object" || thrown === null) return String(thrown);
    const { constructor } = Object.getPrototypeOf(thrown) ?? {};
    return Array.isArray(thrown) ? "[object Array]" : `#<${constructor?.name || "Object"}>`;
  }

  function describeThrown(thrown) {
    if (!(thrown instanceof Error)) return { name: "", message: describeOther(thrown), stack: "" };
    const { name = "Error", message = "", stack, data, ConvexErrorSymbol } = thrown;
    const described = {
      name: String(name),
      message: String(message),
      stack: typeof stack === "string" ? stack : "",
    };
    if (ConvexErrorSymbol !== undefined && thrown[ConvexErrorSymbol] === true && typeof data === "string") {
      described.data = data;
    }
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

  /** Take up what the bundle has just left behind. */
  function collect() {
    modules = globalThis.__modules;
    delete globalThis.__modules;
  }

  /** What the schema's module declares, as JSON text; null when there is no such module. */
  function schemaOf(module) {
    if (module === undefined) return null;
    const docs = "To learn more, see the schema documentation at https://docs.convex.dev/database/schemas.";
    if (module.default === undefined) throw new Error(`Schema file missing default export. ${docs}`);
    if (typeof module.default?.export !== "function") {
      throw new Error(`Default export from schema file isn't a Convex schema. ${docs}`);
    }
    return module.default.export();
  }

  /** What the modules declare, as JSON text. */
  function describe() {
    const declared = [];
    for (const [module, exports] of Object.entries(modules)) {
      for (const [name, value] of Object.entries(exports)) {
        const flag =
          typeof value === "function" ? Object.keys(KINDS).find((one) => value[one] === true) : undefined;
        if (flag === undefined) continue;
        const path = `${module}:${name}`;
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
      schema: schemaOf(modules.schema),
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
    startedAt = kind === "mutation" ? host.realTime() : null;
    seed(first, second, third);
    outcome = undefined;
    uncatchable = null;
    importing = false;
    forgetTimers();
    let called = functions.get(path);
    if (called === undefined) {
      const colon = path.lastIndexOf(":");
      called = modules[path.slice(0, colon)][path.slice(colon + 1)];
      functions.set(path, called);
    }
    called[METHODS[kind]](args).then(
      (value) => void (outcome = value),
      (thrown) => void (outcome = describeThrown(thrown)),
    );
  }

  /** Before modules are evaluated. */
  function prepare(now, first, second, third) {
    clock = loadedAt = now;
    seed(first, second, third);
  }

  return {
    prepare,
    collect,
    describe,
    start,
    describeThrown,
    takeOutcome: () => uncatchable ?? outcome,
    ownsPromise: (value) => value instanceof Promise,
  };
});

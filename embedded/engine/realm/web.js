/*
 * The host's own web classes, for functions. What they give and throw is made anew in the functions' realm where code would notice the
 * difference: promises, bytes, JSON, errors. Their promises settle when the host's microtasks run, which `Runtime` sees to.
 */
(function web(host, shared, differences) {
  "use strict";

  /** The host's classes by their prototypes, of the parts that are used; few functions use one, so each is adopted when it is first looked at. */
  const hostClasses = new Map();
  const partsInUse = new Set();
  function use(part) {
    if (partsInUse.has(part)) return;
    partsInUse.add(part);
    for (const HostClass of host.web[part].map(host.webClass))
      hostClasses.set(HostClass.prototype, HostClass);
  }

  /** What functions know in their place, by name. */
  const adopted = {};

  /** An error of the host as one of this realm; anything else is a function's own and stays as it is. */
  function ownError(error) {
    if (error instanceof Error || !host.isHostError(error)) return error;
    const { name, message } = error;
    const Own = { EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError }[name];
    if (Own !== undefined) return new Own(message);
    return name === "Error" ? new Error(message) : new shared.DOMException(message, name);
  }

  function ownValue(value) {
    if (typeof value !== "object" || value === null) return value;
    switch (host.kindOf(value)) {
      case "promise":
        return ownPromise(value);
      case "bytes": {
        const copy = new Uint8Array(value.byteLength);
        copy.set(new Uint8Array(value.buffer ?? value, value.byteOffset ?? 0, value.byteLength));
        return ArrayBuffer.isView(value) ? copy : copy.buffer;
      }
      case "array":
        return Array.from(value, ownValue);
      case "object":
        return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, ownValue(member)]));
      default:
        return ownObject(value);
    }
  }

  /** An object that one of the host's classes has made takes on the class that functions know; an iterator is made anew. */
  function ownObject(value) {
    const hostClass = hostClasses.get(Object.getPrototypeOf(value));
    if (hostClass !== undefined) return Object.setPrototypeOf(value, ownClass(hostClass).prototype);
    if (!host.isHostObject(value) || typeof value.next !== "function") return value;
    const iterator = {
      next: (...args) => wrap(value.next).apply(value, args),
      [Symbol.iterator]: () => iterator,
      [Symbol.asyncIterator]: () => iterator,
    };
    if (typeof value.return === "function")
      iterator.return = (...args) => wrap(value.return).apply(value, args);
    return iterator;
  }

  function ownPromise(promise) {
    host.waitsFor(1);
    return new Promise((resolve, reject) => {
      promise.then(
        (value) => {
          host.waitsFor(-1);
          resolve(ownValue(value));
        },
        (error) => {
          host.waitsFor(-1);
          reject(ownError(error));
        },
      );
    });
  }

  function wrap(method) {
    return function (...args) {
      try {
        return ownValue(Reflect.apply(method, this, args));
      } catch (error) {
        throw ownError(error);
      }
    };
  }

  /** A class of the host under its own name, whose instances are good for the host's other classes too. */
  function adopt(HostClass) {
    const { name } = HostClass;
    const Own = {
      [name]: class extends HostClass {
        constructor(...args) {
          try {
            super(...args);
          } catch (error) {
            throw ownError(error);
          }
        }
        static [Symbol.hasInstance](value) {
          return this === Own ? value instanceof HostClass : super[Symbol.hasInstance](value);
        }
      },
    }[name];
    for (const property of Reflect.ownKeys(HostClass.prototype)) {
      const descriptor = Object.getOwnPropertyDescriptor(HostClass.prototype, property);
      if (property === "constructor") continue;
      if (typeof descriptor.value === "function") descriptor.value = wrap(descriptor.value);
      else if (descriptor.get !== undefined) descriptor.get = wrap(descriptor.get);
      if (descriptor.set !== undefined) descriptor.set = wrap(descriptor.set);
      Object.defineProperty(Own.prototype, property, descriptor);
    }
    for (const property of Reflect.ownKeys(HostClass)) {
      const descriptor = Object.getOwnPropertyDescriptor(HostClass, property);
      if (typeof descriptor.value !== "function") continue;
      Object.defineProperty(Own, property, { ...descriptor, value: wrap(descriptor.value) });
    }
    return Own;
  }

  const signals = new WeakMap();

  function ownRequest(HostRequest) {
    const Base = adopt(HostRequest);
    return class Request extends Base {
      constructor(input, init) {
        const { signal, ...rest } = init ?? {};
        super(input, rest);
        signals.set(this, signal ?? signals.get(input) ?? new globalThis.AbortController().signal);
      }
      get signal() {
        return signals.get(this);
      }
      clone() {
        const copy = super.clone();
        signals.set(copy, this.signal);
        return copy;
      }
    };
  }

  /** Node ends a blob's stream by an event of its own loop, which does not turn while a function runs. */
  function ownBlob(HostBlob) {
    const Blob = adopt(HostBlob);
    function stream() {
      return new globalThis.ReadableStream({
        start: async (controller) => {
          const bytes = new Uint8Array(await this.arrayBuffer());
          if (bytes.length > 0) controller.enqueue(bytes);
          controller.close();
        },
        type: "bytes",
      });
    }
    Object.defineProperty(Blob.prototype, "stream", { value: stream, writable: true, configurable: true });
    return Blob;
  }

  function ownClass(HostClass) {
    const { name } = HostClass;
    return (adopted[name] ??= made(name, HostClass));
  }

  function made(name, HostClass) {
    if (name === "Request") return differences.Request(ownRequest(HostClass));
    if (name === "Blob") return ownBlob(HostClass);
    const Own = adopt(HostClass);
    return Object.hasOwn(differences, name) ? differences[name](Own) : Own;
  }

  for (const [part, names] of Object.entries(host.web)) {
    for (const name of names) {
      Object.defineProperty(globalThis, name, {
        get() {
          use("basic"); // what the others give: streams, blobs
          use(part);
          return adopted[name] ?? ownClass(host.webClass(name));
        },
        set(value) {
          adopted[name] = value;
        },
        configurable: true,
        enumerable: false,
      });
    }
  }
});

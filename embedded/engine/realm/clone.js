/* `structuredClone` for functions. Gives the globals. */
(function makeClone(shared) {
  "use strict";

  const CLONED_ERRORS = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };
  function structuredClone(value, options) {
    if (options !== undefined) shared.throwUncatchable("structuredClone with transfer not supported");
    return clone(value, new Map());
  }
  const refusal = () => new Error("could not deserialize value"); // Convex's words for what V8 would not serialize
  function clone(value, seen) {
    if (typeof value === "function" || typeof value === "symbol") {
      throw refusal();
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
        return keep(new shared.RealDate(value.getTime()));
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
        throw refusal();
      default: {
        const copy = keep(Array.isArray(value) ? new Array(value.length) : {});
        for (const key of Object.keys(value)) copy[key] = clone(value[key], seen);
        return copy;
      }
    }
  }

  return { structuredClone };
});

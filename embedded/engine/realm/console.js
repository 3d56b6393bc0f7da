/* The console of functions: the methods that Convex's has, and no others. */
(function makeConsole(host) {
  "use strict";

  const timers = new Map();

  function label(value) {
    if (value === undefined) return "default";
    return value === null ? "null" : value.toString();
  }

  function elapsed(name, then) {
    return `${name}: ${Math.max(0, Math.round(host.realTime() - then))}ms`;
  }

  const unknown = (name) => void host.log("WARN", [`Timer '${name}' does not exist`]);
  const writer =
    (level) =>
    (...values) =>
      void host.log(level, host.inspectAll(values));

  const methods = {
    debug: writer("DEBUG"),
    error: writer("ERROR"),
    info: writer("INFO"),
    log: writer("LOG"),
    warn: writer("WARN"),
    trace: (...values) =>
      void host.log("LOG", [...host.inspectAll(values), `\n${host.frames(new Error().stack)}`]),
    time(value) {
      const name = label(value);
      if (timers.has(name)) host.log("WARN", [`Timer '${name}' already exists`]);
      else timers.set(name, host.realTime());
    },
    timeLog(value, ...values) {
      const name = label(value);
      const then = timers.get(name);
      if (then === undefined) unknown(name);
      else host.log("INFO", [elapsed(name, then), ...host.inspectAll(values)]);
    },
    timeEnd(value) {
      const name = label(value);
      const then = timers.get(name);
      timers.delete(name);
      if (then === undefined) unknown(name);
      else host.log("INFO", [elapsed(name, then)]);
    },
  };

  const console = Object.assign(Object.create({}), methods);
  Object.defineProperty(console, Symbol.toStringTag, { value: "console", configurable: true });
  return { console, forgetTimers: () => timers.clear() };
});

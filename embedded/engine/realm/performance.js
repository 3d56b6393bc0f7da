/* The clock of `performance` and the User Timing marks, for functions. Gives the globals. */
(function makePerformance(shared) {
  "use strict";

  const key = Symbol("constructor");

  class PerformanceEntry {
    constructor(given, name, entryType, startTime, duration, detail) {
      if (given !== key) throw new TypeError("Illegal constructor");
      Object.assign(this, { name, entryType, startTime, duration, detail });
    }
    toJSON() {
      return { ...this };
    }
  }

  class PerformanceMark extends PerformanceEntry {
    constructor(name, { detail = null, startTime = shared.performanceNow() } = {}) {
      if (startTime < 0) throw new TypeError(`'${startTime}' is not a valid timestamp.`);
      super(key, String(name), "mark", startTime, 0, shared.structuredClone(detail));
    }
  }

  class PerformanceMeasure extends PerformanceEntry {
    constructor(given, name, startTime, duration, detail) {
      super(given, name, "measure", startTime, duration, detail);
    }
  }

  class Performance extends shared.EventTarget {
    /** @type {PerformanceEntry[]} */
    #entries = [];
    constructor(given) {
      if (given !== key) throw new TypeError("Illegal constructor");
      super();
    }
    get timeOrigin() {
      return shared.timeOrigin();
    }
    now() {
      return shared.performanceNow();
    }
    toJSON() {
      return { timeOrigin: this.timeOrigin };
    }
    mark(name, options) {
      const mark = new PerformanceMark(name, options);
      this.#entries.push(mark);
      return mark;
    }
    measure(name, startOrOptions = {}, endMark = undefined) {
      const options = typeof startOrOptions === "object" ? startOrOptions : { start: startOrOptions };
      const end = this.#time(options.end ?? endMark) ?? this.now();
      const start =
        this.#time(options.start) ?? (options.duration === undefined ? 0 : end - options.duration);
      const duration = options.duration ?? end - start;
      const measure = new PerformanceMeasure(key, String(name), start, duration, options.detail ?? null);
      this.#entries.push(measure);
      return measure;
    }
    #time(mark) {
      if (mark === undefined || typeof mark === "number") return mark;
      const found = this.#entries.findLast((one) => one.name === String(mark) && one.entryType === "mark");
      if (found === undefined) {
        throw new shared.DOMException(`Cannot find mark: "${String(mark)}".`, "SyntaxError");
      }
      return found.startTime;
    }
    clearMarks(name) {
      this.#clear("mark", name);
    }
    clearMeasures(name) {
      this.#clear("measure", name);
    }
    #clear(type, name) {
      this.#entries = this.#entries.filter(
        (one) => one.entryType !== type || (name !== undefined && one.name !== name),
      );
    }
    clearResourceTimings() {}
    setResourceTimingBufferSize() {}
    getEntries() {
      return [...this.#entries].sort((a, b) => a.startTime - b.startTime);
    }
    getEntriesByType(type) {
      return this.getEntries().filter((one) => one.entryType === type);
    }
    getEntriesByName(name, type) {
      return this.getEntries().filter(
        (one) => one.name === name && (type === undefined || one.entryType === type),
      );
    }
  }

  return {
    Performance,
    PerformanceEntry,
    PerformanceMark,
    PerformanceMeasure,
    performance: new Performance(key),
  };
});

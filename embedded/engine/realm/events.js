/* Events and abort signals, all of them objects of the functions' own realm. Gives the globals. */
(function events(shared) {
  "use strict";

  class Event {
    #type;
    #options;
    #stopped = false;
    #prevented = false;
    /** @type {object | null} */
    target = null;
    /** @type {object | null} */
    currentTarget = null;
    timeStamp = 0;
    constructor(type, { bubbles = false, cancelable = false, composed = false } = {}) {
      if (arguments.length === 0) {
        throw new TypeError("Failed to construct 'Event': 1 argument required, but only 0 present.");
      }
      this.#type = String(type);
      this.#options = { bubbles, cancelable, composed };
    }
    get type() {
      return this.#type;
    }
    get bubbles() {
      return this.#options.bubbles;
    }
    get cancelable() {
      return this.#options.cancelable;
    }
    get composed() {
      return this.#options.composed;
    }
    get defaultPrevented() {
      return this.#prevented;
    }
    get [Symbol.toStringTag]() {
      return "Event";
    }
    preventDefault() {
      if (this.cancelable) this.#prevented = true;
    }
    stopPropagation() {}
    stopImmediatePropagation() {
      this.#stopped = true;
    }
    static isStopped(event) {
      return event.#stopped;
    }
  }
  const { isStopped } = Event;
  delete Event.isStopped;

  class EventTarget {
    /** @type {Map<string, { callback: any, capture: boolean, once: boolean }[]>} */
    #listeners = new Map();
    get [Symbol.toStringTag]() {
      return "EventTarget";
    }
    addEventListener(type, callback, options) {
      if (callback === null || callback === undefined) return;
      const { capture = false, once = false, signal } = listenerOptions(options);
      if (signal?.aborted) return;
      const listeners = this.#listeners.get(String(type)) ?? [];
      if (listeners.some((one) => one.callback === callback && one.capture === capture)) return;
      this.#listeners.set(String(type), [...listeners, { callback, capture, once }]);
      signal?.addEventListener("abort", () => this.removeEventListener(type, callback, { capture }));
    }
    removeEventListener(type, callback, options) {
      const { capture = false } = listenerOptions(options);
      const listeners = this.#listeners.get(String(type)) ?? [];
      this.#listeners.set(
        String(type),
        listeners.filter((one) => one.callback !== callback || one.capture !== capture),
      );
    }
    dispatchEvent(event) {
      event.target = event.currentTarget = this;
      for (const listener of this.#listeners.get(event.type) ?? []) {
        if (listener.once) this.removeEventListener(event.type, listener.callback, listener);
        if (typeof listener.callback === "function") listener.callback.call(this, event);
        else listener.callback.handleEvent(event);
        if (isStopped(event)) break;
      }
      event.currentTarget = null;
      return !event.defaultPrevented;
    }
  }

  function listenerOptions(options) {
    return typeof options === "object" && options !== null ? options : { capture: Boolean(options) };
  }

  const key = Symbol("constructor");

  class AbortSignal extends EventTarget {
    aborted = false;
    /** @type {unknown} */
    reason = undefined;
    /** @type {((event: Event) => unknown) | null} */
    onabort = null;
    constructor(given) {
      if (given !== key) throw new TypeError("Illegal constructor");
      super();
    }
    get [Symbol.toStringTag]() {
      return "AbortSignal";
    }
    throwIfAborted() {
      if (this.aborted) throw this.reason;
    }
    static abort(reason) {
      const controller = new AbortController();
      controller.abort(reason);
      return controller.signal;
    }
    static any(signals) {
      const controller = new AbortController();
      for (const signal of signals) {
        if (signal.aborted) controller.abort(signal.reason);
        else signal.addEventListener("abort", () => controller.abort(signal.reason), { once: true });
      }
      return controller.signal;
    }
    static timeout(ms) {
      const controller = new AbortController();
      globalThis.setTimeout(() => {
        controller.abort(new shared.DOMException("TimeoutError", "TimeoutError"));
      }, ms);
      return controller.signal;
    }
  }

  class AbortController {
    signal = new AbortSignal(key);
    get [Symbol.toStringTag]() {
      return "AbortController";
    }
    abort(reason = new shared.DOMException("This operation was aborted", "AbortError")) {
      const { signal } = this;
      if (signal.aborted) return;
      signal.aborted = true;
      signal.reason = reason;
      const event = new Event("abort");
      signal.onabort?.(event);
      signal.dispatchEvent(event);
    }
  }

  return { AbortController, AbortSignal, Event, EventTarget };
});

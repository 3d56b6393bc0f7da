/* Events and abort signals, all of them objects of the functions' own realm. Gives the globals. */
(function events(shared) {
  "use strict";

  const isTrusted = () => false;

  class Event {
    #type;
    #options;
    #stopped = false;
    #cancelBubble = false;
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
      Object.defineProperty(this, "isTrusted", { enumerable: true, get: isTrusted });
    }
    get srcElement() {
      return null;
    }
    get eventPhase() {
      return this.currentTarget === null ? 0 : 2; // a target has no parents here
    }
    get cancelBubble() {
      return this.#cancelBubble;
    }
    set cancelBubble(value) {
      this.#cancelBubble = Boolean(value);
    }
    get returnValue() {
      return !this.#prevented;
    }
    set returnValue(value) {
      if (!value) this.#prevented = true;
    }
    composedPath() {
      return this.currentTarget === null ? [] : [this.currentTarget];
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
    stopPropagation() {
      this.#cancelBubble = true;
    }
    stopImmediatePropagation() {
      this.#cancelBubble = true;
      this.#stopped = true;
    }
    static isStopped(event) {
      return event.#stopped;
    }
  }
  const { isStopped } = Event;
  delete Event.isStopped;
  for (const [phase, name] of ["NONE", "CAPTURING_PHASE", "AT_TARGET", "BUBBLING_PHASE"].entries()) {
    Object.defineProperty(Event, name, { get: () => phase, configurable: true });
  }

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

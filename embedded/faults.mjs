/**
 * Disturbs the way between clients and the host, by chance that can be repeated: answers come late or not at all, requests are lost,
 * sockets are cut. What the host does for a request it does whole or not at all; only its clients have to cope.
 */

import { seededRandom } from "./random.mjs";

/**
 * @typedef {object} FaultSettings  a rate is a share from 0 to 1
 * @property {number} delay  ms that each answer and each WebSocket frame to a client waits
 * @property {number} drop  of HTTP requests and of frames from clients: half of these are lost before they have an effect, of the others the
 *   answer is lost after it; either way the connection is cut
 * @property {number} disconnect  of WebSocket frames to clients, in whose place the socket ends, half of the time with a close frame
 * @property {number} seed
 */

/** @type {Readonly<FaultSettings>} */
export const NO_FAULTS = Object.freeze({ delay: 0, drop: 0, disconnect: 0, seed: 1 });

const MAX_DELAY_MS = 60_000;
const MAX_SEED = 999_999_999;
const SERVICE_RESTART = 1012;
/** Answered as ever, so that a disturbed host can be watched and calmed. */
const EXEMPT = /^\/($|version$|instance_name$|instance_version$|metrics$|api\/host\/)/;

/** @typedef {{ delayed: number, requests: number, answers: number, disconnects: number }} FaultCounts  what was done so far */

/** Settings that make no sense; the message is one line. */
export class FaultError extends Error {}

/**
 * @param {Record<string, unknown>} given
 * @returns {FaultSettings} with nothing disturbed that is not named
 * @throws {FaultError}
 */
export function readFaults(given) {
  const settings = { ...NO_FAULTS };
  for (const [name, value] of Object.entries(given)) {
    switch (name) {
      case "delay":
        settings.delay = readNumber(name, value, MAX_DELAY_MS, "ms");
        break;
      case "drop":
      case "disconnect":
        settings[name] = readNumber(name, value, 1, "a share");
        break;
      case "seed":
        if (!Number.isInteger(value))
          throw new FaultError(`seed must be a whole number from 0 to ${MAX_SEED}`);
        settings.seed = readNumber(name, value, MAX_SEED, "a whole number");
        break;
      default:
        throw new FaultError(`there is no fault '${name}': take delay, drop, disconnect and seed`);
    }
  }
  return settings;
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {number} most
 * @param {string} what
 */
function readNumber(name, value, most, what) {
  if (typeof value === "number" && value >= 0 && value <= most) return value;
  throw new FaultError(`${name} must be ${what} from 0 to ${most}`);
}

/**
 * @param {string} text  such as "delay=20,drop=0.01,disconnect=0.005,seed=7"
 * @returns {FaultSettings}
 * @throws {FaultError}
 */
export function parseFaults(text) {
  const parts = text.split(",").map((part) => {
    const [, name = part, number] = /^([a-z]+)=(\d+|\d*\.\d+)$/.exec(part) ?? [];
    return [name, number === undefined ? null : Number(number)];
  });
  return readFaults(Object.fromEntries(parts));
}

export class Faults {
  /** @param {FaultSettings} settings */
  constructor(settings = NO_FAULTS) {
    this.#settings = settings;
    this.#random = seededRandom(settings.seed);
  }

  #settings;
  #random;
  /** @type {FaultCounts} */
  counts = { delayed: 0, requests: 0, answers: 0, disconnects: 0 };

  get settings() {
    return this.#settings;
  }

  /** Change what is disturbed from now on; chance begins anew with the seed. @param {FaultSettings} settings */
  set(settings) {
    this.#settings = settings;
    this.#random = seededRandom(settings.seed);
  }

  /**
   * Disturb one HTTP request, or let it pass.
   *
   * @param {import("node:http").IncomingMessage} request
   * @param {import("node:http").ServerResponse} response
   * @param {{ exempt?: boolean }} [options]  exempt: spare what operators look at
   * @returns {boolean} whether it is lost and must not be served
   */
  loses(request, response, { exempt = false } = {}) {
    const { delay } = this.#settings;
    if (exempt && EXEMPT.test((request.url ?? "/").split("?", 1)[0] ?? "")) return false;
    const fate = this.#fate();
    if (fate === "request") {
      request.socket.destroy();
      return true;
    }
    if (fate === "answer") {
      const cut = () => {
        request.socket.destroy();
        return response;
      };
      Object.assign(response, { writeHead: () => response, write: () => cut() && false, end: cut });
    } else if (delay > 0) {
      const end = response.end.bind(response);
      this.counts.delayed += 1;
      Object.assign(response, {
        end: (/** @type {any[]} */ ...args) => {
          setTimeout(() => /** @type {any} */ (end)(...args), delay);
          return response;
        },
      });
    }
    return false;
  }

  /**
   * Disturb a WebSocket from here on.
   *
   * @param {import("ws").WebSocket} socket  without listeners yet
   * @returns {import("ws").WebSocket} the same
   */
  disturb(socket) {
    const on = socket.on.bind(socket);
    const send = /** @type {(data: any, callback: any) => void} */ (socket.send.bind(socket));
    let losesNext = false;
    /** Frames that wait, in their order: none overtakes the one before when the delay shrinks. @type {{ data: unknown, callback: any, at: number }[]} */
    const waiting = [];
    const flush = () => {
      const now = performance.now();
      for (let first = waiting[0]; first !== undefined && first.at <= now; first = waiting[0]) {
        waiting.shift();
        send(first.data, first.callback);
      }
      if (waiting[0] !== undefined) setTimeout(flush, waiting[0].at - now);
    };
    const hear =
      (/** @type {(...args: any[]) => void} */ listener) =>
      (/** @type {any[]} */ ...args) => {
        const fate = this.#fate();
        if (fate === "request") return socket.terminate();
        losesNext ||= fate === "answer";
        listener(...args);
      };
    const speak = (/** @type {unknown} */ data, /** @type {(error?: Error) => void} */ callback) => {
      if (losesNext) return socket.terminate();
      if (this.#chance(this.#settings.disconnect)) {
        this.counts.disconnects += 1;
        if (this.#random() < 0.5) return socket.terminate();
        return socket.close(SERVICE_RESTART, "FaultInjected: the host was told to disconnect now and then");
      }
      const { delay } = this.#settings;
      if (delay === 0 && waiting.length === 0) return send(data, callback);
      this.counts.delayed += 1;
      waiting.push({ data, callback, at: performance.now() + delay });
      if (waiting.length === 1) setTimeout(flush, delay);
    };
    Object.assign(socket, {
      on: (/** @type {string} */ event, /** @type {any} */ listener) =>
        on(event, event === "message" ? hear(listener) : listener),
      send: speak,
    });
    return socket;
  }

  /** @returns {"request" | "answer" | null} what of a request and its answer is lost */
  #fate() {
    if (!this.#chance(this.#settings.drop)) return null;
    const fate = this.#random() < 0.5 ? "request" : "answer";
    this.counts[`${fate}s`] += 1;
    return fate;
  }

  /** @param {number} rate */
  #chance(rate) {
    return rate > 0 && this.#random() < rate;
  }
}

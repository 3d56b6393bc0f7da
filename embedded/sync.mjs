/// <reference path="./sync/ws.d.ts" />
/** Serves the sync protocol on WebSockets: upgrades, heartbeats, bounded buffers and orderly ends. */

import { clientVersion, clientVersionInPath, deprecation, takesChunks } from "./http/client-version.mjs";
import { endBare, HttpError } from "./http/errors.mjs";
import { STATUS_CODES } from "./http/node-http.mjs";
import { PING } from "./sync/messages.mjs";
import { clientOf } from "./request-context.mjs";
import { Session } from "./sync/session.mjs";

/**
 * @typedef {object} Limits
 * @property {number} pingMs  the Python client drops a link that was silent for 30 s
 * @property {number} probeMs
 * @property {number} silenceMs  after which a client is gone, or never reads
 * @property {number} checkMs
 * @property {number} cutOffBytes  a client that has more than this unread is lost rather than slow
 */

/** @type {Limits} */
const LIMITS = {
  pingMs: 15_000,
  probeMs: 30_000,
  silenceMs: 120_000,
  checkMs: 5_000,
  cutOffBytes: 256 * 1024 * 1024, // the largest results of all mutations that run for it at once stay below
};

const MAX_FRAME_BYTES = 20 * 1024 * 1024; // arguments may have 16 MiB, and JSON text is longer than the value
const HIGH_WATER_BYTES = 8 * 1024 * 1024; // above this the client must read before more of it is read
const CLOSE_GRACE_MS = 1_000; // when the host stops
const CLOSE_LIMIT_MS = 5_000; // for a client to take part in the closing handshake

const POLICY_VIOLATION = 1008;
const INTERNAL_ERROR = 1011;
const SERVICE_RESTART = 1012;
const TRANSITION = '{"type":"Transition"'; // how one begins that is sent whole
const MAX_REASON_BYTES = 123;

const PATH = /^\/(?:sync|api\/sync|api\/([^/]+)\/sync)$/;

/**
 * @typedef {import("./sync/session.mjs").Host} Host
 * @typedef {object} Connection  times in ms
 * @property {import("ws").WebSocket} socket
 * @property {Session} session
 * @property {boolean} held  the session has enough to read
 * @property {number} sentAt
 * @property {number} heardAt
 */

export class SyncServer {
  /**
   * @param {Host & { engine: { onBatch: (listener: () => void) => void } }} host
   * @param {(line: string) => void} log
   * @param {import("./faults.mjs").Faults} faults
   * @param {Partial<Limits>} [limits]
   */
  constructor(host, log, faults, limits = {}) {
    this.#host = host;
    this.#faults = faults;
    this.#log = log;
    this.#limits = { ...LIMITS, ...limits };
    host.engine.onBatch(() => {
      for (const { session } of this.#connections) session.flush();
    });
    this.#timer = setInterval(() => this.#check(performance.now()), this.#limits.checkMs);
    this.#timer.unref();
  }

  #transitions = 0;
  /** @type {Host} */
  #host;
  #faults;
  /** @type {(line: string) => void} */
  #log;
  /** @type {Limits} */
  #limits;
  /** @type {NodeJS.Timeout} */
  #timer;
  /** @type {Set<Connection>} */
  #connections = new Set();
  /** Made for the first socket. @type {Promise<import("ws").WebSocketServer> | null} */
  #sockets = null;

  /** For the metrics. */
  get counts() {
    return { sockets: this.#connections.size, transitions: this.#transitions };
  }

  /**
   * The `upgrade` listener of the API's server.
   *
   * @param {import("node:http").IncomingMessage} request
   * @param {import("node:stream").Duplex} stream
   * @param {Buffer} head
   */
  upgrade(request, stream, head) {
    stream.on("error", () => stream.destroy()); // a client that goes away before it is answered
    try {
      const client = { splits: takesChunks(checkedClient(request)), ...clientOf(request) };
      this.#sockets ??= makeSocketServer();
      void this.#sockets.then((sockets) =>
        sockets.handleUpgrade(request, stream, head, (socket) =>
          this.#accept(this.#faults.disturb(socket), client),
        ),
      );
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      endBare(stream, `${error.status} ${STATUS_CODES[error.status]}`, error.code, error.message);
    }
  }

  /**
   * Close every socket with a reason, and end those that do not answer in time.
   *
   * @returns {Promise<void>}
   */
  async close() {
    clearInterval(this.#timer);
    const closed = [...this.#connections].map(
      ({ socket }) => new Promise((resolve) => socket.once("close", resolve)),
    );
    for (const { socket } of this.#connections)
      socket.close(SERVICE_RESTART, "ServerShuttingDown: the host stops");
    await Promise.race([
      Promise.all(closed),
      new Promise((resolve) => setTimeout(resolve, CLOSE_GRACE_MS).unref()),
    ]);
    for (const { socket } of this.#connections) socket.terminate();
  }

  /**
   * @param {import("ws").WebSocket} socket
   * @param {{ splits: boolean, ip: string | null, userAgent: string | null }} client
   */
  #accept(socket, client) {
    const session = new Session(
      this.#host,
      {
        send: (text, onSent) => this.#send(connection, text, onSent),
        isFull: () => socket.bufferedAmount >= HIGH_WATER_BYTES,
        hold: (held) => this.#hold(connection, held),
        end: ({ message, code, lastMessage }) => {
          if (lastMessage !== undefined) socket.send(lastMessage, () => {});
          if (code === undefined) socket.close();
          else socket.close(code, shortReason(message));
        },
        fail: (error) => this.#fail(connection, error),
      },
      client,
    );
    const now = performance.now();
    /** @type {Connection} */
    const connection = { socket, session, held: false, sentAt: now, heardAt: now };
    this.#connections.add(connection);
    socket.on("message", (/** @type {Buffer} */ data, /** @type {boolean} */ isBinary) => {
      connection.heardAt = performance.now();
      if (isBinary) session.refuse("frames must be text");
      else this.#receive(connection, data.toString("utf8"));
    });
    socket.on("pong", () => (connection.heardAt = performance.now()));
    socket.on("error", (/** @type {Error} */ error) => this.#log(`socket closed: ${error.message}`));
    socket.on("close", () => {
      this.#connections.delete(connection);
      session.close();
    });
  }

  /**
   * @param {Connection} connection
   * @param {string} text
   */
  #receive(connection, text) {
    try {
      connection.session.receive(text);
    } catch (error) {
      this.#fail(connection, error);
    }
  }

  /**
   * @param {Connection} connection
   * @param {unknown} error  a fault of the host
   */
  #fail({ session, socket }, error) {
    const said = error instanceof Error ? error.stack?.replaceAll("\n", " | ") : String(error);
    this.#log(`socket closed by a fault of the host: ${said}`);
    session.close();
    socket.close(INTERNAL_ERROR, "InternalServerError: see the host's log");
  }

  /**
   * @param {Connection} connection
   * @param {boolean} held
   */
  #hold(connection, held) {
    connection.held = held;
    if (held) connection.socket.pause();
    else resumeIfRead(connection);
  }

  /**
   * @param {Connection} connection
   * @param {string} text
   * @param {() => void} onSent
   */
  #send(connection, text, onSent) {
    const { socket } = connection;
    const { cutOffBytes } = this.#limits;
    if (socket.bufferedAmount > cutOffBytes) {
      this.#cutOff(connection, `ClientTooSlow: it has more than ${cutOffBytes} bytes unread`);
      return;
    }
    connection.sentAt = performance.now();
    if (text.startsWith(TRANSITION)) this.#transitions += 1;
    socket.send(text, () => {
      if (socket.isPaused) connection.heardAt = performance.now(); // it reads, but what it says is not read
      resumeIfRead(connection);
      onSent();
      connection.session.wake();
    });
    if (socket.bufferedAmount >= HIGH_WATER_BYTES) socket.pause();
  }

  /**
   * @param {Connection} connection
   * @param {string} reason
   */
  #cutOff({ session, socket }, reason) {
    this.#log(`socket closed: ${reason}`);
    session.close();
    socket.close(POLICY_VIOLATION, shortReason(reason));
    socket.terminate(); // it would not take part in a closing handshake
  }

  /** @param {number} now */
  #check(now) {
    for (const connection of this.#connections) {
      const { socket, sentAt, heardAt } = connection;
      if (now - heardAt >= this.#limits.silenceMs) {
        this.#cutOff(connection, `ClientSilent: nothing was heard for ${this.#limits.silenceMs / 1000} s`);
        continue;
      }
      if (now - heardAt >= this.#limits.probeMs) socket.ping();
      if (now - sentAt >= this.#limits.pingMs) this.#send(connection, PING, () => {});
    }
  }
}

/** The module brings TLS and an HTTPS client along, a tenth of the host's start: it is not loaded before somebody needs it. */
async function makeSocketServer() {
  const { WebSocketServer } = await import("ws");
  return new WebSocketServer({
    noServer: true,
    maxPayload: MAX_FRAME_BYTES,
    perMessageDeflate: false,
    closeTimeout: CLOSE_LIMIT_MS,
  });
}

/**
 * @param {import("node:http").IncomingMessage} request
 * @returns {import("./http/client-version.mjs").ClientVersion}
 * @throws {HttpError} for what Convex refuses before the socket is there
 */
function checkedClient({ url = "", headers }) {
  const match = PATH.exec(url.split("?", 1)[0] ?? "");
  if (match === null)
    throw new HttpError(404, "NotFound", "The sync protocol is served on /api/sync and /api/VERSION/sync");
  const [, version] = match;
  const header = headers["convex-client"]?.toString();
  const client =
    header === undefined && version !== undefined ? clientVersionInPath(version) : clientVersion(header);
  const notice = deprecation(client);
  if (notice?.state === "Unsupported") throw new HttpError(400, "ClientVersionUnsupported", notice.message);
  return client;
}

/** @param {Connection} connection */
function resumeIfRead({ socket, held }) {
  if (!held && socket.isPaused && socket.bufferedAmount < HIGH_WATER_BYTES) socket.resume();
}

/** @param {string} reason */
function shortReason(reason) {
  return Buffer.from(reason)
    .subarray(0, MAX_REASON_BYTES)
    .toString("utf8")
    .replace(/\uFFFD$/, "");
}

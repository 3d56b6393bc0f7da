/// <reference path="./sync/ws.d.ts" />
/** Serves the sync protocol on WebSockets: upgrades, heartbeats, bounded buffers and orderly ends. */

import { WebSocketServer } from "ws";
import { PING } from "./sync/messages.mjs";
import { Session } from "./sync/session.mjs";

const MAX_FRAME_BYTES = 20 * 1024 * 1024; // arguments may have 16 MiB, and JSON text is longer than the value
const PING_AFTER_MS = 15_000; // the Python client drops a link that was silent for 30 s
const PROBE_AFTER_MS = 30_000;
const SILENCE_LIMIT_MS = 120_000; // a client that is gone, or never reads
const CHECK_MS = 5_000;
const HIGH_WATER_BYTES = 8 * 1024 * 1024; // above this the client must read before more of it is read
const CLOSE_GRACE_MS = 1_000;

const POLICY_VIOLATION = 1008;
const INTERNAL_ERROR = 1011;
const SERVICE_RESTART = 1012;
const MAX_REASON_BYTES = 123;

const PLAIN_PATH = /^\/(api\/)?sync$/;
const VERSIONED_PATH = /^\/api\/\d+\.\d+\.\d+[^/]*\/sync$/; // npm clients

/**
 * @typedef {import("./sync/session.mjs").Host} Host
 * @typedef {{ socket: import("ws").WebSocket, session: Session, sentAt: number, heardAt: number }} Connection  times in ms
 */

export class SyncServer {
  /**
   * @param {Host & { engine: { onBatch: (listener: () => void) => void } }} host
   * @param {(line: string) => void} log
   */
  constructor(host, log) {
    this.#host = host;
    this.#log = log;
    host.engine.onBatch(() => {
      for (const { session } of this.#connections) session.flush();
    });
    this.#timer = setInterval(() => this.#check(performance.now()), CHECK_MS);
    this.#timer.unref();
  }

  /** @type {Host} */
  #host;
  /** @type {(line: string) => void} */
  #log;
  /** @type {NodeJS.Timeout} */
  #timer;
  /** @type {Set<Connection>} */
  #connections = new Set();
  #sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_FRAME_BYTES, perMessageDeflate: false });

  /**
   * The `upgrade` listener of the API's server.
   *
   * @param {import("node:http").IncomingMessage} request
   * @param {import("node:stream").Duplex} stream
   * @param {Buffer} head
   */
  upgrade(request, stream, head) {
    stream.on("error", () => stream.destroy()); // a client that goes away before it is answered
    const [path = ""] = (request.url ?? "").split("?");
    const splits = VERSIONED_PATH.test(path);
    if (!splits && !PLAIN_PATH.test(path)) {
      const body = JSON.stringify({
        code: "NotFound",
        message: "The sync protocol is served on /api/sync and /api/VERSION/sync",
      });
      stream.end(
        `HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      );
      return;
    }
    this.#sockets.handleUpgrade(request, stream, head, (socket) => this.#accept(socket, splits));
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
   * @param {boolean} splits
   */
  #accept(socket, splits) {
    const session = new Session(
      this.#host,
      {
        send: (text, onSent) => this.#send(connection, text, onSent),
        close: (reason) => socket.close(POLICY_VIOLATION, shortReason(reason)),
      },
      { splits },
    );
    const now = performance.now();
    /** @type {Connection} */
    const connection = { socket, session, sentAt: now, heardAt: now };
    this.#connections.add(connection);
    socket.on("message", (/** @type {Buffer} */ data, /** @type {boolean} */ isBinary) => {
      connection.heardAt = performance.now();
      if (isBinary) socket.close(POLICY_VIOLATION, "InvalidMessage: frames must be text");
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
  #receive({ session, socket }, text) {
    try {
      session.receive(text);
    } catch (error) {
      this.#log(`socket closed by a fault of the host: ${/** @type {Error} */ (error).stack}`);
      socket.close(INTERNAL_ERROR, "InternalServerError: see the host's log");
    }
  }

  /**
   * @param {Connection} connection
   * @param {string} text
   * @param {() => void} onSent
   */
  #send(connection, text, onSent) {
    const { socket } = connection;
    connection.sentAt = performance.now();
    socket.send(text, () => {
      if (socket.isPaused && socket.bufferedAmount < HIGH_WATER_BYTES) socket.resume();
      onSent();
    });
    if (socket.bufferedAmount >= HIGH_WATER_BYTES) socket.pause();
  }

  /** @param {number} now */
  #check(now) {
    for (const connection of this.#connections) {
      const { socket, sentAt, heardAt } = connection;
      if (now - heardAt >= SILENCE_LIMIT_MS) {
        socket.close(POLICY_VIOLATION, "ClientSilent: nothing was heard for 120 s");
        socket.terminate();
        continue;
      }
      if (now - heardAt >= PROBE_AFTER_MS) socket.ping();
      if (now - sentAt >= PING_AFTER_MS) this.#send(connection, PING, () => {});
    }
  }
}

/** @param {string} reason */
function shortReason(reason) {
  return Buffer.from(reason)
    .subarray(0, MAX_REASON_BYTES)
    .toString("utf8")
    .replace(/\uFFFD$/, "");
}

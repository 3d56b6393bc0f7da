/**
 * The sync protocol's state for one socket, apart from the socket.
 *
 * The client holds a version (query set, identity, timestamp) and moves only by Transitions, each from exactly the version it holds.
 * A session gathers what has changed and sends one Transition for all of it: after a batch of the engine, never inside of one, never
 * while an asked query has no first result, and never while the client has two Transitions that it has not taken off the socket.
 */

import { hash, randomUUID } from "node:crypto";
import { ANONYMOUS, AuthError } from "../auth.mjs";
import { canonicalPath } from "../paths.mjs";
import * as messages from "./messages.mjs";
import { decodeTs } from "./timestamps.mjs";

const { ProtocolError, readArgs, readCount, readText } = messages;

export const MAX_QUERIES = 10_000;
export const MAX_IN_FLIGHT = 1_000; // mutations and actions without an answer
const MAX_UNSENT_TRANSITIONS = 2; // one on the way and one behind it; more would only be stale
const CHUNK_CHARS = 5_000_000; // the size at which Convex splits

/**
 * @typedef {import("../auth.mjs").Caller} Caller
 * @typedef {import("../engine-client.mjs").Reply} Reply
 * @typedef {object} Socket
 * @property {(text: string, onSent: () => void) => void} send
 * @property {(reason: string) => void} close  for a client that broke the protocol
 * @typedef {object} Host  what a session needs of the host
 * @property {Pick<import("../engine-client.mjs").EngineClient, "ts" | "subscribe" | "unsubscribe">} engine
 * @property {Pick<import("../calls.mjs").Calls, "run">} calls
 * @property {import("../auth.mjs").Authenticator} authenticator
 * @typedef {object} Query
 * @property {string} path
 * @property {string} args
 * @property {string | null} journal
 * @property {number} sub
 * @property {boolean} answered
 * @property {string} fingerprint  of the result that the client has
 */

export class Session {
  /**
   * @param {Host} host
   * @param {Socket} socket
   * @param {{ splits: boolean }} client  splits: it puts TransitionChunks together
   */
  constructor(host, socket, { splits }) {
    this.#host = host;
    this.#socket = socket;
    this.#splits = splits;
  }

  /** @type {Host} */
  #host;
  /** @type {Socket} */
  #socket;
  /** @type {boolean} */
  #splits;
  #closed = false;
  #sessionId = "";
  /** @type {Caller} */
  #caller = ANONYMOUS;
  /** The version the client will hold once it has read what was sent. @type {messages.Version} */
  #version = { querySet: 0, identity: 0, ts: "0" };
  /** What the client has asked for. */
  #asked = { querySet: 0, identity: 0 };
  /** @type {Map<number, Query>} */
  #queries = new Map();
  /** Results that the client does not have. @type {Map<number, Reply>} */
  #changed = new Map();
  /** @type {number[]} */
  #removed = [];
  #owesTransition = false;
  #awaited = 0;
  #unsent = 0;
  #inFlight = 0;

  /** @param {string} text  one frame of the client */
  receive(text) {
    if (this.#closed) return;
    try {
      this.#handle(messages.parseMessage(text));
      this.flush();
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.close();
      this.#socket.close(error.message);
    }
  }

  /** Forget everything: the socket is gone. */
  close() {
    this.#closed = true;
    for (const { sub } of this.#queries.values()) this.#host.engine.unsubscribe(sub);
    this.#queries.clear();
    this.#changed.clear();
  }

  /** Send a Transition if one is owed and may be sent. Must not be called inside a batch of the engine. */
  flush() {
    if (this.#closed || !this.#owesTransition || this.#awaited > 0 || this.#unsent >= MAX_UNSENT_TRANSITIONS)
      return;
    const end = { ...this.#asked, ts: this.#host.engine.ts };
    const modifications = [...this.#removed.map(messages.queryRemoved), ...this.#takeChanged()];
    const text = messages.transition(this.#version, end, modifications);
    this.#version = end;
    this.#removed = [];
    this.#owesTransition = false;
    this.#unsent += 1;
    const onSent = () => {
      this.#unsent -= 1;
      this.flush();
    };
    const frames =
      this.#splits && text.length > CHUNK_CHARS ? messages.chunks(text, randomUUID(), CHUNK_CHARS) : [text];
    for (const [index, frame] of frames.entries())
      this.#socket.send(frame, index === frames.length - 1 ? onSent : () => {});
  }

  /** @returns {string[]} modifications for the results that differ from what the client has */
  #takeChanged() {
    const modifications = [];
    for (const [queryId, reply] of this.#changed) {
      const query = this.#queries.get(queryId);
      const fingerprint = hash(
        "sha1",
        JSON.stringify([reply.ok, reply.ok ? reply.value : reply.message, reply.logLines]),
      );
      if (query === undefined || query.fingerprint === fingerprint) continue;
      query.fingerprint = fingerprint;
      modifications.push(messages.queryModification(queryId, reply));
    }
    this.#changed.clear();
    return modifications;
  }

  /** @param {Record<string, unknown>} message */
  #handle(message) {
    if (this.#sessionId === "" && message.type !== "Connect") {
      throw new ProtocolError("InvalidMessage: the first message must be Connect");
    }
    switch (message.type) {
      case "Connect":
        return this.#connect(message);
      case "ModifyQuerySet":
        return this.#modifyQuerySet(message);
      case "Mutation":
        return this.#call("mutation", "MutationResponse", message);
      case "Action":
        return this.#call("action", "ActionResponse", message);
      case "Authenticate":
        return this.#authenticate(message);
      case "Event":
        return; // telemetry of the client
      default:
        throw new ProtocolError(`InvalidMessage: unknown type ${JSON.stringify(message.type).slice(0, 40)}`);
    }
  }

  /** @param {Record<string, unknown>} message */
  #connect(message) {
    if (this.#sessionId !== "") throw new ProtocolError("InvalidMessage: Connect came twice");
    const { maxObservedTimestamp } = message;
    if (maxObservedTimestamp !== undefined && maxObservedTimestamp !== null) {
      const observed = decodeTs(maxObservedTimestamp);
      if (observed === null) throw new ProtocolError("InvalidMessage: maxObservedTimestamp is no timestamp");
      if (observed > BigInt(this.#host.engine.ts)) {
        throw new ProtocolError("ClientAheadOfServer: the client has seen data that this host does not have");
      }
    }
    this.#sessionId = readText(message, "sessionId");
  }

  /** @param {Record<string, unknown>} message */
  #modifyQuerySet(message) {
    const baseVersion = readCount(message, "baseVersion");
    const newVersion = readCount(message, "newVersion");
    if (baseVersion !== this.#asked.querySet || newVersion <= baseVersion) {
      throw new ProtocolError(
        `BaseVersionMismatch: the query set is at version ${this.#asked.querySet}, not ${baseVersion}`,
      );
    }
    if (!Array.isArray(message.modifications))
      throw new ProtocolError("InvalidMessage: modifications must be an array");
    this.#asked.querySet = newVersion;
    this.#owesTransition = true;
    for (const modification of message.modifications) {
      if (typeof modification !== "object" || modification === null)
        throw new ProtocolError("InvalidMessage: a modification must be an object");
      const queryId = readCount(modification, "queryId");
      if (modification.type === "Add") this.#addQuery(queryId, modification);
      else if (modification.type === "Remove") this.#removeQuery(queryId);
      else throw new ProtocolError("InvalidMessage: a modification must be Add or Remove");
    }
  }

  /**
   * @param {number} queryId
   * @param {Record<string, unknown>} message
   */
  #addQuery(queryId, message) {
    if (this.#queries.has(queryId))
      throw new ProtocolError(`InvalidMessage: query ${queryId} is there already`);
    if (this.#queries.size >= MAX_QUERIES)
      throw new ProtocolError(`TooManyQueries: at most ${MAX_QUERIES} on one socket`);
    const query = {
      path: canonicalPath(readText(message, "udfPath")),
      args: readArgs(message),
      journal: typeof message.journal === "string" ? message.journal : null,
      sub: 0,
      answered: true,
      fingerprint: "",
    };
    this.#queries.set(queryId, query);
    this.#subscribe(queryId, query);
  }

  /** @param {number} queryId */
  #removeQuery(queryId) {
    const query = this.#queries.get(queryId);
    if (query === undefined) throw new ProtocolError(`InvalidMessage: query ${queryId} is not there`);
    if (!query.answered) this.#awaited -= 1;
    this.#host.engine.unsubscribe(query.sub);
    this.#queries.delete(queryId);
    this.#changed.delete(queryId);
    this.#removed.push(queryId);
  }

  /**
   * @param {number} queryId
   * @param {Query} query
   */
  #subscribe(queryId, query) {
    if (query.answered) this.#awaited += 1;
    query.answered = false;
    const { path, args, journal } = query;
    query.sub = this.#host.engine.subscribe({ path, args, caller: this.#caller, journal }, (reply) => {
      if (!query.answered) this.#awaited -= 1;
      query.answered = true;
      query.journal = reply.journal ?? null;
      this.#changed.set(queryId, reply);
      this.#owesTransition = true;
    });
  }

  /**
   * @param {"mutation" | "action"} kind
   * @param {"MutationResponse" | "ActionResponse"} type
   * @param {Record<string, unknown>} message
   */
  #call(kind, type, message) {
    const requestId = readCount(message, "requestId");
    if (this.#inFlight >= MAX_IN_FLIGHT) {
      throw new ProtocolError(
        `TooManyConcurrentRequests: at most ${MAX_IN_FLIGHT} mutations and actions on one socket`,
      );
    }
    const call = {
      kind,
      path: canonicalPath(readText(message, "udfPath")),
      args: readArgs(message),
      caller: this.#caller,
    };
    const once = kind === "mutation" ? { once: { session: this.#sessionId, request: requestId } } : {};
    this.#inFlight += 1;
    this.#host.calls.run({ ...call, ...once }, (reply) => {
      this.#inFlight -= 1;
      if (this.#closed) return;
      const ts = (reply.ok && reply.ts) || this.#host.engine.ts;
      this.#socket.send(messages.response(type, requestId, reply, ts), () => {});
      this.#owesTransition = true; // a client's promise resolves with the Transition that holds the call's effect
      if (kind === "action") this.flush(); // a mutation's answer comes inside a batch
    });
  }

  /** @param {Record<string, unknown>} message */
  #authenticate(message) {
    const baseVersion = readCount(message, "baseVersion");
    if (baseVersion !== this.#asked.identity) {
      throw new ProtocolError(
        `BaseVersionMismatch: the identity is at version ${this.#asked.identity}, not ${baseVersion}`,
      );
    }
    try {
      this.#caller = this.#host.authenticator.fromMessage(message);
    } catch (error) {
      if (!(error instanceof AuthError)) throw error;
      this.#socket.send(messages.authError(error.message, baseVersion), () => {});
      return;
    }
    this.#asked.identity = baseVersion + 1;
    this.#owesTransition = true;
    for (const [queryId, query] of this.#queries) {
      this.#host.engine.unsubscribe(query.sub);
      this.#subscribe(queryId, query);
    }
  }
}

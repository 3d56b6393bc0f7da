/**
 * The sync protocol's state for one socket, apart from the socket.
 *
 * The client holds a version (query set, identity, timestamp) and moves only by Transitions, each from exactly the version it holds.
 * A session gathers what has changed and sends one Transition for all of it: after a batch of the engine, never inside of one, never
 * while an asked query has no first result, and never while the client has two Transitions that it has not taken off the socket.
 *
 * What follows an Authenticate waits until the credential is checked, so that it runs as the new identity.
 */

import { hash, randomUUID } from "node:crypto";
import { ANONYMOUS, AuthError } from "../auth.mjs";
import * as ends from "./ends.mjs";
import * as messages from "./messages.mjs";
import { MutationQueue } from "./mutation-queue.mjs";
import { parseMessage, readCall, readCount, readCredential, readText } from "./requests.mjs";
import { ofSocket } from "../request-context.mjs";
import { decodeTs } from "./timestamps.mjs";

export const MAX_QUERIES = 10_000;
export const MAX_IN_FLIGHT = 1_000; // mutations without an answer, and as many actions
const MAX_UNSENT_TRANSITIONS = 2; // one on the way and one behind it; more would only be stale
const MAX_PLAIN_CHARS = 120; // a result is remembered as it is up to here: that is quicker than a hash, and hardly larger
const CHUNK_CHARS = 5_000_000; // the size at which Convex splits

/**
 * @typedef {import("../auth.mjs").Caller} Caller
 * @typedef {import("../engine-client.mjs").Reply} Reply
 * @typedef {object} Socket
 * @property {(text: string, onSent: () => void) => void} send
 * @property {() => boolean} isFull  whether the client has much to read
 * @property {(held: boolean) => void} hold  read no more of the client for now, or again
 * @property {(end: ends.SessionEnd) => void} end  say why, then close
 * @property {(error: unknown) => void} fail  close after a fault of the host
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
   * @param {{ splits: boolean, ip: string | null, userAgent: string | null }} client  splits: it puts TransitionChunks together
   */
  constructor(host, socket, { splits, ip, userAgent }) {
    this.#host = host;
    this.#socket = socket;
    this.#splits = splits;
    this.#client = { ip, userAgent };
    this.#mutations = new MutationQueue(
      (call, listener) => host.calls.run(call, listener),
      () => socket.isFull(),
    );
  }

  /** @type {Host} */
  #host;
  /** @type {Socket} */
  #socket;
  /** @type {boolean} */
  #splits;
  #client;
  #mutations;
  #closed = false;
  #sessionId = "";
  /** @type {Caller} */
  #caller = ANONYMOUS;
  /** The user's, as it came. @type {string | null} */
  #token = null;
  /** Of the caller's token, ms since the epoch. @type {number | null} */
  #expiresAt = null;
  /** Frames that came while a credential is checked; null: none is checked. @type {string[] | null} */
  #backlog = null;
  /** @type {number | null} */
  #clockSkewMs = null;
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
  #actions = 0;

  /** @param {string} text  one frame of the client */
  receive(text) {
    if (this.#closed) return;
    if (this.#backlog === null) this.#attempt(() => this.#handle(parseMessage(text)));
    else this.#backlog.push(text);
  }

  /** @param {string} why  what the client has sent is no message */
  refuse(why) {
    this.#end(ends.invalidMessage(why));
  }

  /** @param {() => void} step  may throw a `SessionEnd` */
  #attempt(step) {
    try {
      step();
      this.flush();
    } catch (error) {
      if (!(error instanceof ends.SessionEnd)) throw error;
      this.#end(error);
    }
  }

  /** @param {ends.SessionEnd} end */
  #end(end) {
    if (this.#closed) return;
    this.close();
    this.#socket.end(end);
  }

  /** Forget everything: the socket is gone. */
  close() {
    this.#closed = true;
    for (const { sub } of this.#queries.values()) this.#host.engine.unsubscribe(sub);
    this.#queries.clear();
    this.#changed.clear();
    this.#mutations.clear();
  }

  /** The client has read something. */
  wake() {
    this.#mutations.wake();
  }

  /** Send a Transition if one is owed and may be sent. Must not be called inside a batch of the engine. */
  flush() {
    if (this.#closed || !this.#owesTransition || this.#awaited > 0 || this.#unsent >= MAX_UNSENT_TRANSITIONS)
      return;
    if (this.#hasExpired()) return this.#end(ends.tokenExpired(this.#asked.identity));
    const end = { ...this.#asked, ts: this.#host.engine.ts };
    const modifications = [...this.#removed.map(messages.queryRemoved), ...this.#takeChanged()];
    const text = messages.transition(this.#version, end, modifications, this.#clockSkewMs);
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
      const { fingerprint, modification } = prepare(reply);
      if (query === undefined || query.fingerprint === fingerprint) continue;
      query.fingerprint = fingerprint;
      modifications.push(modification(queryId));
    }
    this.#changed.clear();
    return modifications;
  }

  #hasExpired() {
    return this.#expiresAt !== null && this.#expiresAt <= this.#host.authenticator.now();
  }

  /** @param {Record<string, unknown> & { type: string }} message */
  #handle(message) {
    if (this.#sessionId === "" && message.type !== "Connect") {
      throw ends.invalidMessage("the first message must be Connect");
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
        throw ends.invalidMessage(`unknown type ${JSON.stringify(message.type).slice(0, 40)}`);
    }
  }

  /** @param {Record<string, unknown>} message */
  #connect(message) {
    if (this.#sessionId !== "") throw ends.invalidMessage("Connect came twice");
    const { maxObservedTimestamp, clientTs } = message;
    if (maxObservedTimestamp !== undefined && maxObservedTimestamp !== null) {
      const observed = decodeTs(maxObservedTimestamp);
      if (observed === null) throw ends.invalidMessage("maxObservedTimestamp is no timestamp");
      if (observed > BigInt(this.#host.engine.ts)) {
        throw ends.internalError("the client has seen data that this host does not have");
      }
    }
    if (typeof clientTs === "number") this.#clockSkewMs = Math.round(clientTs - Date.now());
    this.#sessionId = readText(message, "sessionId");
  }

  /** @param {Record<string, unknown>} message */
  #modifyQuerySet(message) {
    const baseVersion = readCount(message, "baseVersion");
    const newVersion = readCount(message, "newVersion");
    const { querySet } = this.#asked;
    if (baseVersion !== querySet) throw versionMismatch(baseVersion, querySet);
    if (newVersion <= baseVersion) throw ends.invalidMessage("newVersion must be above baseVersion");
    if (!Array.isArray(message.modifications)) throw ends.invalidMessage("modifications must be an array");
    this.#asked.querySet = newVersion;
    this.#owesTransition = true;
    for (const modification of message.modifications) {
      if (typeof modification !== "object" || modification === null)
        throw ends.invalidMessage("a modification must be an object");
      const queryId = readCount(modification, "queryId");
      if (modification.type === "Add") this.#addQuery(queryId, modification);
      else if (modification.type === "Remove") this.#removeQuery(queryId);
      else throw ends.invalidMessage("a modification must be Add or Remove");
    }
  }

  /**
   * @param {number} queryId
   * @param {Record<string, unknown>} message
   */
  #addQuery(queryId, message) {
    if (this.#queries.has(queryId)) throw ends.invalidMessage(`query ${queryId} is there already`);
    if (this.#queries.size >= MAX_QUERIES)
      throw ends.protocolError("TooManyQueries", `At most ${MAX_QUERIES} queries on one websocket`);
    const query = {
      ...readCall(message),
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
    if (query === undefined) throw ends.invalidMessage(`query ${queryId} is not there`);
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
      if (!reply.ok && reply.code !== undefined) return this.#end(ends.systemError(reply));
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
    if (this.#hasExpired()) throw ends.tokenExpired(this.#asked.identity);
    const open = kind === "mutation" ? this.#mutations.size : this.#actions;
    if (open >= MAX_IN_FLIGHT) throw tooMany(kind);
    const request = ofSocket(this.#sessionId, requestId, { ...this.#client, authToken: this.#token });
    const call = { kind, ...readCall(message), caller: this.#caller, request };
    const answer = (/** @type {Reply} */ reply) => {
      if (this.#closed) return;
      if (!reply.ok && reply.code !== undefined) return this.#end(ends.systemError(reply));
      const ts = (reply.ok && reply.ts) || this.#host.engine.ts;
      this.#socket.send(messages.response(type, requestId, reply, ts), () => {});
      this.#owesTransition = true; // a client's promise resolves with the Transition that holds the call's effect
    };
    if (kind === "mutation") {
      const once = { session: this.#sessionId, request: requestId };
      this.#mutations.add({ ...call, once }, answer); // which is called inside a batch
    } else {
      this.#actions += 1;
      this.#host.calls.run(call, (reply) => {
        this.#actions -= 1;
        answer(reply);
        this.flush();
      });
    }
  }

  /** @param {Record<string, unknown>} message */
  #authenticate(message) {
    const baseVersion = readCount(message, "baseVersion");
    const { identity } = this.#asked;
    if (baseVersion !== identity) throw versionMismatch(baseVersion, identity);
    const credential = readCredential(message);
    const token = credential.tokenType === "User" ? credential.value : null;
    this.#backlog = [];
    this.#socket.hold(true); // what waits stays small
    this.#host.authenticator
      .identify(credential)
      .then(
        (identified) => this.#resume(() => this.#become(identified, token)),
        (error) => this.#resume(() => refuse(error, baseVersion)),
      )
      .catch((error) => this.#socket.fail(error));
  }

  /**
   * @param {import("../auth.mjs").Identified} identified
   * @param {string | null} token
   */
  #become({ caller, expiresAt }, token) {
    this.#caller = caller;
    this.#token = token;
    this.#expiresAt = expiresAt;
    this.#asked.identity += 1;
    this.#owesTransition = true;
    for (const [queryId, query] of this.#queries) {
      this.#host.engine.unsubscribe(query.sub);
      this.#subscribe(queryId, query);
    }
  }

  /** @param {() => void} outcome  of the check that the frames in the backlog have waited for */
  #resume(outcome) {
    const frames = this.#backlog ?? [];
    this.#backlog = null;
    if (this.#closed) return;
    this.#attempt(outcome);
    this.#socket.hold(false);
    for (const frame of frames) this.receive(frame); // another Authenticate among them makes the rest wait again
  }
}

/** What sockets need of a result that many of them get. @type {WeakMap<Reply, { fingerprint: string, modification: (queryId: number) => string }>} */
const prepared = new WeakMap();

/** @param {Reply} reply */
function prepare(reply) {
  const known = prepared.get(reply);
  if (known !== undefined) return known;
  const text = JSON.stringify([reply.ok, reply.ok ? reply.value : reply.message, reply.logLines]);
  const fingerprint = text.length <= MAX_PLAIN_CHARS ? text : hash("sha1", text);
  const made = { fingerprint, modification: messages.queryModification(reply) };
  prepared.set(reply, made);
  return made;
}

/**
 * @param {unknown} error  of a credential
 * @param {number} baseVersion
 * @returns {never}
 */
function refuse(error, baseVersion) {
  if (!(error instanceof AuthError)) throw error;
  throw error.status === 503
    ? ends.tryAgain(error.code, error.message) // the provider's fault
    : ends.refusedCredential(error.message, baseVersion);
}

/**
 * @param {number} given
 * @param {number} current
 */
function versionMismatch(given, current) {
  return ends.protocolError(
    "BaseVersionMismatch",
    `Base version ${given} passed up doesn't match the current version ${current}`,
  );
}

/** @param {"mutation" | "action"} kind */
function tooMany(kind) {
  return kind === "mutation"
    ? ends.tryAgain(
        "TooManyConcurrentMutations",
        `Too many concurrent mutations. Only up to ${MAX_IN_FLIGHT} pending mutations allowed on a single websocket.`,
      )
    : ends.tryAgain(
        "TooManyInflightActionsForSingleClient",
        `Inflight actions overloaded for a single client, max concurrency: ${MAX_IN_FLIGHT}`,
      );
}

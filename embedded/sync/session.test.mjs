import { beforeEach, expect, test, vi } from "vitest";
import { Authenticator } from "../auth.mjs";
import { keySet, provider, userToken } from "../auth/testing.mjs";
import { MAX_RUNNING } from "./mutation-queue.mjs";
import { MAX_IN_FLIGHT, MAX_QUERIES, Session } from "./session.mjs";
import { encodeTs } from "./timestamps.mjs";

const ADMIN_KEY = "signalbox|key";

/** The engine and the socket as a session sees them; `sent` holds parsed frames. */
class Bench {
  ts = "10";
  sent = [];
  closedWith = null;
  closeCode = null;
  held = false;
  isFull = false;
  failure = null;
  unread = [];
  subscriptions = new Map();
  calls = [];
  keyRequests = [];
  lastSub = 0;

  engine = {
    bench: this,
    get ts() {
      return this.bench.ts;
    },
    subscribe: (subscription, listener) => {
      this.subscriptions.set(++this.lastSub, { ...subscription, listener });
      return this.lastSub;
    },
    unsubscribe: (sub) => void this.subscriptions.delete(sub),
  };

  session = new Session(
    {
      engine: this.engine,
      calls: { run: (call, listener) => void this.calls.push({ ...call, listener }) },
      authenticator: new Authenticator(ADMIN_KEY, {
        providers: () => [provider()],
        keySets: { custom: () => new Promise((resolve) => this.keyRequests.push(resolve)) },
      }),
    },
    {
      send: (text, onSent) => {
        this.sent.push(JSON.parse(text));
        this.unread.push(onSent);
      },
      isFull: () => this.isFull,
      hold: (held) => (this.held = held),
      end: ({ message, code, lastMessage }) => {
        if (lastMessage !== undefined) this.sent.push(JSON.parse(lastMessage));
        this.closedWith = message;
        this.closeCode = code;
      },
      fail: (error) => (this.failure = error),
    },
    { splits: false, ip: null, userAgent: null },
  );

  receive(...messages) {
    for (const message of messages) this.session.receive(JSON.stringify(message));
  }

  /** One batch of the engine: results for subscriptions in their order of subscribing, replies for calls. */
  batch(ts, { results = {}, replies = [] }) {
    this.ts = ts;
    for (const { listener } of this.calls.splice(0, replies.length))
      listener({ ts, logLines: [], ...replies.shift() });
    for (const [sub, reply] of Object.entries(results)) {
      this.subscriptions.get(Number(sub)).listener({ ok: true, logLines: [], journal: null, ...reply });
    }
    this.session.flush();
  }

  /** Whatever credential was sent is checked. */
  async checked() {
    while (this.held) {
      for (const give of this.keyRequests.splice(0)) give(keySet());
      await new Promise(setImmediate);
    }
  }

  /** The client takes everything off the socket. */
  read() {
    for (const onSent of this.unread.splice(0)) onSent();
    return this.sent.splice(0);
  }
}

const CONNECT = { type: "Connect", sessionId: "s-1", connectionCount: 0, lastCloseReason: null };
const add = (queryId, udfPath = "a:list") => ({ type: "Add", queryId, udfPath, args: [{}] });
const modify = (baseVersion, ...modifications) => ({
  type: "ModifyQuerySet",
  baseVersion,
  newVersion: baseVersion + 1,
  modifications,
});
const mutation = (requestId) => ({ type: "Mutation", requestId, udfPath: "a:add", args: [{}] });
const version = (querySet, identity, ts) => ({ querySet, identity, ts: encodeTs(ts) });

/** @type {Bench} */
let bench;
beforeEach(() => {
  bench = new Bench();
  bench.receive(CONNECT);
});

test("all queries of one message come in one transition, after the last of them has its result", () => {
  bench.receive(modify(0, add(1), add(2)));
  bench.batch("11", { results: { 1: { value: "1" } } });
  expect(bench.read()).toEqual([]);
  bench.batch("12", { results: { 2: { value: "2" } } });
  expect(bench.read()).toEqual([
    {
      type: "Transition",
      startVersion: version(0, 0, "0"),
      endVersion: version(1, 0, "12"),
      modifications: [
        { type: "QueryUpdated", queryId: 1, value: 1, logLines: [], journal: null },
        { type: "QueryUpdated", queryId: 2, value: 2, logLines: [], journal: null },
      ],
    },
  ]);
});

test("each transition starts where the one before has ended", async () => {
  bench.receive(modify(0, add(1)));
  bench.batch("11", { results: { 1: { value: "1" } } });
  bench.batch("12", { results: { 1: { value: "2" } } });
  const [first, second] = bench.read();
  expect(second.startVersion).toEqual(first.endVersion);
  bench.receive({ type: "Authenticate", tokenType: "None", baseVersion: 0 });
  await bench.checked();
  bench.batch("13", { results: { 2: { value: "2" } } });
  const [third] = bench.read();
  expect(third.startVersion).toEqual(version(1, 0, "12"));
  expect(third.endVersion).toEqual(version(1, 1, "13"));
});

test("a mutation's response comes before the transition that holds its effect", () => {
  bench.receive(modify(0, add(1)));
  bench.batch("11", { results: { 1: { value: "1" } } });
  bench.read();
  bench.receive(mutation(5));
  bench.batch("12", { replies: [{ ok: true, value: '"done"' }], results: { 1: { value: "2" } } });
  const [response, transition, ...rest] = bench.read();
  expect(response).toEqual({
    type: "MutationResponse",
    requestId: 5,
    success: true,
    result: "done",
    ts: encodeTs("12"),
    logLines: [],
  });
  expect(transition.endVersion).toEqual(version(1, 0, "12"));
  expect(transition.modifications).toMatchObject([{ queryId: 1, value: 2 }]);
  expect(rest).toEqual([]);
});

test("a transition follows a mutation that failed and changed nothing", () => {
  bench.receive(mutation(1));
  bench.batch("12", { replies: [{ ok: false, message: "no", data: '{"code":"x"}' }] });
  expect(bench.read()).toMatchObject([
    { type: "MutationResponse", success: false, result: "no", ts: null, errorData: { code: "x" } },
    { type: "Transition", endVersion: version(0, 0, "12"), modifications: [] },
  ]);
});

test("a mutation carries the session and its number, so that the engine applies a resent one once", () => {
  bench.receive(mutation(7));
  expect(bench.calls[0].once).toEqual({ session: "s-1", request: 7 });
});

test("an action is answered without a timestamp and followed by a transition", () => {
  bench.receive({ type: "Action", requestId: 3, udfPath: "a.js:act", args: [{}] });
  const [call] = bench.calls;
  expect(call).toMatchObject({ kind: "action", path: "a:act" });
  call.listener({ ok: true, value: "1", logLines: ["[LOG] 'x'"] });
  expect(bench.read()).toMatchObject([
    { type: "ActionResponse", requestId: 3, success: true, result: 1, logLines: ["[LOG] 'x'"] },
    { type: "Transition" },
  ]);
});

test("a result equal to what the client has is not sent again, new log lines are", () => {
  bench.receive(modify(0, add(1)));
  bench.batch("11", { results: { 1: { value: "1" } } });
  bench.read();
  bench.batch("12", { results: { 1: { value: "1" } } });
  bench.batch("13", { results: { 1: { value: "1", logLines: ["[LOG] 'x'"] } } });
  expect(bench.read().map(({ modifications }) => modifications.length)).toEqual([0, 1]);
});

test("a client that does not read has two transitions waiting and then gets the newest values in one", () => {
  bench.receive(modify(0, add(1)));
  for (let ts = 11; ts < 100; ts += 1) bench.batch(String(ts), { results: { 1: { value: String(ts) } } });
  expect(bench.sent).toHaveLength(2);
  expect(bench.read().map(({ modifications }) => modifications[0].value)).toEqual([11, 12, 99]);
});

test("a query that fails tells its error and data, and recovers", () => {
  bench.receive(modify(0, add(1)));
  bench.batch("11", { results: { 1: { ok: false, message: "bad", data: '"d"' } } });
  bench.batch("12", { results: { 1: { value: "1" } } });
  expect(bench.read().map(({ modifications }) => modifications[0])).toEqual([
    { type: "QueryFailed", queryId: 1, errorMessage: "bad", errorData: "d", logLines: [], journal: null },
    { type: "QueryUpdated", queryId: 1, value: 1, logLines: [], journal: null },
  ]);
});

test("a removed query leaves the engine, also before its first result", () => {
  bench.receive(modify(0, add(1)), modify(1, { type: "Remove", queryId: 1 }));
  expect(bench.subscriptions.size).toBe(0);
  expect(bench.read()).toMatchObject([
    { endVersion: version(2, 0, "10"), modifications: [{ type: "QueryRemoved", queryId: 1 }] },
  ]);
});

test("the journal goes to the client and comes back from it", () => {
  bench.receive(modify(0, { ...add(1), journal: "end" }));
  expect(bench.subscriptions.get(1).journal).toBe("end");
  bench.batch("11", { results: { 1: { value: "1", journal: "end2" } } });
  expect(bench.read()[0].modifications[0].journal).toBe("end2");
});

test("the admin key runs all queries again with the right to internal functions", async () => {
  bench.receive(modify(0, add(1)));
  bench.batch("11", { results: { 1: { ok: false, message: "not public" } } });
  bench.read();
  const acting = { subject: "u", issuer: "https://i" };
  bench.receive({
    type: "Authenticate",
    tokenType: "Admin",
    value: ADMIN_KEY,
    baseVersion: 0,
    impersonating: acting,
  });
  await bench.checked();
  expect([...bench.subscriptions.values()]).toMatchObject([
    { caller: { admin: true, identity: { ...acting, tokenIdentifier: "https://i|u" } } },
  ]);
  expect(bench.read()).toEqual([]);
  bench.batch("12", { results: { 2: { value: "1" } } });
  expect(bench.read()).toMatchObject([{ endVersion: version(1, 1, "12"), modifications: [{ value: 1 }] }]);
});

const user = (claims) => ({
  type: "Authenticate",
  baseVersion: 0,
  tokenType: "User",
  value: userToken(claims),
});

test("what follows a user's token on the socket runs as that user, however long the check takes", async () => {
  bench.receive(
    user(),
    mutation(1),
    modify(0, add(1)),
    { ...user(), baseVersion: 1, tokenType: "None" },
    mutation(2),
  );
  expect([bench.calls, bench.subscriptions.size]).toEqual([[], 0]);
  expect(bench.held).toBe(true);
  await bench.checked();
  expect(bench.calls.map(({ caller, once }) => [caller.identity?.subject, once.request])).toEqual([
    ["u1", 1],
    [undefined, 2],
  ]);
  expect(bench.held).toBe(false);
});

test.each([
  ["a wrong admin key", { tokenType: "Admin", value: "wrong" }, /admin key was invalid/],
  ["a malformed token", { tokenType: "User", value: "ey" }, /Could not parse JWT payload/],
])("%s is an AuthError, whereupon the client connects anew", async (_, token, error) => {
  bench.receive({ type: "Authenticate", baseVersion: 0, ...token }, mutation(1));
  await bench.checked();
  expect(bench.read()).toEqual([
    { type: "AuthError", baseVersion: 0, authUpdateAttempted: true, error: expect.stringMatching(error) },
  ]);
  expect([bench.closeCode, bench.calls]).toEqual([undefined, []]);
});

test.each([
  ["a mutation", () => bench.receive(mutation(1))],
  ["an update", () => bench.batch("13", { results: { 1: { value: "2" } } })],
])("%s after the end of the token's life is an AuthError that names no attempt", async (_, use) => {
  vi.useFakeTimers({ toFake: ["Date"] });
  try {
    bench.receive(user({ exp: Math.floor(Date.now() / 1000) + 60 }), modify(0, add(1)));
    await bench.checked();
    bench.batch("12", { results: { 1: { value: "1" } } });
    expect(bench.read().at(-1)).toMatchObject({ endVersion: version(1, 1, "12") });
    vi.setSystemTime(Date.now() + 60_000);
    use();
    expect(bench.read()).toEqual([
      {
        type: "AuthError",
        baseVersion: 1,
        authUpdateAttempted: false,
        error: "Convex token identity expired",
      },
    ]);
    expect(bench.calls).toEqual([]);
  } finally {
    vi.useRealTimers();
  }
});

test("a mutation or subscription that the system has ended closes the socket, so that the client sends it again", () => {
  const failure = {
    ok: false,
    code: "OptimisticConcurrencyControlFailure",
    message: "changed",
    logLines: [],
  };
  bench.receive(mutation(1));
  bench.batch("11", { replies: [failure] });
  expect(bench.read()).toEqual([]);
  expect([bench.closeCode, bench.closedWith]).toEqual([1013, "OptimisticConcurrencyControlFailure: changed"]);
  const other = new Bench();
  other.receive(CONNECT, modify(0, add(1)));
  other.batch("11", { results: { 1: { ...failure, code: "Busy" } } });
  expect([other.closeCode, other.closedWith]).toEqual([1013, "Busy: changed"]);
});

test("mutations of a client that does not read wait for it, in their order", () => {
  bench.isFull = true;
  bench.receive(mutation(1), mutation(2));
  expect(bench.calls).toEqual([]);
  bench.isFull = false;
  bench.session.wake();
  expect(bench.calls.map(({ once }) => once.request)).toEqual([1, 2]);
});

test("a client's mutations come to the engine few at a time", () => {
  for (let id = 0; id < 100; id += 1) bench.receive(mutation(id));
  expect(bench.calls).toHaveLength(MAX_RUNNING);
  bench.batch("11", { replies: [{ ok: true, value: "1" }] });
  expect(bench.calls.at(-1).once.request).toBe(MAX_RUNNING);
});

test("clients that tell their time hear how far their clock is off", () => {
  const late = new Bench();
  late.receive({ ...CONNECT, clientTs: Date.now() - 5_000 }, modify(0));
  const [{ clientClockSkew, serverTs }] = late.read();
  expect(clientClockSkew).toBeLessThanOrEqual(-5_000);
  expect(clientClockSkew).toBeGreaterThan(-6_000);
  expect(Math.abs(serverTs / 1e6 - Date.now())).toBeLessThan(5_000);
});

test("a closed session leaves nothing in the engine and says nothing more", () => {
  bench.receive(modify(0, add(1)), mutation(1));
  bench.session.close();
  expect(bench.subscriptions.size).toBe(0);
  bench.batch("11", { replies: [{ ok: true, value: "1" }] });
  expect(bench.read()).toEqual([]);
});

test.each([
  ["a wrong base version", [modify(4, add(1))], /^BaseVersionMismatch/],
  [
    "a wrong identity version",
    [{ type: "Authenticate", tokenType: "None", baseVersion: 3 }],
    /^BaseVersionMismatch/,
  ],
  ["a second Connect", [CONNECT], /^WSMessageInvalidJson: Received Invalid JSON on websocket: Connect/],
  [
    "an unknown type",
    [{ type: "Hello" }],
    /^WSMessageInvalidJson: Received Invalid JSON on websocket: unknown type/,
  ],
  ["no type", [{}], /^WSMessageInvalidJson: Received Invalid JSON on websocket/],
  ["a message that is null", [null], /^WSMessageInvalidJson: Received Invalid JSON on websocket/],
  [
    "a modification that is null",
    [modify(0, null)],
    /^WSMessageInvalidJson: Received Invalid JSON on websocket/,
  ],
  [
    "modifications that are no array",
    [{ ...modify(0), modifications: 1 }],
    /^WSMessageInvalidJson: Received Invalid JSON on websocket/,
  ],
  [
    "an unknown modification",
    [modify(0, { type: "Swap", queryId: 1 })],
    /^WSMessageInvalidJson: Received Invalid JSON on websocket/,
  ],
  [
    "a query id that is negative",
    [modify(0, add(-1))],
    /^WSMessageInvalidJson: Received Invalid JSON on websocket: queryId/,
  ],
  [
    "a query id that is there",
    [modify(0, add(1), add(1))],
    /^WSMessageInvalidJson: Received Invalid JSON on websocket: query 1/,
  ],
  [
    "the removal of an unknown query",
    [modify(0, { type: "Remove", queryId: 9 })],
    /^WSMessageInvalidJson: Received Invalid JSON on websocket: query 9/,
  ],
  [
    "a path that is no text",
    [{ ...mutation(1), udfPath: 5 }],
    /^WSMessageInvalidJson: Received Invalid JSON on websocket: udfPath/,
  ],
  [
    "a path that leaves the folder",
    [{ ...mutation(1), udfPath: "../etc:fn" }],
    /is not a valid path to a Convex function/,
  ],
  ["a component", [{ ...mutation(1), componentPath: "c" }], /Component path 'c' not found/],
  ["an unknown kind of token", [{ ...user(), tokenType: "Key" }], /tokenType/],
  ["an identity that is none", [{ ...user(), tokenType: "Admin", impersonating: {} }], /tokenIdentifier/],
  [
    "args that are no array",
    [{ ...mutation(1), args: {} }],
    /^WSMessageInvalidJson: Received Invalid JSON on websocket: args/,
  ],
])("%s closes the socket with a reason", (_, sent, reason) => {
  bench.receive(...sent);
  expect(bench.closedWith).toMatch(reason);
  expect(bench.read().at(-1)).toMatchObject({ type: "FatalError" });
});

test("text that is no JSON closes the socket with a reason", () => {
  bench.session.receive("{");
  expect(bench.closedWith).toMatch(/not valid JSON/);
});

test("nothing is taken before Connect", () => {
  const fresh = new Bench();
  fresh.receive(mutation(1));
  expect(fresh.closedWith).toMatch(/first message must be Connect/);
});

test("a client that has seen newer data than the host has is turned away, one at the same point is not", () => {
  const [same, ahead] = [new Bench(), new Bench()];
  same.receive({ ...CONNECT, maxObservedTimestamp: encodeTs("10") });
  ahead.receive({ ...CONNECT, maxObservedTimestamp: encodeTs("11") });
  expect([same.closedWith, ahead.closedWith]).toEqual([
    null,
    expect.stringMatching(/^InternalServerError: the client has seen/),
  ]);
});

test("one socket has as many queries as the limit and not one more", () => {
  bench.receive(modify(0, ...Array.from({ length: MAX_QUERIES }, (_, id) => add(id))));
  expect(bench.closedWith).toBeNull();
  bench.receive(modify(1, add(MAX_QUERIES)));
  expect(bench.closedWith).toMatch(/^TooManyQueries/);
  expect(bench.subscriptions.size).toBe(0);
});

test("one socket has as many open requests as the limit and not one more", () => {
  for (let id = 0; id < MAX_IN_FLIGHT; id += 1) bench.receive(mutation(id));
  expect(bench.closedWith).toBeNull();
  bench.receive(mutation(MAX_IN_FLIGHT));
  expect(bench.closedWith).toMatch(/^TooManyConcurrentMutations/);
});

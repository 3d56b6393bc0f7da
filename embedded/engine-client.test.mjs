import { EventEmitter, once } from "node:events";
import { setImmediate as turn } from "node:timers/promises";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { EngineClient } from "./engine-client.mjs";

const CALLER = { admin: false, identity: null };
const BUNDLE = { code: "", map: null, modules: {} };
const DESCRIPTION = { functions: {}, http: false, env: [] };

/** An engine thread that records what it is sent; the test answers in its place. */
class FakeThread extends EventEmitter {
  constructor(workerData) {
    super();
    this.workerData = workerData;
    this.sent = [];
  }
  postMessage(message) {
    this.sent.push(message);
    if (message.op === "load")
      this.batch({
        replies: [{ id: message.id, ok: true, value: JSON.stringify(DESCRIPTION), logLines: [] }],
      });
  }
  batch({ ts = "1", replies = [], updates = [], actions = [], runs = [] }) {
    this.emit("message", { ts, replies, updates, actions, runs });
  }
  async terminate() {
    this.emit("terminating");
    this.emit("exit", 1);
  }
  /** Note a run as the engine does, and stay in it. */
  enter(kind, number) {
    new Int32Array(this.workerData.guard).set([1, kind, number]);
  }
  named(op) {
    return this.sent.filter((message) => message.op === op);
  }
}

function setUp() {
  const threads = [];
  const lines = [];
  const fatal = [];
  const client = new EngineClient({
    file: "host.sqlite",
    synchronous: "normal",
    log: (line) => lines.push(line),
    onFatal: (error) => fatal.push(error.message),
    spawn: (workerData) => {
      threads.push(new FakeThread(workerData));
      return threads.at(-1);
    },
  });
  client.start();
  return { client, threads, lines, fatal };
}

const call = (path) => ({ kind: "mutation", path, args: "[{}]", caller: CALLER });
const success = (id, value) => ({ id, ok: true, value, ts: "1", logLines: [] });

/** Let the guard see a run on enough of its ticks, and the restart that follows take place. */
async function passLimit() {
  await vi.advanceTimersByTimeAsync(1_200);
}

beforeEach(() => void vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] }));
afterEach(() => void vi.useRealTimers());

test("replies, then updates, then the end of the batch, then actions", async () => {
  const { client, threads } = setUp();
  await client.load(BUNDLE, {});
  const seen = [];
  client.onBatch((ts) => seen.push(`batch ${ts}`));
  client.onScheduledAction(({ job }) => seen.push(`action ${job}`));
  const sub = client.subscribe({ path: "a:list", args: "[{}]", caller: CALLER, journal: null }, ({ value }) =>
    seen.push(`sub ${value}`),
  );
  client.call(call("a:add"), ({ value }) => seen.push(`call ${value}`));
  const [{ id }] = threads[0].named("call");
  threads[0].batch({
    ts: "9",
    replies: [success(id, "1")],
    updates: [{ subs: [sub], ok: true, value: "2", logLines: [], journal: null }],
    actions: [{ job: "j", path: "a:act", args: "[{}]" }],
  });
  await turn();
  expect(seen).toEqual(["call 1", "sub 2", "batch 9", "action j"]);
  expect(client.ts).toBe("9");
});

test("actions that are due in the batch of a load wait until their functions are known", async () => {
  const { client, threads } = setUp();
  const known = [];
  client.onScheduledAction(({ path }) => known.push(client.description.functions[path]?.kind));
  vi.spyOn(threads[0], "postMessage").mockImplementation(({ id }) => {
    const value = JSON.stringify({ functions: { "a:act": { kind: "action" } }, http: false, env: [] });
    threads[0].batch({
      replies: [success(id, value)],
      actions: [{ job: "j", path: "a:act", args: "[{}]" }],
    });
  });
  await client.load(BUNDLE, {});
  await turn();
  expect(known).toEqual(["action"]);
});

test("a call over its limit is answered as timed out, and what waited behind it is sent again in order", async () => {
  const { client, threads, lines } = setUp();
  await client.load(BUNDLE, {});
  const replies = [];
  for (const name of ["a:slow", "a:first", "a:second"])
    client.call(call(name), (reply) => replies.push([name, reply]));
  threads[0].enter(1, threads[0].named("call")[0].id);
  await passLimit();
  expect(threads).toHaveLength(2);
  expect(replies.map(([name]) => name)).toEqual(["a:slow"]);
  expect(replies[0][1].message).toMatch(
    /^\[Request ID: [0-9a-f]{16}\] Server Error\nFunction execution timed out \(maximum duration: 1s\)\n$/,
  );
  expect(threads[1].sent.map(({ op, path }) => path ?? op)).toEqual(["load", "a:first", "a:second"]);
  expect(lines).toEqual([
    "engine thread restarted: a:slow: Function execution timed out (maximum duration: 1s)",
  ]);
  threads[1].batch({ replies: threads[1].named("call").map(({ id }) => success(id, "null")) });
  expect(replies.map(([name]) => name)).toEqual(["a:slow", "a:first", "a:second"]);
});

test("a batch that the lost thread had committed is delivered and not sent again", async () => {
  const { client, threads } = setUp();
  await client.load(BUNDLE, {});
  const replies = [];
  client.call(call("a:committed"), ({ value }) => replies.push(value));
  client.call(call("a:slow"), ({ ok }) => replies.push(ok));
  const [committed, slow] = threads[0].named("call");
  threads[0].once("terminating", () => threads[0].batch({ replies: [success(committed.id, "1")] }));
  threads[0].enter(1, slow.id);
  await passLimit();
  expect(replies).toEqual(["1", false]);
  expect(threads[1].named("call")).toEqual([]);
});

test("live subscriptions are made again with their newest journal, ended ones are not", async () => {
  const { client, threads } = setUp();
  await client.load(BUNDLE, {});
  const values = [];
  const query = (path) => ({ path, args: "[{}]", caller: CALLER, journal: null });
  const live = client.subscribe(query("a:page"), ({ value }) => values.push(value));
  const ended = client.subscribe(query("a:ended"), () => {});
  threads[0].batch({
    replies: threads[0].named("subscribe").map(({ id }) => ({ ...success(id, "1"), journal: "end" })),
  });
  client.unsubscribe(ended);
  threads[0].emit("error", new Error("out of memory"));
  await turn();
  expect(threads[1].named("subscribe")).toMatchObject([{ sub: live, path: "a:page", journal: "end" }]);
  threads[1].batch({ replies: [success(threads[1].named("subscribe")[0].id, "2")] });
  expect(values).toEqual(["1", "2"]);
});

test("a subscription whose re-run is over its limit fails and is not run again", async () => {
  const { client, threads } = setUp();
  await client.load(BUNDLE, {});
  const replies = [];
  const sub = client.subscribe({ path: "a:list", args: "[{}]", caller: CALLER, journal: null }, (reply) =>
    replies.push(reply.ok),
  );
  threads[0].batch({ replies: [success(threads[0].named("subscribe")[0].id, "1")] });
  threads[0].enter(2, sub);
  await passLimit();
  expect(replies).toEqual([true, false]);
  expect(threads[1].named("subscribe")).toEqual([]);
});

test("the next thread is told which scheduled function took the last one down", async () => {
  const { client, threads } = setUp();
  await client.load(BUNDLE, {});
  new Uint8Array(threads[0].workerData.guard).set(Buffer.from("job1"), 12);
  threads[0].enter(3, 4);
  await passLimit();
  expect(threads[1].workerData.killed).toEqual({
    job: "job1",
    message: "Function execution timed out (maximum duration: 1s)",
  });
});

test("the next thread is told which scheduled actions still run", async () => {
  const { client, threads } = setUp();
  await client.load(BUNDLE, {});
  const action = (job) => ({ job, path: "a:act", args: "[{}]" });
  threads[0].batch({ actions: [action("ended"), action("runs")] });
  const finished = client.finishAction("ended", { ok: true });
  const [{ id, ...finish }] = threads[0].named("finish");
  expect(finish).toEqual({ op: "finish", job: "ended", ok: true });
  threads[0].batch({ replies: [success(id, "null")] });
  await finished;
  threads[0].emit("error", new Error("out of memory"));
  await turn();
  expect(threads.map(({ workerData }) => workerData.running)).toEqual([[], ["runs"]]);
});

test("a thread that is lost before it ever served fails the load with its own line", async () => {
  const { client, threads } = setUp();
  threads[0].postMessage = () => threads[0].emit("error", new Error("host.sqlite is locked by another host"));
  await expect(client.load(BUNDLE, {})).rejects.toThrow(/^host.sqlite is locked by another host$/);
  await expect(client.load(BUNDLE, {})).rejects.toThrow(/^host.sqlite is locked by another host$/);
  expect(threads).toHaveLength(1);
});

test("an engine that ends again and again is given up with one line", async () => {
  const { client, threads, fatal } = setUp();
  await client.load(BUNDLE, {});
  for (let crash = 0; crash < 6; crash += 1) {
    threads.at(-1).emit("error", new Error("broken"));
    await turn();
  }
  expect(threads).toHaveLength(6);
  expect(fatal).toEqual(["The engine thread ended 6 times in a minute, the last time: broken"]);
});

test("stop lets the engine answer and then ends its thread", async () => {
  const { client, threads, lines } = setUp();
  await client.load(BUNDLE, {});
  const exited = once(threads[0], "exit");
  const stopped = client.stop(1_000);
  threads[0].batch({ replies: [success(threads[0].named("stop")[0].id, "null")] });
  await stopped;
  await exited;
  expect(lines).toEqual([]);
});

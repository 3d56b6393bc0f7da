import { rmSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, expect, test } from "vitest";
import { bundleFunctions } from "./bundle.mjs";
import { readRun } from "./guard.mjs";
import { ENGINE_THREAD } from "./host-files.mjs";
import { unpackBatch } from "./engine/wire.mjs";
import { ADMIN, FIXTURE, GUARD_BYTES, temporaryFolder } from "./engine/testing.mjs";

/** @type {string} */
let root;
/** @type {Worker[]} */
let workers;
beforeEach(() => {
  root = temporaryFolder();
  workers = [];
});
afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.terminate()));
  rmSync(root, { recursive: true });
});

class Thread {
  /** @param {{ job: string, message: string } | null} killed */
  constructor(killed = null) {
    this.guard = new SharedArrayBuffer(GUARD_BYTES);
    const workerData = { file: `${root}/host.sqlite`, synchronous: "normal", guard: this.guard, killed };
    this.worker = new Worker(ENGINE_THREAD, { workerData });
    workers.push(this.worker);
    this.worker.on("message", (packed) => {
      const batch = unpackBatch(packed);
      this.batches.push(batch);
      for (const reply of batch.replies) this.#waiting.get(reply.id)?.(reply);
      for (const { subs, ...update } of batch.updates)
        for (const sub of subs) this.onUpdate({ sub, ...update });
    });
  }

  /** @type {any[]} */
  batches = [];
  /** @type {(update: any) => void} */
  onUpdate = () => {};
  /** @type {Map<number, (reply: any) => void>} */
  #waiting = new Map();
  #lastId = 0;

  /** @param {object} message @returns {Promise<any>} */
  ask(message) {
    const id = ++this.#lastId;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.worker.postMessage({ id, ...message });
    });
  }

  /** @param {string} path @param {object} [args] */
  call(path, args = {}) {
    return this.ask({ op: "call", kind: "any", path, args: JSON.stringify([args]), caller: ADMIN });
  }

  async load() {
    return this.ask({ op: "load", bundle: await bundleFunctions(FIXTURE), env: {} });
  }
}

test("calls that come together are one batch, answered in order", async () => {
  const thread = new Thread();
  await thread.load();
  thread.batches.length = 0;
  const replies = await Promise.all(
    [1, 2, 3, 4].map((rank) => thread.call("items:add", { group: "a", rank })),
  );
  expect(replies.every(({ ok }) => ok)).toBe(true);
  expect(
    thread.batches.flatMap((batch) => batch.replies.map((/** @type {any} */ reply) => reply.id)),
  ).toEqual([2, 3, 4, 5]);
  expect(thread.batches.length).toBeLessThan(4);
});

test("scheduled work wakes the thread", async () => {
  const thread = new Thread();
  await thread.load();
  await thread.ask({ op: "subscribe", sub: 1, path: "jobs:bag", args: "[{}]", caller: ADMIN, journal: null });
  const update = new Promise((resolve) => (thread.onUpdate = resolve));
  await thread.call("jobs:later", { delayMs: 30, path: "jobs:record", args: { text: "woken" } });
  expect(JSON.parse((await update).value)).toMatchObject([{ text: "woken" }]);
});

test("stopping commits, answers and ends the thread, and the file can be opened again", async () => {
  const thread = new Thread();
  await thread.load();
  const ended = new Promise((resolve) => thread.worker.on("exit", resolve));
  void thread.call("items:add", { group: "a", rank: 1 });
  expect(await thread.ask({ op: "stop" })).toMatchObject({ ok: true });
  expect(await ended).toBe(0);
  const next = new Thread();
  await next.load();
  expect(JSON.parse((await next.call("items:list", { group: "a" })).value)).toHaveLength(1);
});

test("a file that another host has is refused in one line", async () => {
  await new Thread().load();
  const error = await new Promise((resolve) => new Thread().worker.on("error", resolve));
  expect(/** @type {Error} */ (error).message).toBe(`${root}/host.sqlite is in use by another host`);
});

/** Wait until the guard shows a run. @param {Thread} thread */
async function shownRun({ guard }) {
  for (;;) {
    const run = readRun(guard);
    if (run !== null) return run;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test("the guard shows the call that does not end; with its thread ends all that its batch wrote", async () => {
  const thread = new Thread();
  await thread.load();
  await thread.call("items:add", { group: "a", rank: 1 });
  expect(readRun(thread.guard)).toBeNull();
  void thread.call("items:add", { group: "a", rank: 2 }); // same batch or the one before: answered means committed
  const answered = thread.batches.length;
  void thread.call("runtime:spin");
  expect(await shownRun(thread)).toMatchObject({ kind: "call" });
  await thread.worker.terminate();
  const next = new Thread();
  await next.load();
  const { value } = await next.call("items:list", { group: "a" });
  expect(JSON.parse(value).length).toBe(thread.batches.slice(answered).length === 0 ? 1 : 2);
});

test("a scheduled function that does not end is shown by its job, and has failed in the next thread", async () => {
  const thread = new Thread();
  await thread.load();
  // Late enough that it is not due in the batch that answers this call, however slow the machine.
  const { value } = await thread.call("jobs:later", { delayMs: 500, path: "jobs:spin", args: {} });
  const job = JSON.parse(value);
  expect(await shownRun(thread)).toEqual({ kind: "job", job });
  await thread.worker.terminate();
  const next = new Thread({ job, message: "Function execution timed out (maximum duration: 1s)" });
  await next.load();
  const { state } = JSON.parse((await next.call("jobs:job", { id: job })).value);
  expect(state).toEqual({ kind: "failed", error: "Function execution timed out (maximum duration: 1s)" });
  expect(JSON.parse((await next.call("jobs:bag")).value)).toEqual([]);
});

test("a subscription that does not end when it runs again is shown by its number", async () => {
  const thread = new Thread();
  await thread.load();
  await thread.ask({
    op: "subscribe",
    sub: 77,
    path: "bag:spinWhenFull",
    args: "[{}]",
    caller: ADMIN,
    journal: null,
  });
  void thread.call("bag:add", { documents: [{ a: 1 }] });
  // The mutation itself may be what is seen first.
  await expect.poll(() => shownRun(thread)).toEqual({ kind: "update", sub: 77 });
});

test("a rejected promise that nobody awaits does not end the thread", async () => {
  const thread = new Thread();
  await thread.load();
  expect(await thread.call("runtime:leaveRejection")).toMatchObject({ ok: false });
  expect(await thread.call("items:noop")).toMatchObject({ ok: true });
});

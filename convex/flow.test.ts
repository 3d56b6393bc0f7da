import { describe, expect, test, vi } from "vitest";
import { api, internal } from "./_generated/api";
import { ACCEPT_MS, CANCEL_GRACE_MS, IDLE_LEASE_MS, INBOX_BYTES, LEASE_MS } from "./constants";
import { KEYS, useDeployment } from "./setup.testing";

const at = useDeployment();

describe("from submit to result", () => {
  test("a task reaches a worker with its input, and its result is kept", async () => {
    const worker = await at.worker();
    const { task, run, assignment } = await at.assigned(worker, { input: '{"$say":"héllo"}' });
    expect(assignment).toMatchObject({
      task,
      attempt: 1,
      agent: "echo",
      kind: "python",
      input: '{"$say":"héllo"}',
    });
    const answer = await worker.finish(run, { kind: "succeeded", output: '"done"' });
    expect(answer.results).toEqual([{ run, accepted: true, reason: null }]);
    expect(await at.task(task)).toMatchObject({
      status: "succeeded",
      attempt: 1,
      output: '"done"',
      error: null,
    });
    expect(await at.history(task)).toEqual(["task_submitted", "run_assigned", "task_succeeded"]);
  });

  test("work that was there first waits for the first worker", async () => {
    const task = await at.submit();
    await at.pass();
    expect(await at.task(task)).toMatchObject({ status: "pending" });
    const worker = await at.worker("late");
    await at.pass();
    expect((await worker.inbox()).assigned.map((item) => item.task)).toEqual([task]);
  });

  test("a worker holds no more than its capacity, and gets more as it finishes", async () => {
    const worker = await at.worker("w", { capacity: 2 });
    for (let i = 0; i < 5; i++) await at.submit();
    const seen: number[] = [];
    for (let left = 5; left > 0; left -= seen.at(-1)!) {
      await at.pass();
      const { assigned } = await worker.inbox();
      seen.push(assigned.length);
      await worker.finishAll();
    }
    expect(seen).toEqual([2, 2, 1]);
  });

  test("higher priority goes first, oldest first within one, and waiting counts", async () => {
    const plain = await at.submit();
    await at.pass(1);
    const later = await at.submit();
    const urgent = await at.submit({ priority: 5 });
    const worker = await at.worker("w", { capacity: 1 });
    const order = [];
    for (let i = 0; i < 3; i++) {
      await at.pass();
      const [next] = (await worker.inbox()).assigned;
      order.push(next!.task);
      await worker.finish(next!.run);
    }
    expect(order).toEqual([urgent, plain, later]);
  });

  test("a time that has passed means now, and passes nobody in line", async () => {
    const first = await at.submit();
    await at.pass(10);
    const second = await at.submit({ runAt: 0 });
    const worker = await at.worker("w", { capacity: 1 });
    await at.pass();
    const [next] = (await worker.inbox()).assigned;
    expect(next!.task).toBe(first);
    await worker.finish(next!.run);
    await at.pass();
    expect((await worker.inbox()).assigned.map((item) => item.task)).toEqual([second]);
  });

  test("a delayed task is not given before its time, and is at it", async () => {
    const worker = await at.worker();
    const task = await at.submit({ delayMs: 5_000 });
    await at.pass(4_900);
    expect((await worker.inbox()).assigned).toEqual([]);
    expect(await at.task(task)).toMatchObject({ status: "delayed" });
    await at.pass(200);
    expect((await worker.inbox()).assigned).toHaveLength(1);
  });

  test("a large input stays out of the inbox and is fetched by its run's owner alone", async () => {
    const worker = await at.worker();
    const other = await at.worker("other", { capacity: 1 });
    const input = JSON.stringify("x".repeat(9_000));
    const { run, assignment } = await at.assigned(worker, { input });
    expect(assignment.input).toBeNull();
    const ask = (session: typeof worker.session) =>
      at.t.query(api.worker.input, { key: KEYS.worker, session, run });
    expect(await ask(worker.session)).toBe(input);
    await expect(ask(other.session)).rejects.toThrow("session_ended");
  });

  test("a burst of large inputs reaches its worker in pieces, and all of it", async () => {
    const worker = await at.worker("w", { capacity: 200 });
    const input = JSON.stringify("x".repeat(8_000));
    for (let i = 0; i < 140; i++) await at.submit({ input });
    await at.pass();
    const first = (await worker.inbox()).assigned;
    expect(first).toHaveLength(Math.ceil(INBOX_BYTES / input.length));
    const { assigned: rest } = await worker.sync({ accepted: first.map((item) => item.run) });
    expect(rest).toHaveLength(140 - first.length);
    expect((await worker.inbox()).assigned).toEqual(rest);
  });

  test("the same dedup key is the same task, for each tenant", async () => {
    await at.worker();
    const task = await at.submit({ dedupKey: "k" });
    const again = await at.t.mutation(api.tasks.submit, {
      key: KEYS.submit,
      tasks: [
        { agent: "echo", input: "1", dedupKey: "k" },
        { agent: "echo", input: "1", dedupKey: "k", tenant: "other" },
      ],
    });
    expect(again).toMatchObject([
      { ok: true, task, duplicate: true },
      { ok: true, duplicate: false },
    ]);
  });
});

describe("when things go wrong", () => {
  test("a failure is recorded and the next attempt follows within its bound", async () => {
    const worker = await at.worker();
    const { run, task } = await at.assigned(worker);
    const error = { code: "boom", message: "it broke" };
    await worker.finish(run, { kind: "failed", error, retryable: true, notBeforeMs: null });
    expect(await at.task(task)).toMatchObject({ error, attempt: 1 });
    await at.pass(1_050);
    const [again] = (await worker.inbox()).assigned;
    expect(again).toMatchObject({ task, attempt: 2 });
    await worker.finish(again!.run);
    expect(await at.history(task)).toEqual([
      "task_submitted",
      "run_assigned",
      "task_retried",
      "run_assigned",
      "task_succeeded",
    ]);
  });

  test("a silent worker loses its runs when its lease ends, and all its late writes are refused", async () => {
    const zombie = await at.worker("zombie", { capacity: 1 });
    const { run, task } = await at.assigned(zombie);
    await zombie.sync({ accepted: [run] });
    await at.pass(LEASE_MS - 100);
    expect(await at.task(task)).toMatchObject({ status: "running" });
    await at.pass(2_000);
    const other = await at.worker("other");
    await at.pass(1_100);
    const [again] = (await other.inbox()).assigned;
    expect(again).toMatchObject({ task, attempt: 2 });
    const late = await zombie.sync({
      chunks: [{ run, seq: 0, call: 0, attempt: 0, kind: "text", text: "late" }],
      finished: [{ run, outcome: { kind: "succeeded", output: '"late"' }, usage: null }],
    });
    expect(late).toMatchObject({ live: false, lost: [run], results: [{ accepted: false }], assigned: [] });
    await other.finish(again!.run, { kind: "succeeded", output: '"right"' });
    expect(await at.task(task)).toMatchObject({ status: "succeeded", output: '"right"' });
    expect((await at.t.query(api.runs.tail, { key: KEYS.submit, run, after: -1 })).chunks).toEqual([]);
    expect(await at.history(task)).toContain("run_refused");
  });

  test("a run that its worker never takes goes to another, with no attempt burnt", async () => {
    const deaf = await at.worker("deaf", { capacity: 1 });
    const { task } = await at.assigned(deaf);
    await at.pass(ACCEPT_MS + 50);
    expect((await deaf.inbox()).live).toBe(false);
    const other = await at.worker("other");
    await at.pass(1_100);
    const [again] = (await other.inbox()).assigned;
    expect(again).toMatchObject({ task, attempt: 2 });
  });

  test("a worker that registers again ends its old session with its first word", async () => {
    const old = await at.worker("w", { incarnation: "1", silent: true });
    const { task } = await at.assigned(old);
    const young = await at.worker("w", { incarnation: "2", silent: true });
    expect(await old.inbox()).toMatchObject({ live: true });
    expect(await young.sync()).toMatchObject({ live: true });
    expect(await old.inbox()).toMatchObject({ live: false, ended: "replaced" });
    expect(await old.sync()).toMatchObject({ live: false, ended: "replaced" });
    await at.pass(1_100);
    expect((await young.inbox()).assigned).toMatchObject([{ task, attempt: 2 }]);
    const repeated = await at.worker("w", { incarnation: "2", silent: true });
    expect(repeated.session).toBe(young.session);
  });

  test("a registration that comes when its process has gone takes nothing from a newer one", async () => {
    const old = await at.worker("w", { incarnation: "1", silent: true });
    const young = await at.worker("w", { incarnation: "3", silent: true });
    await young.sync();
    const { task, run } = await at.begun(young);
    const late = await at.worker("w", { incarnation: "2", silent: true, queues: ["other"] });
    await at.leap(LEASE_MS / 2);
    expect(await young.sync()).toMatchObject({ live: true });
    await at.assigned(young); // and it is given more
    expect(await young.finish(run)).toMatchObject({ live: true });
    expect((await at.task(task)).status).toBe("succeeded");
    expect(await old.inbox()).toMatchObject({ ended: "replaced" });
    await at.leap(IDLE_LEASE_MS);
    expect(await late.inbox()).toMatchObject({ live: false, ended: "heartbeat_timeout" }); // nobody holds it
  });

  test("the first word of a session takes nothing from one that registered after it", async () => {
    const first = await at.worker("w", { incarnation: "1", silent: true });
    const second = await at.worker("w", { incarnation: "2", silent: true });
    vi.advanceTimersByTime(1);
    const third = await at.worker("w", { incarnation: "3", silent: true, queues: ["other"] });
    expect(await third.drain(false)).toEqual({ live: true });
    expect(await second.sync()).toMatchObject({ live: false, ended: "replaced" });
    expect(await second.drain(false)).toEqual({ live: false });
    expect(await first.sync()).toMatchObject({ live: false, ended: "replaced" });
    expect(await third.sync()).toMatchObject({ live: true });
    const { workers } = await at.t.query(api.dashboard.workers, { key: KEYS.viewer });
    expect(workers.filter(({ name }) => name === "w")).toMatchObject([
      { live: true, draining: true, queues: ["other"] },
    ]);
  });

  test("a session takes over a worker whose holder has gone meanwhile", async () => {
    const first = await at.worker("w", { incarnation: "1", silent: true });
    const second = await at.worker("w", { incarnation: "2", silent: true });
    await first.drain();
    await second.sync();
    await at.assigned(second);
  });

  test("a run that takes its process down is isolated and ends after its attempts; its neighbours lose none", async () => {
    const poison = await at.submit();
    const neighbour = await at.submit();
    for (let crash = 1; crash <= 3; crash++) {
      const worker = await at.worker(`w${crash}`);
      await at.pass(10_000);
      const { assigned } = await worker.inbox();
      const bad = assigned.find((item) => item.task === poison)!;
      expect(bad.isolate).toBe(crash > 1);
      await worker.sync({ accepted: assigned.map((item) => item.run) });
      await at.t.mutation(api.worker.crashed, { key: KEYS.worker, session: worker.session, blamed: bad.run });
    }
    expect(await at.task(poison)).toMatchObject({
      status: "failed",
      attempt: 3,
      error: { code: "worker_died" },
    });
    const worker = await at.worker("last");
    await at.pass(10_000);
    await worker.finish((await worker.inbox()).assigned[0]!.run);
    expect(await at.task(neighbour)).toMatchObject({ status: "succeeded", attempt: 4 });
  });

  test("a task that may run once goes to another worker if its run was never accepted, and to none if it was", async () => {
    const deaf = await at.worker("deaf", { capacity: 1 });
    const { task, assignment } = await at.assigned(deaf, { retry: { maxAttempts: 1 } });
    expect(assignment.once).toBe(true); // so its worker does not begin before the accept is acknowledged
    await at.pass(ACCEPT_MS + 50);
    const other = await at.worker("other", { capacity: 1 });
    await at.pass(2_000);
    const [again] = (await other.inbox()).assigned;
    expect(again).toMatchObject({ task, attempt: 2 });
    await other.sync({ accepted: [again!.run] });
    await at.pass(LEASE_MS + 100);
    expect(await at.task(task)).toMatchObject({ status: "failed", error: { code: "heartbeat_timeout" } });
  });

  test("blame that comes after the worker was replaced is still laid", async () => {
    const old = await at.worker("w", { incarnation: "1" });
    const { run, task } = await at.assigned(old, { retry: { maxAttempts: 2 } });
    await old.sync({ accepted: [run] });
    const young = await at.worker("w", { incarnation: "2" });
    const report = { key: KEYS.worker, session: old.session, blamed: run };
    await at.t.mutation(api.worker.crashed, report);
    await at.t.mutation(api.worker.crashed, report); // sent twice, laid once
    await at.pass(2_100);
    expect((await young.inbox()).assigned).toMatchObject([{ task, isolate: true }]);
  });

  test("a run handed back keeps its task's place in line", async () => {
    const worker = await at.worker("w", { capacity: 1 });
    const { run, task } = await at.assigned(worker);
    await at.pass(10);
    await at.submit();
    await worker.finish(run, { kind: "released" });
    await at.pass();
    expect((await worker.inbox()).assigned.map((item) => item.task)).toEqual([task]);
  });

  test("an agent that asks for an endless wait stops no clock", async () => {
    const worker = await at.worker();
    const { run, task } = await at.assigned(worker);
    const error = { code: "later", message: "later" };
    await worker.finish(run, { kind: "failed", error, retryable: true, notBeforeMs: 1e300 });
    expect(await at.task(task)).toMatchObject({ status: "delayed" });
    const soon = await at.submit({ delayMs: 1_000 });
    await at.pass(1_100);
    expect((await worker.inbox()).assigned.map((item) => item.task)).toEqual([soon]);
  });

  test("a draining worker gets nothing more and hands back what it leaves, with no attempt burnt", async () => {
    const worker = await at.worker();
    const { task } = await at.assigned(worker);
    const drain = (final: boolean) =>
      at.t.mutation(api.worker.drain, { key: KEYS.worker, session: worker.session, final });
    expect(await drain(false)).toEqual({ live: true });
    await at.submit();
    await at.pass();
    expect((await worker.inbox()).assigned).toHaveLength(1);
    expect(await drain(true)).toEqual({ live: false });
    expect(await drain(true)).toEqual({ live: false });
    expect(await at.task(task)).toMatchObject({ status: "pending", error: null });
  });

  test("waiting work is cancelled at once, running work through its worker", async () => {
    const worker = await at.worker("w", { capacity: 1 });
    const { run, task } = await at.assigned(worker);
    const waiting = await at.submit();
    const delayed = await at.submit({ delayMs: 1_000 });
    expect(await at.cancel(waiting)).toEqual({ status: "cancelled" });
    expect(await at.cancel(delayed)).toEqual({ status: "cancelled" });
    expect(await at.cancel(task)).toEqual({ status: "running" });
    const { controls } = await worker.sync({ accepted: [run] });
    expect(controls).toMatchObject([{ kind: "cancel", run }]);
    const done = await worker.sync({
      finished: [{ run, outcome: { kind: "cancelled" }, usage: null }],
      acknowledged: controls.map((item) => item.control),
    });
    expect(done.controls).toEqual([]);
    expect(await at.task(task)).toMatchObject({ status: "cancelled" });
    await at.pass(5_000);
    expect((await worker.inbox()).assigned).toEqual([]);
  });

  test("a cancelled run is closed after its grace even if the worker keeps silent about it", async () => {
    const worker = await at.worker();
    const { run, task } = await at.assigned(worker);
    await worker.sync({ accepted: [run] });
    await at.cancel(task);
    for (let waited = 0; waited <= CANCEL_GRACE_MS; waited += 5_000) {
      await worker.sync();
      await at.pass(5_000);
    }
    expect(await at.task(task)).toMatchObject({ status: "cancelled" });
  });

  test("an idle worker that goes away is noticed by the watchdog", async () => {
    const worker = await at.worker();
    await worker.sync();
    await at.pass(IDLE_LEASE_MS + 50);
    await at.t.mutation(internal.timers.watchdog, {});
    expect((await worker.inbox()).live).toBe(false);
  });
});

describe("deadlines and labels", () => {
  test("a task that has not begun in time fails, and one that began in time does not", async () => {
    const late = await at.submit({ startWithinMs: 5_000 });
    await at.pass(4_900);
    expect(await at.task(late)).toMatchObject({ status: "pending" });
    await at.pass(200);
    expect(await at.task(late)).toMatchObject({
      status: "failed",
      error: { code: "start_deadline", message: "it had not begun within 5000 ms of its submission" },
    });
    const worker = await at.worker();
    const { task } = await at.assigned(worker, { startWithinMs: 5_000 });
    await at.pass(6_000);
    expect(await at.task(task)).toMatchObject({ status: "running" });
  });

  test("a deadline that is over when the task is due is refused, but for a batch, which may be full sooner", async () => {
    const batch = { key: "b", maxItems: 2, maxMs: 5_000 };
    const answers = await at.answersTo([
      { delayMs: 5_000, startWithinMs: 5_000 },
      { runAt: Date.now() + 5_000, endWithinMs: 4_000 },
      { debounce: { key: "d", forMs: 5_000 }, startWithinMs: 1 },
      { delayMs: 5_000, startWithinMs: 5_001, endWithinMs: 5_001 },
      { runAt: Date.now() - 5_000, startWithinMs: 1 },
      { batch, startWithinMs: 1_000 },
    ]);
    expect(answers.map((answer) => answer.ok)).toEqual([false, false, false, true, true, true]);
    expect(answers.slice(0, 2)).toMatchObject([
      { message: "startWithinMs: 5000 ms are over when the task is due, in 5000 ms." },
      { message: "endWithinMs: 4000 ms are over when the task is due, in 5000 ms." },
    ]);
  });

  test("a run that is accepted by its result alone has begun, unless it was handed back", async () => {
    const worker = await at.worker();
    const failed = {
      kind: "failed",
      error: { code: "e", message: "no" },
      retryable: true,
      notBeforeMs: 9_000,
    } as const;
    const ways = [
      failed,
      { kind: "suspended", step: "nap", until: { ms: 9_000 } },
      { kind: "released", notBeforeMs: 9_000 },
    ] as const;
    const tasks = [];
    for (const outcome of ways) {
      const { task, run } = await at.assigned(worker, { startWithinMs: 5_000 });
      await worker.finish(run, outcome);
      tasks.push(task);
    }
    await at.pass(6_000);
    const [tried, sleeps, back] = await Promise.all(tasks.map((task) => at.task(task)));
    expect([tried!.status, sleeps!.status]).toEqual(["delayed", "sleeping"]);
    expect(back).toMatchObject({ status: "failed", error: { code: "start_deadline" } });
  });

  test("a task that is not over in time fails, whether it waits or runs", async () => {
    const waits = await at.submit({ queue: "elsewhere", endWithinMs: 5_000 });
    const worker = await at.worker();
    const { task, run } = await at.assigned(worker, { endWithinMs: 5_000 });
    await worker.sync({ accepted: [run] });
    await at.pass(5_100);
    for (const id of [waits, task]) {
      expect(await at.task(id)).toMatchObject({ status: "failed", error: { code: "end_deadline" } });
    }
    const answer = await worker.finish(run);
    expect(answer.results).toEqual([{ run, accepted: false, reason: "the run has ended: failed" }]);
    expect(await at.history(waits)).toEqual(["task_submitted", "task_failed"]);
  });

  test("a task runs only on a worker that carries all its labels, and hides no other", async () => {
    const plain = await at.worker("plain");
    const gpu = await at.worker("gpu", { labels: ["gpu", "eu"] });
    const picky = await at.submit({ labels: ["gpu", "eu"] });
    const pickier = await at.submit({ labels: ["gpu", "us"] });
    const any = await at.submit();
    await at.pass();
    expect((await gpu.inbox()).assigned.map((item) => item.task)).toContain(picky);
    expect((await plain.inbox()).assigned.map((item) => item.task)).not.toContain(picky);
    expect(await at.task(any)).toMatchObject({ status: "running" });
    expect(await at.task(pickier)).toMatchObject({ status: "pending" });
  });

  test("bad labels, keys and deadlines are refused by name", async () => {
    const labels = Array.from({ length: 21 }, (_, i) => `l${i}`);
    await expect(at.submit({ labels })).rejects.toThrow("labels: 21 given, at most 20.");
    await expect(at.submit({ labels: ["a b"] })).rejects.toThrow('labels: "a b" is not a name');
    await expect(at.submit({ key: "" })).rejects.toThrow("key: 0 characters; use 1 to 256.");
    await expect(at.submit({ key: "k".repeat(257) })).rejects.toThrow("key: 257 characters");
    await expect(at.submit({ endWithinMs: 0 })).rejects.toThrow("endWithinMs: 0 is outside 1 to");
    await at.submit({ labels: labels.slice(0, 20), key: "k".repeat(256), endWithinMs: 1 });
  });
});

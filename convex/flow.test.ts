import { describe, expect, test } from "vitest";
import { api, internal } from "./_generated/api";
import {
  ACCEPT_MS,
  CANCEL_GRACE_MS,
  IDLE_LEASE_MS,
  INBOX_BYTES,
  LEASE_MS,
  SET_ASIDE_MS,
  TIMEOUT_GRACE_MS,
} from "./constants";
import { KEYS, SUCCEEDED, probe, useDeployment, type TestWorker } from "./setup.testing";

const at = useDeployment();

/** Submit one task and let `worker` have it. */
async function assigned(worker: TestWorker, spec = {}) {
  const task = await at.submit(spec);
  await at.pass();
  const { assigned } = await worker.inbox();
  expect(assigned).toHaveLength(1);
  return { task, run: assigned[0]!.run, assignment: assigned[0]! };
}

describe("from submit to result", () => {
  test("a task reaches a worker with its input, and its result is kept", async () => {
    const worker = await at.worker();
    const { task, run, assignment } = await assigned(worker, { input: '{"$say":"héllo"}' });
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
    const { run, assignment } = await assigned(worker, { input });
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

describe("sync", () => {
  test("a repeat has one effect, and its answer carries what the first did", async () => {
    const worker = await at.worker();
    const second = await assigned(worker);
    await worker.sync({ accepted: [second.run] });
    const first = await assigned(worker);
    await worker.sync({ accepted: [first.run] });
    await at.cancel(second.task);
    const third = await at.submit();
    await at.pass();

    const chunk = { run: first.run, seq: 0, call: 0, attempt: 0, kind: "text" as const, text: "hello" };
    const body = worker.body({
      chunks: [chunk],
      finished: [{ run: first.run, outcome: { kind: "succeeded", output: "1" }, usage: null }],
    });
    const answer = await worker.send(body);
    await at.pass();
    const repeat = await worker.send(body);
    expect(repeat).toEqual(answer);
    expect(answer.assigned.map((item) => item.task)).toEqual([third]);
    expect(answer.controls).toMatchObject([{ kind: "cancel", run: second.run }]);
    expect(answer.results).toEqual([{ run: first.run, accepted: true, reason: null }]);
    const { chunks } = await at.t.query(api.runs.tail, { key: KEYS.submit, run: first.run, after: -1 });
    expect(chunks).toEqual([chunk]);
    expect((await at.history(first.task)).filter((type) => type === "task_succeeded")).toHaveLength(1);
  });

  test("a repeat names the runs that were lost", async () => {
    const worker = await at.worker();
    const { run, task } = await assigned(worker, { timeoutMs: 1_000 });
    await worker.sync({ accepted: [run] });
    await at.pass(1_000 + TIMEOUT_GRACE_MS + 50);
    expect((await at.task(task)).error?.code).toBe("timed_out");
    const body = worker.body({
      finished: [{ run, outcome: SUCCEEDED, usage: null }],
    });
    const answer = await worker.send(body);
    expect(answer).toMatchObject({ lost: [run], results: [{ accepted: false }] });
    expect(await worker.send(body)).toEqual(answer);
    expect((await at.history(task)).filter((type) => type === "run_refused")).toHaveLength(1);
  });

  test("a piece of text that is sent again under another number is kept once", async () => {
    const worker = await at.worker();
    const { run } = await assigned(worker);
    const chunk = (seq: number) => ({ run, seq, call: 0, attempt: 0, kind: "text" as const, text: `${seq}` });
    await worker.sync({ accepted: [run], chunks: [chunk(0), chunk(1)] });
    await worker.sync({ chunks: [chunk(1), chunk(2), chunk(2)] });
    const { chunks } = await at.t.query(api.runs.tail, { key: KEYS.submit, run, after: -1 });
    expect(chunks.map((kept) => kept.text)).toEqual(["0", "1", "2"]);
  });

  test("text of another worker's run is refused", async () => {
    const worker = await at.worker();
    const { run } = await assigned(worker);
    const thief = await at.worker("thief");
    const answer = await thief.sync({
      accepted: [run],
      chunks: [{ run, seq: 0, call: 0, attempt: 0, kind: "text", text: "mine" }],
    });
    expect(answer.lost).toEqual([run]);
    expect((await at.t.query(api.runs.tail, { key: KEYS.submit, run, after: -1 })).chunks).toEqual([]);
  });

  test("an idle worker is told to be quiet, a busy one to keep its lease, a watched one to hurry", async () => {
    const worker = await at.worker();
    expect(await worker.sync()).toMatchObject({ leaseMs: IDLE_LEASE_MS, nextSyncMs: 60_000 });
    const { run, task } = await assigned(worker);
    expect(await worker.sync({ accepted: [run] })).toMatchObject({ leaseMs: LEASE_MS, nextSyncMs: 5_000 });
    await at.t.mutation(api.runs.watch, { key: KEYS.submit, task, forMs: 10_000 });
    expect(await worker.sync()).toMatchObject({ watched: [run], nextSyncMs: 250 });
    for (const forMs of [-1, NaN]) {
      await expect(at.t.mutation(api.runs.watch, { key: KEYS.submit, task, forMs })).rejects.toThrow(
        `forMs: ${forMs} is outside 0`,
      );
    }
    expect(await worker.finish(run)).toMatchObject({ leaseMs: IDLE_LEASE_MS });
  });

  test("a request of one item too many is refused whole", async () => {
    const worker = await at.worker();
    const { run } = await assigned(worker);
    const chunks = (count: number) =>
      Array.from({ length: count }, (_, seq) => ({
        run,
        seq,
        call: 0,
        attempt: 0,
        kind: "text" as const,
        text: "x",
      }));
    await expect(worker.sync({ chunks: chunks(257) })).rejects.toThrow("at most 256");
    expect(await worker.sync({ chunks: chunks(256) })).toMatchObject({ live: true });
  });

  test("a run named twice in one request is ended once", async () => {
    const worker = await at.worker();
    const { run, task } = await assigned(worker);
    const released = { run, outcome: { kind: "released" as const }, usage: null };
    const answer = await worker.sync({ finished: [released, released] });
    expect(answer.results.map((result) => result.accepted)).toEqual([true, true]);
    await at.pass();
    expect((await worker.inbox()).assigned).toHaveLength(1);
    expect((await at.history(task)).filter((type) => type === "task_retried")).toHaveLength(1);
  });

  test("a worker whose watched run has ended is told to be quiet again", async () => {
    const worker = await at.worker();
    const { run, task } = await assigned(worker);
    await worker.sync({ accepted: [run] });
    await at.t.mutation(api.runs.watch, { key: KEYS.submit, task, forMs: 60_000 });
    await worker.finish(run);
    expect(await worker.sync()).toMatchObject({ nextSyncMs: 60_000 });
  });

  test("an output that cannot be kept fails its run alone", async () => {
    const worker = await at.worker();
    const { run, task } = await assigned(worker);
    const finished = [{ run, outcome: { kind: "succeeded" as const, output: "not json" }, usage: null }];
    const body = worker.body({ finished });
    const answer = await worker.send(body);
    expect(await worker.send(body)).toEqual(answer);
    expect(await at.task(task)).toMatchObject({ status: "failed", error: { code: "invalid_output" } });
  });
});

describe("when things go wrong", () => {
  test("a failure is recorded and the next attempt follows within its bound", async () => {
    const worker = await at.worker();
    const { run, task } = await assigned(worker);
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
    const { run, task } = await assigned(zombie);
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
    const { task } = await assigned(deaf);
    await at.pass(ACCEPT_MS + 50);
    expect((await deaf.inbox()).live).toBe(false);
    const other = await at.worker("other");
    await at.pass(1_100);
    const [again] = (await other.inbox()).assigned;
    expect(again).toMatchObject({ task, attempt: 2 });
  });

  test("a worker that registers again ends its old session at once", async () => {
    const old = await at.worker("w", { incarnation: "1" });
    const { task } = await assigned(old);
    const young = await at.worker("w", { incarnation: "2" });
    expect(await old.inbox()).toMatchObject({ live: false, ended: "replaced" });
    expect(await old.sync()).toMatchObject({ live: false, ended: "replaced" });
    await at.pass(1_100);
    expect((await young.inbox()).assigned).toMatchObject([{ task, attempt: 2 }]);
    const repeated = await at.worker("w", { incarnation: "2" });
    expect(repeated.session).toBe(young.session);
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
    const { task, assignment } = await assigned(deaf, { retry: { maxAttempts: 1 } });
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
    const { run, task } = await assigned(old, { retry: { maxAttempts: 2 } });
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
    const { run, task } = await assigned(worker);
    await at.pass(10);
    await at.submit();
    await worker.finish(run, { kind: "released" });
    await at.pass();
    expect((await worker.inbox()).assigned.map((item) => item.task)).toEqual([task]);
  });

  test("an agent that asks for an endless wait stops no clock", async () => {
    const worker = await at.worker();
    const { run, task } = await assigned(worker);
    const error = { code: "later", message: "later" };
    await worker.finish(run, { kind: "failed", error, retryable: true, notBeforeMs: 1e300 });
    expect(await at.task(task)).toMatchObject({ status: "delayed" });
    const soon = await at.submit({ delayMs: 1_000 });
    await at.pass(1_100);
    expect((await worker.inbox()).assigned.map((item) => item.task)).toEqual([soon]);
  });

  test("a draining worker gets nothing more and hands back what it leaves, with no attempt burnt", async () => {
    const worker = await at.worker();
    const { task } = await assigned(worker);
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
    const { run, task } = await assigned(worker);
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
    const { run, task } = await assigned(worker);
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

describe("the loops", () => {
  test("are asleep when nothing is due: no job is scheduled", async () => {
    const worker = await at.worker();
    const { run } = await assigned(worker);
    await worker.finish(run);
    await at.pass(20_000);
    const pending = await at.t.query(probe.pendingJobs, {});
    expect(pending).toEqual([]);
  });

  test("a loop that died is started again", async () => {
    const task = await at.submit();
    await at.pass();
    await at.t.mutation(probe.strandDispatch, { again: false });
    await at.worker();
    await at.pass();
    expect(await at.task(task)).toMatchObject({ status: "pending" });
    await at.t.mutation(internal.timers.watchdog, {});
    await at.pass();
    expect(await at.task(task)).toMatchObject({ status: "running" });
  });

  test("a task on which the loop dies twice is set aside for a while, and the others go on", async () => {
    const culprit = await at.submit();
    const innocent = await at.submit();
    await at.pass();
    await at.t.mutation(probe.strandDispatch, { again: true });
    await at.submit({ priority: 100 }); // it came after the death, and is at the head of the line now
    await at.worker("w", { capacity: 5 });
    await at.t.mutation(internal.timers.watchdog, {});
    await at.pass();
    expect(await at.task(culprit)).toMatchObject({ status: "delayed" });
    expect(await at.history(culprit)).toContain("task_set_aside");
    expect(await at.task(innocent)).toMatchObject({ status: "running" });
    await at.pass(SET_ASIDE_MS);
    await at.worker("later");
    await at.pass();
    expect((await at.history(culprit)).at(-1)).toBe("run_assigned");
  });

  test("a task removed by hand while it runs takes nobody with it", async () => {
    const worker = await at.worker("w", { capacity: 40 });
    const [removed] = [
      await at.submit(),
      ...(await Promise.all(Array.from({ length: 30 }, () => at.submit()))),
    ];
    await at.pass();
    await worker.sync({ accepted: (await worker.inbox()).assigned.map((item) => item.run) });
    await at.t.mutation(probe.removeTask, { task: removed });
    expect(await worker.sync()).toMatchObject({ live: true });
    await at.pass(LEASE_MS + 100);
    expect(await at.t.query(probe.ownerlessRuns, {})).toBe(0);
    const other = await at.worker("other", { capacity: 40 });
    await at.pass(2_000);
    expect((await other.inbox()).assigned).toHaveLength(30);
  });

  test("leases that all end together are handled in pages", async () => {
    const lost = [];
    for (let i = 0; i < 10; i++) {
      const worker = await at.worker(`w${i}`, { capacity: 30 });
      for (let j = 0; j < 30; j++) await at.submit();
      await at.pass();
      const { assigned } = await worker.inbox();
      await worker.sync({ accepted: assigned.map((item) => item.run) });
      lost.push(...assigned);
    }
    await at.pass(LEASE_MS + 2_000);
    expect(lost).toHaveLength(300);
    expect(await at.t.query(probe.ownerlessRuns, {})).toBe(0);
    for (const { task } of lost) expect(["pending", "delayed"]).toContain((await at.task(task)).status);
  });

  test("lanes take turns however little room there is at a time", async () => {
    for (let i = 0; i < 4; i++) await at.submit({ tenant: "a" });
    for (let i = 0; i < 2; i++) await at.submit({ tenant: "b", priority: 1_000 });
    const worker = await at.worker("w", { capacity: 1 });
    const order = [];
    for (let i = 0; i < 6; i++) {
      await at.pass();
      const [next] = (await worker.inbox()).assigned;
      order.push((await at.task(next!.task)).tenant);
      await worker.finish(next!.run);
    }
    expect(order).toEqual(["a", "b", "a", "b", "a", "a"]);
  });

  test("lanes that nobody can run hide nothing, however many they are, and cost nothing while they wait", async () => {
    await at.worker("first", { incarnation: "2", brings: ["ghost"] });
    const first = await at.worker("first", { incarnation: "3", brings: ["ghost"] });
    await first.drain();
    for (let i = 0; i < 150; i++) await at.submit({ agent: "ghost", tenant: `t${i}` });
    const worker = await at.worker();
    const task = await at.submit({ agent: "echo", queue: "default", tenant: "z" });
    await at.pass();
    expect((await worker.inbox()).assigned.map((item) => item.task)).toEqual([task]);
    expect(await at.t.query(probe.pendingJobs, {})).toEqual(["timers:tick"]);
  });

  test("a bad item rolls back alone", async () => {
    const [bad, good] = [await at.submit(), await at.submit()];
    await at.pass();
    await at.t.mutation(probe.removeTask, { task: bad });
    const worker = await at.worker();
    await at.pass();
    expect((await worker.inbox()).assigned.map((item) => item.task)).toEqual([good]);
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
    const { task } = await assigned(worker, { startWithinMs: 5_000 });
    await at.pass(6_000);
    expect(await at.task(task)).toMatchObject({ status: "running" });
  });

  test("a task that is not over in time fails, whether it waits or runs", async () => {
    const waits = await at.submit({ delayMs: 60_000, endWithinMs: 5_000 });
    const worker = await at.worker();
    const { task, run } = await assigned(worker, { endWithinMs: 5_000 });
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

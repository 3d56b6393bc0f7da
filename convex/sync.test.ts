import { describe, expect, test } from "vitest";
import { api } from "./_generated/api";
import { IDLE_LEASE_MS, LEASE_MS, TIMEOUT_GRACE_MS } from "./constants";
import { KEYS, SUCCEEDED, useDeployment } from "./setup.testing";

const at = useDeployment();

describe("sync", () => {
  test("a repeat has one effect, and its answer carries what the first did", async () => {
    const worker = await at.worker();
    const second = await at.assigned(worker);
    await worker.sync({ accepted: [second.run] });
    const first = await at.assigned(worker);
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
    const { run, task } = await at.assigned(worker, { timeoutMs: 1_000 });
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
    const { run } = await at.assigned(worker);
    const chunk = (seq: number) => ({ run, seq, call: 0, attempt: 0, kind: "text" as const, text: `${seq}` });
    await worker.sync({ accepted: [run], chunks: [chunk(0), chunk(1)] });
    await worker.sync({ chunks: [chunk(1), chunk(2), chunk(2)] });
    const { chunks } = await at.t.query(api.runs.tail, { key: KEYS.submit, run, after: -1 });
    expect(chunks.map((kept) => kept.text)).toEqual(["0", "1", "2"]);
  });

  test("text of another worker's run is refused", async () => {
    const worker = await at.worker();
    const { run } = await at.assigned(worker);
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
    const { run, task } = await at.assigned(worker);
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
    const { run } = await at.assigned(worker);
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
    const { run, task } = await at.assigned(worker);
    const released = { run, outcome: { kind: "released" as const }, usage: null };
    const answer = await worker.sync({ finished: [released, released] });
    expect(answer.results.map((result) => result.accepted)).toEqual([true, true]);
    await at.pass();
    expect((await worker.inbox()).assigned).toHaveLength(1);
    expect((await at.history(task)).filter((type) => type === "task_retried")).toHaveLength(1);
  });

  test("a worker whose watched run has ended is told to be quiet again", async () => {
    const worker = await at.worker();
    const { run, task } = await at.assigned(worker);
    await worker.sync({ accepted: [run] });
    await at.t.mutation(api.runs.watch, { key: KEYS.submit, task, forMs: 60_000 });
    await worker.finish(run);
    expect(await worker.sync()).toMatchObject({ nextSyncMs: 60_000 });
  });

  test("an output that cannot be kept fails its run alone", async () => {
    const worker = await at.worker();
    const { run, task } = await at.assigned(worker);
    const finished = [{ run, outcome: { kind: "succeeded" as const, output: "not json" }, usage: null }];
    const body = worker.body({ finished });
    const answer = await worker.send(body);
    expect(await worker.send(body)).toEqual(answer);
    expect(await at.task(task)).toMatchObject({ status: "failed", error: { code: "invalid_output" } });
  });
});

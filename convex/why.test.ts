import { describe, expect, test } from "vitest";
import { api } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { AHEAD_SHOWN, BACKLOG_QUEUES } from "./constants";
import { KEYS, probe, useDeployment } from "./setup.testing";

const at = useDeployment();

const key = KEYS.operator;
const why = (task: Id<"tasks">) => at.t.query(api.tasks.why, { key: KEYS.submit, task });
const codes = async (task: Id<"tasks">) => (await why(task)).reasons.map(({ code }) => code);
const backlog = () => at.t.query(api.tasks.backlog, { key: KEYS.submit });

describe("why", () => {
  test("names what stands in the way, from no worker to the end", async () => {
    const task = await at.submit({ labels: ["gpu"] });
    await at.pass();
    expect(await codes(task)).toEqual(["no_worker", "in_line"]);
    await at.worker("x", { queues: ["other"] });
    expect(await codes(task)).toEqual(["no_worker_for_queue", "in_line"]);
    await at.worker("y", { brings: [] });
    expect(await codes(task)).toEqual(["no_worker_for_agent", "in_line"]);
    await at.worker("z");
    expect(await codes(task)).toEqual(["no_worker_for_labels", "in_line"]);
    const { lane } = await why(task);
    await at.t.mutation(api.limits.pause, { key, kind: "lane", name: lane });
    const worker = await at.worker("gpu", { labels: ["gpu"] });
    await at.pass();
    expect(await codes(task)).toEqual(["scope_paused", "in_line"]);
    await at.t.mutation(api.limits.resume, { key, kind: "lane", name: lane });
    await at.pass();
    expect((await why(task)).reasons).toMatchObject([
      { code: "assigned", message: expect.stringContaining("gpu") as string },
    ]);
    const run = (await at.task(task)).run!;
    await worker.sync({ accepted: [run] });
    expect(await codes(task)).toEqual(["running"]);
    await at.t.mutation(api.tasks.cancel, { key, task });
    expect(await codes(task)).toEqual(["cancel_requested", "running"]);
    await worker.finish(run, { kind: "cancelled" });
    expect(await codes(task)).toEqual(["ended"]);
  });

  test("counts what is full and what is limited as the next pass will find it", async () => {
    const worker = await at.worker("w", { capacity: 2 });
    await at.t.mutation(api.limits.set, { key, kind: "tenant", name: "*", limit: 2 });
    const tasks = await at.submitAll([{}, {}, {}, {}]);
    await at.pass();
    expect((await why(tasks[3]!)).reasons).toMatchObject([
      { code: "scope_limit", message: expect.stringContaining("2 of 2") as string },
      { code: "full", message: expect.stringContaining("2 of 2") as string },
      { code: "in_line", message: expect.stringContaining("1 of its lane") as string },
    ]);
    await at.t.mutation(api.limits.pause, { key, kind: "system" });
    await worker.finish((await worker.inbox()).assigned[0]!.run);
    expect(await codes(tasks[2]!)).toEqual(["scope_paused", "in_line"]);
  });

  test("tells when the next token comes, and when a delay ends", async () => {
    await at.worker("w");
    const rate = { count: 1, perMs: 10_000, burst: 1 };
    await at.t.mutation(api.limits.set, { key, kind: "agent", name: "echo", rate });
    const [, second] = await at.submitAll([{}, {}]);
    const started = Date.now();
    await at.pass();
    expect((await why(second!)).reasons[0]).toMatchObject({ code: "scope_rate", at: started + 10_000 });
    const later = await at.submit({ delayMs: 60_000 });
    expect((await why(later)).reasons[0]).toMatchObject({ code: "delayed", at: Date.now() + 60_000 });
  });

  test("names what a task comes after, a pause, a draining worker and a dead loop", async () => {
    const worker = await at.worker("w", { capacity: 1 });
    const first = await at.submit();
    await at.pass();
    const second = await at.submit({ after: [{ on: first }] });
    expect((await why(second)).reasons[0]).toMatchObject({
      code: "waiting",
      message: expect.stringContaining(first) as string,
    });
    const third = await at.submit();
    await at.t.mutation(api.tasks.pause, { key, task: third });
    expect((await codes(third))[0]).toBe("paused");
    await at.t.mutation(api.tasks.resume, { key, task: third });
    await at.pass();
    await worker.drain(false);
    expect(await codes(third)).toEqual(["draining", "in_line"]);
    await at.t.mutation(probe.strandDispatch, { again: false });
    expect(await codes(third)).toEqual(["loop_dead", "draining", "in_line"]);
  });

  test("names the settle loop that died before it took on what comes after an ended task", async () => {
    const on = await at.submit();
    const task = await at.submit({ after: [{ on }] });
    await at.pass();
    await at.t.mutation(probe.strandSettle, { again: false });
    await at.cancel(on);
    await at.pass();
    expect((await why(task)).reasons.slice(0, 2)).toMatchObject([
      { code: "waiting", clears: "The settle loop." },
      { code: "loop_dead", message: "The settle loop has died." },
    ]);
  });

  test("counts the place in a lane up to its bound", async () => {
    const tasks = await at.submitAll(Array.from({ length: AHEAD_SHOWN + 2 }, () => ({})));
    const place = async (i: number) => (await why(tasks[i]!)).reasons.at(-1)!.message;
    expect(await place(AHEAD_SHOWN)).toBe("100 of its lane go before it.");
    expect(await place(AHEAD_SHOWN + 1)).toBe("At least 100 of its lane go before it.");
  });

  test("has a reason beside the place in line for whatever stays behind, and none for what starts", async () => {
    let seed = 7;
    const chance = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
    const pick = <T>(items: readonly T[]): T => items[Math.floor(chance() * items.length)]!;
    const workers = [
      await at.worker("a", { capacity: 3 }),
      await at.worker("b", { capacity: 2, labels: ["gpu"] }),
    ];
    const open = new Set<Id<"tasks">>();
    for (let step = 0; step < 40; step++) {
      const name = pick(["t1", "t2"]);
      const change = pick([
        { limit: pick([0, 1, 2, null]) },
        { rate: pick([null, { count: 1, perMs: 5_000, burst: 1 }]) },
      ]);
      if (chance() < 0.3) await at.t.mutation(api.limits.set, { key, kind: "tenant", name, ...change });
      if (chance() < 0.2)
        await at.t.mutation(pick([api.limits.pause, api.limits.resume]), { key, kind: "system" });
      if (chance() < 0.5) {
        const worker = pick(workers);
        const [first] = (await worker.inbox()).assigned;
        if (first !== undefined) await worker.finish(first.run);
      }
      if (chance() < 0.7) open.add(await at.submit({ tenant: name, labels: pick([[], ["gpu"], ["none"]]) }));
      await at.pass(pick([0, 100, 5_000]));
      for (const task of open) {
        const found = await codes(task);
        // The loop sleeps: whatever could start has started.
        if ((await at.task(task)).status === "pending")
          expect(found, `step ${step}`).not.toEqual(["in_line"]);
        else {
          expect(found[0]).toMatch(/^(assigned|running|ended)$/);
          open.delete(task);
        }
      }
    }
    expect(open.size).toBeGreaterThan(0);
  });
});

describe("the backlog", () => {
  test("equals a recount, and tells how long the oldest has waited and the last runs had", async () => {
    expect(await backlog()).toEqual({ queues: [], more: false, startLag: null });
    await at.submitAll([{ queue: "a" }, { queue: "b" }, { queue: "a", key: "k" }]);
    await at.pass(3_000);
    await at.submitAll([{ queue: "b", tenant: "t" }]);
    const { queues } = await backlog();
    expect(queues).toEqual([
      { queue: "a", waiting: 2, more: false, oldestMs: expect.closeTo(3_000, -2) as number },
      { queue: "b", waiting: 2, more: false, oldestMs: expect.closeTo(3_000, -2) as number },
    ]);
    await at.worker("w", { queues: ["a"] });
    await at.pass();
    const after = await backlog();
    expect(after.queues.map(({ queue, waiting }) => [queue, waiting])).toEqual([["b", 2]]);
    expect(after.startLag).toEqual({
      runs: 2,
      p50Ms: expect.closeTo(3_000, -2) as number,
      p95Ms: expect.closeTo(3_000, -2) as number,
      maxMs: expect.closeTo(3_000, -2) as number,
    });
  });

  test("says so when there are more queues than it counts", async () => {
    const queue = (i: number) => ({ queue: `q${String(i).padStart(4, "0")}` });
    await at.submitAll(Array.from({ length: BACKLOG_QUEUES }, (_, i) => queue(i)));
    expect(await backlog()).toMatchObject({ queues: { length: BACKLOG_QUEUES }, more: false });
    await at.submitAll([queue(BACKLOG_QUEUES)]);
    expect(await backlog()).toMatchObject({ queues: { length: BACKLOG_QUEUES }, more: true });
  });
});

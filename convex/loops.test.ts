import { describe, expect, test } from "vitest";
import { internal } from "./_generated/api";
import { LEASE_MS, SET_ASIDE_MS } from "./constants";
import { probe, useDeployment } from "./setup.testing";

const at = useDeployment();

describe("the loops", () => {
  test("are asleep when nothing is due: no job is scheduled", async () => {
    const worker = await at.worker();
    const { run } = await at.assigned(worker);
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

import { expect, test } from "vitest";
import { api, internal } from "./_generated/api";
import { sha256 } from "./model/text";
import { KEYS, useDeployment } from "./setup.testing";

const at = useDeployment();

const read = (queue: string, key: string = KEYS.submit) => at.t.query(api.autoscale.read, { key, queue });

test("what a queue wants is what runs and what waits, whoever else serves or waits", async () => {
  for (let i = 0; i < 5; i++) await at.submit();
  await at.submit({ queue: "default0" });
  await at.pass(1_000);
  expect(await read("default")).toMatchObject({ waiting: 5, running: 0, slots: 0, wanted: 5, more: false });
  await at.worker("other", { queues: ["default0"], capacity: 7 });
  await at.worker("w", { capacity: 2 });
  await at.pass(1_000);
  expect(await read("default")).toMatchObject({ waiting: 3, running: 2, slots: 2, wanted: 5 });
  expect((await read("default")).oldestWaitingMs).toBeGreaterThan(1_999);
  expect(await read("default0")).toMatchObject({ waiting: 0, running: 1, slots: 7, wanted: 1 });
  expect(await read("nowhere")).toMatchObject({ waiting: 0, running: 0, slots: 0, wanted: 0 });
});

test("nothing is wanted for runs that have ended, though dispatch sleeps since", async () => {
  const worker = await at.worker();
  await at.submitAll([{}, {}, {}]);
  await at.pass(1_000);
  expect(await read("default")).toMatchObject({ running: 3, wanted: 3 });
  await worker.finishAll();
  expect(await read("default")).toMatchObject({ waiting: 0, running: 0, wanted: 0 });
});

test("what a pause or a limit holds back is not wanted, and what a rate holds back is", async () => {
  const set = (
    kind: "queue" | "key",
    name: string,
    bound: { limit: number | null } | { rate: { count: number; perMs: number; burst: number } },
  ) => at.t.mutation(api.limits.set, { key: KEYS.operator, kind, name, ...bound });
  await at.submitAll([...Array(6).keys()].map((i) => ({ key: `k${i % 2}` })));
  await set("key", "k0", { limit: 0 });
  expect(await read("default")).toMatchObject({ waiting: 6, wanted: 3 });
  await set("key", "k0", { limit: 1 });
  await set("queue", "default", { limit: 3 });
  await at.pass(1_000); // what runs is counted
  expect(await read("default")).toMatchObject({ waiting: 6, wanted: 3 });
  await at.worker("w", { capacity: 1 });
  await at.pass(1_000);
  expect(await read("default")).toMatchObject({ waiting: 5, running: 1, wanted: 3 });
  await at.t.mutation(api.limits.pause, { key: KEYS.operator, kind: "system" });
  expect(await read("default")).toMatchObject({ waiting: 5, running: 1, wanted: 1 });
  await at.t.mutation(api.limits.resume, { key: KEYS.operator, kind: "system" });
  await set("queue", "default", { limit: null });
  await set("queue", "default", { rate: { count: 1, perMs: 60_000, burst: 1 } });
  await set("key", "k0", { limit: null });
  expect(await read("default")).toMatchObject({ waiting: 5, running: 1, wanted: 6 });
});

test("a key of other queues is refused, and so is a name that is none", async () => {
  const hash = await sha256("sbs_gpu");
  await at.t.mutation(internal.operator.createKey, { hash, role: "submit", label: "gpu", queues: ["gpu"] });
  await expect(read("default", "sbs_gpu")).rejects.toThrow("not the queue default");
  await expect(read("gpu", "sbs_gpu")).resolves.toMatchObject({ wanted: 0 });
  await expect(read("a/b")).rejects.toThrow("queue");
});

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

test("a key of other queues is refused, and so is a name that is none", async () => {
  const hash = await sha256("sbs_gpu");
  await at.t.mutation(internal.operator.createKey, { hash, role: "submit", label: "gpu", queues: ["gpu"] });
  await expect(read("default", "sbs_gpu")).rejects.toThrow("not the queue default");
  await expect(read("gpu", "sbs_gpu")).resolves.toMatchObject({ wanted: 0 });
  await expect(read("a/b")).rejects.toThrow("queue");
});

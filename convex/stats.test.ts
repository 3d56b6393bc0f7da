/// <reference types="vite/client" />
import { beforeEach, describe, expect, test } from "vitest";
import { api, internal } from "./_generated/api";
import { MAX_BUCKETS, MINUTE_MS, UPKEEP_PAUSE_MS } from "./constants";
import { sum } from "./model/rollup";
import { KEYS, useDeployment, type TestWorker } from "./setup.testing";
import type { Counters } from "./upkeep.validators";
import type { Outcome } from "./validators";

const ON_HOST = import.meta.env.SIGNALBOX_TEST_BACKEND === "host";

const at = useDeployment({ now: 1_800_000_000_000 }); // a whole minute
let worker: TestWorker;

beforeEach(async () => {
  worker = await at.worker("w", { capacity: 100, queues: ["default", "other"] });
});

const read = (scope: string, from: number, to: number) =>
  at.t.query(api.stats.read, { key: KEYS.submit, scope, from, to });

/** Let the watchdog see that the minute is over. */
async function minutes(count = 1): Promise<void> {
  for (let i = 0; i < count; i++) {
    await at.pass(MINUTE_MS);
    await at.leap(0);
  }
}

const usage = { model: "m", calls: 2, inputTokens: 30, outputTokens: 5 };

async function work(outcome: Outcome): Promise<void> {
  await at.pass(100);
  const { run } = await worker.begin();
  await at.pass(50);
  await worker.sync({ finished: [{ run, outcome, usage }] });
}

/** A generator of numbers in [0, 1), the same for the same seed. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state / 2 ** 31;
  };
}

describe("the rollup", () => {
  test("counts what happened in each minute, for all, tenant, queue and agent", async () => {
    const begun = Date.now();
    await at.submit();
    await work({ kind: "succeeded", output: null });
    await minutes();
    const [minute, ...more] = await read("all", begun, begun + 3_600_000);
    expect(more).toEqual([]);
    expect(minute).toMatchObject({
      bucket: begun,
      ...{ submitted: 1, started: 1, retried: 0, succeeded: 1, failed: 0, cancelled: 0, skipped: 0 },
      ...{ runMs: 50, modelCalls: 2, inputTokens: 30, outputTokens: 5 },
    });
    for (const scope of ["tenant:default", "queue:default", "agent:echo"]) {
      expect(await read(scope, begun, begun + MINUTE_MS)).toEqual([minute]);
    }
    expect(await read("queue:other", begun, begun + MINUTE_MS)).toEqual([]);
  });

  test("leaves the minute that is not over", async () => {
    const begun = Date.now();
    await at.submit();
    await at.leap(MINUTE_MS - 1_000);
    expect(await read("all", begun, begun + MINUTE_MS)).toEqual([]);
    await at.leap(1_000);
    expect(await read("all", begun, begun + MINUTE_MS)).toHaveLength(1);
  });

  test("counts a commit of more events than a page holds", async () => {
    const begun = Date.now();
    const tasks = Array.from({ length: 200 }, () => ({ agent: "echo", input: "1" }));
    await at.t.mutation(api.tasks.submit, { key: KEYS.submit, tasks });
    await at.t.mutation(api.tasks.submit, { key: KEYS.submit, tasks: tasks.slice(0, 51) });
    await minutes();
    await at.pass(4 * UPKEEP_PAUSE_MS);
    expect(await read("all", begun, begun + MINUTE_MS)).toMatchObject([{ submitted: 251 }]);
  });

  // On the host alone: the mock throws when one job cancels another that it has begun, as the timers do with their next pass.
  test.runIf(ON_HOST).each([1, 2, 3])(
    "equals a recount of a random history (seed %i; on the host alone: the mock fails when it cancels a job)",
    async (seed) => {
      const draw = random(seed);
      const begun = Date.now();
      const tasks = [];
      for (let i = 0; i < 12; i++) {
        const queue = draw() < 0.5 ? "default" : "other";
        const retry = { maxAttempts: 2, initialMs: 10, maxMs: 10 };
        const task = await at.submit({ queue, tenant: draw() < 0.5 ? "a" : "b", retry });
        tasks.push(task);
        const chance = draw();
        const error = { code: "c", message: "m" };
        worker = await at.worker("w", { queues: ["default", "other"], incarnation: `i${i}` }); // it may have been silent for long
        if (chance < 0.2) await at.cancel(task);
        else if (chance < 0.6) await work({ kind: "succeeded", output: null });
        else await work({ kind: "failed", error, retryable: draw() < 0.5, notBeforeMs: null });
        if (draw() < 0.3) {
          await at.pass(Math.floor(draw() * 3 * MINUTE_MS));
          await at.leap(0); // what was until now is counted now
        }
      }
      await minutes(2);
      const rows = await read("all", begun, begun + MAX_BUCKETS * MINUTE_MS);
      const total = rows.map(countersOf).reduce(sum);
      // The recount: from the histories as `tasks:history` shows them, and from the tasks themselves.
      const types: Record<string, number> = {};
      let calls = 0;
      let waitMs = 0;
      for (const task of tasks) {
        const { events } = await at.t.query(api.tasks.history, { key: KEYS.submit, task });
        for (const { type, data } of events) {
          types[type] = (types[type] ?? 0) + 1;
          waitMs += Number(data.waitedMs ?? 0);
        }
        calls += (await at.task(task)).usage.calls;
      }
      expect(total).toMatchObject({
        submitted: tasks.length,
        started: types.run_assigned ?? 0,
        retried: types.task_retried ?? 0,
        succeeded: types.task_succeeded ?? 0,
        failed: types.task_failed ?? 0,
        cancelled: types.task_cancelled ?? 0,
        waitMs,
        modelCalls: calls,
      } satisfies Partial<Counters>);
      const parts = [...(await readAll("tenant:a", begun)), ...(await readAll("tenant:b", begun))];
      expect(parts.reduce(sum)).toEqual(total);
    },
  );

  test("counts once, whatever comes twice", async () => {
    const begun = Date.now();
    await at.submit();
    await minutes();
    for (let generation = 0; generation < 4; generation++)
      await at.t.mutation(internal.upkeep.rollUp, { generation });
    await minutes();
    expect(await read("all", begun, begun + MINUTE_MS)).toMatchObject([{ submitted: 1 }]);
  });
});

function countersOf({ bucket, ...counters }: { bucket: number } & Counters): Counters {
  expect(bucket % MINUTE_MS).toBe(0);
  return counters;
}

async function readAll(scope: string, begun: number): Promise<Counters[]> {
  const rows = await read(scope, begun, begun + MAX_BUCKETS * MINUTE_MS);
  return rows.map(countersOf);
}

test("a day in minutes is read in a call, and a minute more is not", async () => {
  const from = Date.now();
  expect(await read("all", from, from + MAX_BUCKETS * MINUTE_MS)).toEqual([]);
  await expect(read("all", from, from + MAX_BUCKETS * MINUTE_MS + 1)).rejects.toThrow("at most 24 hours");
  await expect(read("all", from, from - 1)).rejects.toThrow("from and to");
  await expect(read("everything", from, from)).rejects.toThrow("scope");
});

import { expect, test } from "vitest";
import { api } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { CANCEL_GRACE_MS } from "./constants";
import type { CallReport } from "./model.validators";
import { KEYS, useDeployment, type TestWorker } from "./setup.testing";

const at = useDeployment();

const call = (run: Id<"runs">, more: Partial<CallReport> = {}): CallReport => ({
  ...{ run, call: 1, attempt: 1, model: "groq/fast", provider: "groq", startedMs: 5, ms: 20 },
  ...{ state: "succeeded", error: null, costMicros: 40, estimated: false },
  usage: {
    ...{ inputTokens: 10, outputTokens: 5 },
    ...{ cachedInputTokens: 0, cacheWriteTokens: 0, reasoningTokens: 0 },
  },
  ...more,
});
const ONE = { model: "groq/fast", calls: 1, inputTokens: 10, outputTokens: 5, costMicros: 40 };
const TWO = { ...ONE, calls: 2, inputTokens: 20, outputTokens: 10, costMicros: 80 };

/** A task whose run has made a call. */
async function begun(): Promise<{ worker: TestWorker; task: Id<"tasks">; run: Id<"runs"> }> {
  const worker = await at.worker();
  const { task, run } = await at.begun(worker);
  await worker.sync({ calls: [call(run)] });
  expect((await at.task(task)).usage.calls).toBe(0);
  return { worker, task, run };
}

const used = async (task: Id<"tasks">) => (await at.task(task)).usage;
const crash = ({ session }: TestWorker) =>
  at.t.mutation(api.worker.crashed, { key: KEYS.worker, session, blamed: null });

test("what a run has used that is lost counts in its task, and so does the next one", async () => {
  const { worker, task } = await begun();
  await crash(worker);
  expect(await used(task)).toEqual(ONE);
  const other = await at.worker("other");
  await at.pass(5_000);
  const { run } = await other.begin();
  await other.sync({ calls: [call(run)] });
  const outcome = { kind: "succeeded", output: null } as const;
  await other.sync({ finished: [{ run, outcome, usage: ONE }] });
  expect(await used(task)).toEqual(TWO);
});

test("a worker that signs off has told what its runs have used", async () => {
  const { worker, task } = await begun();
  await worker.drain();
  expect(await used(task)).toEqual(ONE);
});

test("a run that does not heed its cancellation has used what it told", async () => {
  const { task } = await begun();
  await at.cancel(task);
  await at.leap(CANCEL_GRACE_MS + 1_000);
  expect(await at.task(task)).toMatchObject({ status: "cancelled", usage: ONE });
});

test("a run that ends for its steps has used what it told in the same sync too", async () => {
  const { worker, task, run } = await begun();
  const step = { run, key: "", kind: "step", result: "1", signal: null } as const;
  await worker.sync({ calls: [call(run, { call: 2 })], steps: [step] });
  expect(await at.task(task)).toMatchObject({ status: "failed", usage: TWO });
});

test("the last word of a worker stands, whatever it has told of before and tells with it", async () => {
  const { worker, task, run } = await begun();
  const outcome = { kind: "succeeded", output: null } as const;
  const usage = { ...TWO, model: "m" };
  await worker.sync({ calls: [call(run, { call: 2 })], finished: [{ run, outcome, usage }] });
  await at.pass();
  expect(await used(task)).toEqual(usage);
});

test("a result without a word of what it used counts what was told", async () => {
  const { worker, task, run } = await begun();
  await worker.finish(run);
  expect(await used(task)).toEqual(ONE);
});

test("what is told after the end of a run counts once, however often it is told", async () => {
  const { worker, task, run } = await begun();
  await at.cancel(task);
  await at.pass();
  for (let ms = 0; ms < CANCEL_GRACE_MS + 2_000; ms += 4_000) {
    await at.pass(4_000);
    await worker.sync(); // the session goes on
  }
  expect(await at.task(task)).toMatchObject({ status: "cancelled", usage: ONE });
  const late = call(run, { call: 2, state: "cancelled", model: "never answered" });
  const body = worker.body({ calls: [call(run), late] });
  await worker.send(body);
  await worker.send(body);
  await worker.sync({ calls: [late] });
  await at.pass();
  expect(await used(task)).toEqual(TWO);
});

test("a worker that comes back after its lease is heard for what it has paid, and for nothing else", async () => {
  const { worker, task, run } = await begun();
  await crash(worker);
  const other = await at.worker("other");
  await at.pass(5_000);
  const next = await other.begin();
  const step = { run, key: "late", kind: "step", result: "1", signal: null } as const;
  const answer = await worker.sync({ calls: [call(run, { call: 2 })], steps: [step] });
  expect(answer).toMatchObject({ live: false, lost: [run] });
  await at.pass();
  expect(await used(task)).toEqual(TWO);
  expect((await other.steps(next.run)).steps).toEqual([]);
  await other.sync({ calls: [call(run, { call: 3 })] }); // not its run
  await other.finish(next.run);
  await at.pass();
  expect(await used(task)).toEqual(TWO);
});

test("a call counts with its first attempt, and what is estimated in its cost alone", async () => {
  const { worker, task, run } = await begun();
  const more = [
    call(run, { call: 2, state: "superseded", usage: null, costMicros: null }),
    call(run, { call: 2, attempt: 2, model: "groq/large", estimated: true, costMicros: 7 }),
    call(run, { call: 3, state: "cancelled", model: "groq/none", costMicros: 0, usage: null }),
  ];
  await worker.sync({ calls: more });
  await crash(worker);
  expect(await used(task)).toEqual({ ...ONE, model: "groq/large", calls: 3, costMicros: 47 });
});

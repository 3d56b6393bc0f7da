/** What submitters can say of a task, and what people can do to it until it has ended. */
import { describe, expect, test, vi } from "vitest";
import { api, internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { AGEING_MS } from "./constants";
import { sha256 } from "./model/text";
import { KEYS, probe, useDeployment, type TestWorker } from "./setup.testing";
import type { TaskSpec } from "./validators";

const at = useDeployment();

const key = KEYS.submit;
const submit = (...tasks: TaskSpec[]) => at.t.mutation(api.tasks.submit, { key, tasks });
const steer = (verb: "pause" | "resume" | "retry" | "cancel", task: string) =>
  at.t.mutation(api.tasks[verb], { key, task });

/** Let `worker` have what waits, one task after the other, and note their order. */
async function order(worker: TestWorker, count: number) {
  const tasks = [];
  for (let i = 0; i < count; i++) {
    await at.pass();
    const [next] = (await worker.inbox()).assigned;
    tasks.push(next!.task);
    await worker.finish(next!.run);
  }
  return tasks;
}

describe("order", () => {
  test("of two tasks the higher priority goes first until the other has waited its worth longer", async () => {
    const old = await at.submit();
    await at.pass(3 * AGEING_MS - 1);
    const passing = await at.submit({ priority: 3 });
    await at.pass(2);
    const late = await at.submit({ priority: 3 });
    const worker = await at.worker("w", { capacity: 1 });
    expect(await order(worker, 3)).toEqual([passing, old, late]);
  });

  test("a stream of urgent tasks does not starve one that is not", async () => {
    for (let i = 0; i < 3; i++) await at.submit({ priority: 10 });
    const plain = await at.submit({ priority: 0 });
    const worker = await at.worker("w", { capacity: 1 });
    let served = 0;
    for (; (await at.task(plain)).status !== "succeeded" && served < 100; served++) {
      await order(worker, 1);
      await at.submit({ priority: 10 });
      await at.submit({ priority: 10 });
      await at.pass(AGEING_MS / 2);
    }
    // Ten steps of priority are worth 100 s of waiting, and two come for each that goes.
    expect(served).toBeGreaterThan(10);
    expect(served).toBeLessThan(60);
  });
});

describe("a dedup key", () => {
  test("names its task until its window is over, then a new one", async () => {
    const spec = { agent: "echo", input: "1", dedupKey: "k", dedupForMs: 1_000 };
    const [first] = await submit(spec);
    await at.pass(999);
    expect(await submit({ ...spec, dedupForMs: 50_000 })).toEqual([{ ...first, duplicate: true }]);
    await at.pass(1);
    const [second] = await submit(spec);
    expect(second).toMatchObject({ ok: true, duplicate: false });
    expect(second).not.toEqual(first);
    await at.pass(500);
    expect(await submit(spec)).toEqual([{ ...second, duplicate: true }]);
  });

  test("without a window counts for as long as the task is kept", async () => {
    const spec = { agent: "echo", input: "1", dedupKey: "k" };
    const [first] = await submit(spec);
    vi.advanceTimersByTime(30 * 24 * 3_600_000);
    await at.pass();
    expect(await submit(spec, spec)).toEqual([
      { ...first, duplicate: true },
      { ...first, duplicate: true },
    ]);
    expect(await at.t.query(probe.countTasks, {})).toBe(1);
  });

  test("a window without a key, or of no length, is refused", async () => {
    const answers = await submit(
      { agent: "echo", input: "1", dedupForMs: 1 },
      { agent: "echo", input: "1", dedupKey: "k", dedupForMs: 0 },
    );
    expect(answers).toMatchObject([
      { ok: false, message: expect.stringContaining("dedupForMs: it says how long") as string },
      { ok: false, message: expect.stringContaining("dedupForMs: 0 is outside 1 to") as string },
    ]);
  });
});

describe("a capability", () => {
  const wants = (capability: string, more = {}) => submit({ capability, input: "1", ...more });
  const taken = async (answers: Awaited<ReturnType<typeof submit>>) =>
    at.task((answers[0] as { task: Id<"tasks"> }).task);

  test("is found in an agent that a live worker plays, before one that nobody does", async () => {
    const gone = await at.worker("a", { brings: ["ada"], can: ["draw"] });
    await gone.drain();
    expect(await taken(await wants("draw"))).toMatchObject({ agent: "ada", status: "pending" });
    await at.worker("b", { brings: ["bob"], can: ["draw", "sing"] });
    expect(await taken(await wants("draw"))).toMatchObject({ agent: "bob" });
    expect(await taken(await wants("draw", { queue: "elsewhere" }))).toMatchObject({ agent: "ada" });
  });

  test("of an LLM agent is what agents:sync says", async () => {
    const llm = { model: null, prompt: "Sum.", temperature: null, maxOutputTokens: null };
    const sync = (capabilities: string[]) =>
      at.t.mutation(api.agents.sync, {
        key: KEYS.operator,
        agents: [{ name: "writer", description: "", llm, capabilities }],
      });
    await sync(["sum", "translate", "sum"]);
    const [writer] = (await at.t.query(api.agents.list, { key })).filter(({ name }) => name === "writer");
    expect(writer!.capabilities).toEqual(["sum", "translate"]);
    expect(await taken(await wants("translate"))).toMatchObject({ agent: "writer" });
    await sync(["sum"]);
    expect(await wants("translate")).toMatchObject([{ ok: false, code: "unknown_agent" }]);
    await expect(sync(Array.from({ length: 21 }, (_, i) => `c${i}`))).rejects.toThrow("at most 20");
    expect(await sync(Array.from({ length: 20 }, (_, i) => `c${i}`))).toMatchObject([{ changed: true }]);
  });

  test("that nobody has is refused with those that are known", async () => {
    expect(await wants("fly")).toMatchObject([{ ok: false, code: "unknown_agent" }]);
    await at.worker("b", { brings: ["bob"], can: ["sing", "draw"] });
    const [answer] = await wants("fly");
    expect(answer).toMatchObject({
      message: expect.stringContaining('no agent has "fly". Known: draw, sing.') as string,
    });
    const both = await submit({ agent: "bob", capability: "sing", input: "1" }, { input: "1" });
    for (const refused of both) {
      expect(refused).toMatchObject({ ok: false, message: "agent and capability: give one of them." });
    }
  });
});

describe("a pause", () => {
  test("keeps a task in line where it stood", async () => {
    const [first, second, third] = [await at.submit(), await at.submit(), await at.submit()];
    await at.pass(1);
    expect(await steer("pause", first)).toEqual({ status: "paused" });
    expect(await steer("pause", first)).toEqual({ status: "paused" });
    const worker = await at.worker("w", { capacity: 1 });
    expect(await order(worker, 1)).toEqual([second]);
    await at.submit();
    expect(await steer("resume", first)).toEqual({ status: "pending" });
    expect(await steer("resume", first)).toEqual({ status: "pending" });
    expect((await order(worker, 2)).slice(0, 2)).toEqual([third, first]);
    expect(await at.history(first)).toEqual([
      "task_submitted",
      "task_paused",
      "task_resumed",
      "run_assigned",
      "task_succeeded",
    ]);
  });

  test("keeps a delayed task's time", async () => {
    const worker = await at.worker();
    const task = await at.submit({ delayMs: 10_000 });
    await steer("pause", task);
    await at.pass(5_000);
    expect(await steer("resume", task)).toEqual({ status: "delayed" });
    await at.pass(4_900);
    expect((await worker.inbox()).assigned).toEqual([]);
    await at.pass(200);
    expect((await worker.inbox()).assigned).toMatchObject([{ task }]);
    await steer("pause", await at.submit({ delayMs: 1_000 }));
    await at.pass(5_000);
    expect((await worker.inbox()).assigned).toHaveLength(1);
  });

  test("of a running task is asked of its worker, and stands when that hands it back", async () => {
    const worker = await at.worker();
    const task = await at.submit();
    await at.pass();
    const { run } = (await worker.inbox()).assigned[0]!;
    await worker.sync({ accepted: [run] });
    expect(await steer("pause", task)).toEqual({ status: "running" });
    await steer("pause", task);
    expect((await worker.inbox()).controls).toMatchObject([{ kind: "pause", run }]);
    await worker.finish(run, { kind: "released" });
    expect(await at.task(task)).toMatchObject({ status: "paused" });
    await at.pass(1_000);
    expect((await worker.inbox()).assigned).toEqual([]);
    await steer("resume", task);
    await at.pass();
    const [again] = (await worker.inbox()).assigned;
    expect(again).toMatchObject({ task, attempt: 2 });
    await worker.finish(again!.run);
    expect(await at.task(task)).toMatchObject({ status: "succeeded" });
  });

  test("that was taken back before the run came back does not hold it", async () => {
    const worker = await at.worker();
    const task = await at.submit();
    await at.pass();
    const [item] = (await worker.inbox()).assigned;
    await steer("pause", task);
    expect(await steer("resume", task)).toEqual({ status: "running" });
    await worker.finish(item!.run, { kind: "released" });
    await at.pass();
    expect((await worker.inbox()).assigned).toMatchObject([{ task, attempt: 2 }]);
  });

  test("stops no deadline, and a paused task can be cancelled", async () => {
    const late = await at.submit({ startWithinMs: 1_000 });
    const over = await at.submit({ endWithinMs: 2_000 });
    const dropped = await at.submit();
    for (const task of [late, over, dropped]) await steer("pause", task);
    await at.pass(1_100);
    expect((await at.task(late)).error?.code).toBe("start_deadline");
    expect(await steer("cancel", dropped)).toEqual({ status: "cancelled" });
    await at.pass(1_000);
    expect((await at.task(over)).error?.code).toBe("end_deadline");
    for (const task of [late, over, dropped]) {
      await expect(steer("pause", task)).rejects.toThrow("has ended");
      await expect(steer("resume", task)).rejects.toThrow("try it again");
    }
  });
});

describe("a retry by hand", () => {
  const boom = { code: "boom", message: "it broke" };
  const failure = { kind: "failed", error: boom, retryable: true, notBeforeMs: null } as const;

  test("gives a failed task its attempts anew, and its attempts go on counting", async () => {
    const worker = await at.worker();
    const task = await at.submit({ retry: { maxAttempts: 2, initialMs: 0 } });
    const failTwice = async () => {
      for (let i = 0; i < 2; i++) {
        await at.pass();
        await worker.finish((await worker.inbox()).assigned[0]!.run, failure);
      }
    };
    await failTwice();
    expect(await at.task(task)).toMatchObject({ status: "failed", attempt: 2, error: boom });
    expect(await steer("retry", task)).toEqual({ status: "pending" });
    await steer("retry", task); // an answer that was lost is asked for again
    expect(await at.task(task)).toMatchObject({ error: null, endedAt: null });
    await failTwice();
    expect(await at.task(task)).toMatchObject({ status: "failed", attempt: 4 });
    await steer("retry", task);
    await at.pass();
    await worker.finish((await worker.inbox()).assigned[0]!.run);
    expect(await at.task(task)).toMatchObject({ status: "succeeded", attempt: 5, error: null });
    await expect(steer("retry", task)).rejects.toThrow("nothing to try again");
    expect((await at.history(task)).filter((type) => type === "retry_requested")).toHaveLength(2);
  });

  test("runs a cancelled task, which can be cancelled again", async () => {
    const worker = await at.worker();
    const task = await at.submit();
    await at.pass();
    const [item] = (await worker.inbox()).assigned;
    await steer("cancel", task);
    await worker.finish(item!.run, { kind: "cancelled" });
    await steer("retry", task);
    await at.pass();
    const [again] = (await worker.inbox()).assigned;
    expect(again).toMatchObject({ task, attempt: 2 });
    await worker.sync({ accepted: [again!.run] });
    expect(await steer("cancel", task)).toEqual({ status: "running" });
    await worker.finish(again!.run, { kind: "cancelled" });
    expect(await at.task(task)).toMatchObject({ status: "cancelled" });
  });

  test("a run that nobody accepted is no beginning: after the time none comes", async () => {
    await at.worker("silent");
    const [lost, within] = [
      await at.submit({ startWithinMs: 5_000 }),
      await at.submit({ startWithinMs: 60_000 }),
    ];
    await at.pass();
    expect(await at.task(lost)).toMatchObject({ status: "running", attempt: 1 });
    await at.pass(16_000);
    const error = { code: "start_deadline", message: "it had not begun within 5000 ms of its submission" };
    expect(await at.task(lost)).toMatchObject({ status: "failed", attempt: 1, error });
    expect(await at.history(lost)).toEqual(["task_submitted", "run_assigned", "task_failed"]);
    expect(await at.task(within)).toMatchObject({ status: "pending", attempt: 1 });
    await at.pass(45_000);
    expect((await at.task(within)).error).toMatchObject({ code: "start_deadline" });
    await steer("retry", lost);
    await at.pass(4_900);
    expect(await at.task(lost)).toMatchObject({ status: "pending" });
    await at.pass(200);
    expect(await at.task(lost)).toMatchObject({ status: "failed", error });
  });

  test("gives a task that missed its deadlines the same time again", async () => {
    const task = await at.submit({ startWithinMs: 1_000, endWithinMs: 5_000 });
    await at.pass(1_100);
    expect(await at.task(task)).toMatchObject({ status: "failed", error: { code: "start_deadline" } });
    vi.advanceTimersByTime(60_000);
    await at.pass();
    await steer("retry", task);
    await at.pass(900);
    expect(await at.task(task)).toMatchObject({ status: "pending" });
    await at.pass(200);
    expect((await at.task(task)).error?.message).toContain("within 1000 ms");
    const worker = await at.worker();
    await steer("retry", task);
    await at.pass();
    const [item] = (await worker.inbox()).assigned;
    await worker.sync({ accepted: [item!.run] });
    await at.pass(4_900);
    expect(await at.task(task)).toMatchObject({ status: "running" });
    await at.pass(200);
    expect(await at.task(task)).toMatchObject({ status: "failed", error: { code: "end_deadline" } });
  });
});

test("a key changes only tasks of its queues", async () => {
  const hash = await sha256("sbs_gpu");
  await at.t.mutation(internal.operator.createKey, { hash, role: "submit", label: "gpu", queues: ["gpu"] });
  const theirs = await at.submit();
  for (const verb of ["pause", "resume", "retry", "cancel"] as const) {
    const call = at.t.mutation(api.tasks[verb], { key: "sbs_gpu", task: theirs });
    await expect(call).rejects.toThrow("not the queue default");
    await expect(steer(verb, "garbage")).rejects.toThrow("not_found");
  }
});

/** One task in depth: its model calls and effects in time, what it has cost, what is in doubt, its forks. */
import { beforeAll, describe, expect, test } from "vitest";
import { useStage } from "./stage.mjs";

const HASH = "a".repeat(64);

const stage = useStage();
let worker;

beforeAll(async () => {
  worker = await stage.worker({ forks: true });
});

async function running(spec = {}) {
  const task = await stage.submit(spec);
  const [{ run }] = await worker.take();
  return { task, run };
}

const turn = (run, key, usage = null) => ({
  ...{ run, key, kind: "turn", result: '"text"', signal: null },
  ...(usage && { usage: { model: "p/m", cachedInputTokens: null, ...usage } }),
});
const tool = (run, key, effect, state, more = {}) => ({
  ...{ run, key, kind: "tool", tool: "pay", argsHash: HASH, effect, state, signal: null },
  ...{ result: state === "done" ? '"paid"' : null, ...more },
});
const attempt = (run, call, more = {}) => ({
  ...{ run, call, attempt: 1, model: "p/m", provider: "p", startedMs: 0, ms: 40, state: "succeeded" },
  ...{ error: null, costMicros: 1_200, estimated: false },
  usage: {
    inputTokens: 1_000,
    outputTokens: 80,
    cachedInputTokens: 900,
    cacheWriteTokens: 0,
    reasoningTokens: 7,
  },
  ...more,
});

describe("the timeline", () => {
  test("tells of each model call, its attempts and cost, and of each effect how far it has come", async () => {
    const { task, run } = await running();
    await using visitor = await stage.open(`/tasks/${task}`);
    const { page } = visitor;
    const timeline = page.getByRole("region", { name: "Timeline" });
    const cost = page.locator(".facts > div", { hasText: "Cost" });
    await cost.getByText("none yet").waitFor();
    const error = { code: "overloaded", message: "The provider said 529" };
    const failed = { error, usage: null, costMicros: null };
    await worker.sync({
      steps: [turn(run, "turn#1", { inputTokens: 1_000, outputTokens: 80, costMicros: 1_200 })],
      calls: [
        attempt(run, 1, { ...failed, state: "superseded" }),
        attempt(run, 1, { attempt: 2, startedMs: 50 }),
      ],
    });
    const superseded = timeline.locator('[data-call="1.1"]');
    await superseded.getByText("superseded").waitFor();
    await superseded.getByText("The provider said 529").waitFor();
    await timeline
      .locator('[data-call="1.2"]')
      .getByText("1000 in (900 cached), 80 out, 7 of them reasoning, $0.001200")
      .waitFor();
    await timeline.locator('[data-step="turn#1"]').getByText("1000 in, 80 out, $0.001200").waitFor();
    await cost.getByText("at least $0.001200").waitFor(); // of the attempt that failed nothing is known

    const keys = ["turn#1/0:pay", "turn#1/1:look"];
    await worker.sync({ steps: [tool(run, keys[0], "unsafe", "intended")] });
    const pays = timeline.locator(`[data-step="${keys[0]}"]`);
    await pays.getByText("unsafe").waitFor();
    await pays.getByText("intended").waitFor();
    await pays.getByText("its result has not come").waitFor();
    await worker.sync({
      steps: [tool(run, keys[0], "unsafe", "done"), tool(run, keys[1], "pure", "done")],
    });
    await pays.getByText("done").waitFor();
    await pays.getByText("Its result").click();
    await page
      .getByRole("region", { name: `Result of ${keys[0]}` })
      .getByText("paid")
      .waitFor();
    await timeline.locator(`[data-step="${keys[1]}"]`).getByText("pure").waitFor();
    const order = await timeline
      .locator("li")
      .evaluateAll((items) => items.map(({ dataset }) => dataset.step ?? dataset.call ?? "attempt"));
    expect(order).toEqual(["attempt", "1.1", "1.2", "turn#1", ...keys]);

    const usage = { model: "p/m", calls: 2, inputTokens: 1_000, outputTokens: 80, costMicros: 2_500_000 };
    await worker.sync({ finished: [{ run, outcome: { kind: "succeeded", output: "1" }, usage }] });
    await cost.getByText("$2.50").waitFor();
  });
});

describe("what is in doubt", () => {
  async function inDoubt(args = { amount: 12 }) {
    const { task, run } = await running({ queue: "default" });
    await worker.sync({ steps: [tool(run, "pay#1", "unsafe", "intended")] });
    const ask = { tool: "pay", args: JSON.stringify(args), why: "in_doubt", timeoutMs: null };
    const until = { approvals: [{ step: "pay#1.in_doubt", about: "pay#1", ...ask }] };
    await worker.finish(run, { kind: "suspended", step: "pay#1.in_doubt", until });
    return task;
  }
  const found = async (task) => {
    const [next] = await worker.take();
    expect(next.task).toBe(task);
    const { steps } = await stage.query(
      "worker:steps",
      { session: worker.session, run: next.run, cursor: null },
      stage.key.worker,
    );
    await worker.finish(next.run);
    return steps;
  };

  test("is said to have happened, with what came of it, and the next run finds that", async () => {
    const task = await inDoubt();
    await using visitor = await stage.open(`/tasks/${task}`);
    const { page } = visitor;
    const pays = page.getByRole("region", { name: "Timeline" }).locator('[data-step="pay#1"]');
    await pays.getByText("in doubt", { exact: true }).waitFor();
    const asks = page.getByRole("region", { name: "What it asks people" });
    await asks.getByText("does not know whether this happened").waitFor();
    const happened = asks.getByRole("button", { name: "It happened: go on with this" });
    await happened.click();
    await asks.getByRole("alert").getByText("Say what came of it, as JSON").waitFor();
    await asks.getByLabel("If it happened").fill("receipt 7");
    await happened.click();
    await asks.getByRole("alert").getByText("is not JSON").waitFor();
    await asks.getByLabel("If it happened").fill('{"receipt": 7}');
    await happened.click();
    await asks.getByText("approved").waitFor();
    const decided = (await found(task)).find(({ key }) => key === "pay#1.in_doubt");
    expect(JSON.parse(decided.result)).toMatchObject({ state: "approved", result: { receipt: 7 } });
  });

  test("is said not to have happened, whatever large arguments it had", async () => {
    const task = await inDoubt({ letter: "y".repeat(9_000), end: "the end of it" });
    await using visitor = await stage.open(`/tasks/${task}`);
    const { page } = visitor;
    await page.getByRole("region", { name: "Arguments of pay" }).getByText("the end of it").waitFor();
    await page.getByRole("button", { name: "It did not happen: run it" }).click();
    await page.getByRole("region", { name: "What it asks people" }).getByText("approved").waitFor();
    const steps = await found(task);
    expect(JSON.parse(steps.find(({ key }) => key === "pay#1.in_doubt").result)).not.toHaveProperty("result");
    expect(steps.find(({ key }) => key === "pay#1")).toMatchObject({ state: "intended" });
  });
});

describe("forks", () => {
  test("a fork leads to its origin and back, and to both side by side", async () => {
    const { task, run } = await running();
    await worker.sync({ steps: [turn(run, "turn#1"), tool(run, "turn#1/0:pay", "keyed", "done")] });
    await worker.sync({ steps: [turn(run, "turn#2", { inputTokens: 5, outputTokens: 6, costMicros: 70 })] });
    await worker.finish(run, { kind: "succeeded", output: '"as it was"' });
    const { task: fork } = await stage.mutate("tasks:fork", {
      ...{ task, at: "turn#2", change: { prompt: "Be short.", temperature: 0 } },
    });
    const [again] = await worker.take();
    expect(again.task).toBe(fork);
    await worker.sync({
      steps: [
        {
          ...turn(again.run, "turn#2", { inputTokens: 5, outputTokens: 1, costMicros: 30 }),
          result: '"short"',
        },
      ],
    });
    await worker.finish(again.run, { kind: "succeeded", output: '"short"' });

    await using visitor = await stage.open(`/tasks/${fork}`);
    const { page } = visitor;
    const forks = page.getByRole("region", { name: "Forks" });
    await forks.getByText("from turn#2 on").waitFor();
    await forks.getByText("Changed for it: prompt, temperature").waitFor();
    await page
      .locator('[data-step="turn#1/0:pay"]')
      .getByText("copied from the task that this is a fork of")
      .waitFor();
    await forks.getByRole("link", { name: task.slice(0, 12) }).click();
    await forks.getByText("Forked from it").waitFor();
    await forks.getByRole("link", { name: "Compare" }).click();
    const took = page.getByRole("region", { name: "What they took" }).first();
    await took.getByText("They part at the step turn#2.").waitFor();
    const cells = async (name) =>
      took
        .locator("tr", { has: page.getByRole("rowheader", { name }) })
        .locator("td")
        .allTextContents();
    expect(await cells("Cost")).toEqual(["$0.000070", "$0.000030"]);
    expect(await cells("Turns")).toEqual(["2", "2; 2 steps were copied"]);
    await page.getByRole("region", { name: "Output 1" }).getByText("as it was").waitFor();
    await page.getByRole("region", { name: "Output 2" }).getByText("short").waitFor();
    await visitor.go(`/tasks/${fork}/compare/jh7000000000000000000000000000000`);
    await page.getByRole("heading", { name: "One of the two tasks is gone" }).waitFor();
    await page.getByRole("link", { name: "Go to the tasks" }).click();
    await page.getByRole("heading", { name: "Tasks", exact: true }).waitFor();
  });
});

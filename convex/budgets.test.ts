import { describe, expect, test, vi } from "vitest";
import { api } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import type { Allotment, Amounts, BudgetSpec, OnBreach } from "./budget.validators";
import { BUDGET_LOOK_MS, KEEP_PERIODS_MS, MAX_LIMIT } from "./constants";
import { NOTHING } from "./model/purse";
import { KEYS, useDeployment, type TestWorker } from "./setup.testing";

const at = useDeployment({ now: Date.UTC(2026, 10, 21, 12) });

const key = KEYS.operator;
const set = (spec: BudgetSpec) => at.t.mutation(api.budgets.set, { key, ...spec });
const clear = (place: Omit<BudgetSpec, "caps">) => at.t.mutation(api.budgets.clear, { key, ...place });
const show = (place: Omit<BudgetSpec, "caps">) => at.t.query(api.budgets.get, { key, ...place });
const some = (more: Partial<Amounts>): Amounts => ({ ...NOTHING, ...more });

async function balance(place: Omit<BudgetSpec, "caps"> = { kind: "all" }) {
  const [first] = (await show(place)).balances;
  return first!;
}

/** What a run was last told that it may spend. */
async function told(worker: TestWorker, run: Id<"runs">): Promise<Allotment> {
  const { controls } = await worker.inbox();
  const mine = controls.filter((control) => control.run === run && control.kind === "allotment");
  const { allotment } = mine.at(-1)!;
  await worker.sync({ acknowledged: mine.map(({ control }) => control) });
  return allotment!;
}

/** Ask for so much more, and what came of it once dispatch has seen it. */
async function ask(
  worker: TestWorker,
  run: Id<"runs">,
  number: number,
  need: Partial<Amounts>,
  more: { spent?: Partial<Amounts>; reserved?: Partial<Amounts> } = {},
): Promise<void> {
  await worker.sync({
    spending: [
      {
        run,
        spent: some(more.spent ?? {}),
        reserved: some(more.reserved ?? {}),
        want: { number, need: some(need) },
      },
    ],
  });
  await at.pass();
}

function finish(worker: TestWorker, run: Id<"runs">, spent: Partial<Amounts>) {
  return worker.sync({
    finished: [
      {
        run,
        outcome: { kind: "succeeded", output: null },
        usage: null,
        spending: { run, spent: some(spent), reserved: NOTHING, want: null },
      },
    ],
  });
}

async function begin(worker: TestWorker) {
  await at.pass();
  return worker.begin();
}

describe("without a budget", () => {
  test("a run is told of none", async () => {
    const worker = await at.worker();
    await at.submit();
    expect((await begin(worker)).allotment).toBeUndefined();
  });
});

describe("an allotment", () => {
  test("comes with the run, is counted when it ends, and the rest of it goes back", async () => {
    const worker = await at.worker();
    await set({ kind: "tenant", name: "default", caps: { micros: 3_200, calls: 64 } });
    await at.submit();
    const { run, allotment } = await begin(worker);
    expect(allotment).toMatchObject({ verdict: "granted", granted: { micros: 100, calls: 2, tokens: null } });
    expect(await balance({ kind: "tenant", name: "default" })).toMatchObject({
      spent: NOTHING,
      held: some({ micros: 100, calls: 2 }),
    });
    await finish(worker, run, { micros: 60, tokens: 9, calls: 1 });
    await at.pass();
    expect(await balance({ kind: "tenant", name: "default" })).toMatchObject({
      spent: { micros: 60, tokens: 9, calls: 1 },
      held: NOTHING,
    });
  });

  test("is topped up on request", async () => {
    const worker = await at.worker();
    await set({ kind: "all", caps: { micros: 3_200 } });
    await at.submit();
    const { run } = await begin(worker);
    await ask(worker, run, 1, { micros: 500, calls: 1 }, { spent: { micros: 40 }, reserved: { micros: 30 } });
    expect(await told(worker, run)).toMatchObject({ want: 1, verdict: "granted", granted: { micros: 570 } });
    expect(await balance()).toMatchObject({ spent: { micros: 40 }, held: { micros: 530 } });
    // The same wish once more, as after a lost answer, changes nothing.
    await ask(worker, run, 1, { micros: 500 }, { spent: { micros: 40 }, reserved: { micros: 30 } });
    expect(await balance()).toMatchObject({ spent: { micros: 40 }, held: { micros: 530 } });
  });

  test("that waits for others is answered when they give back", async () => {
    const worker = await at.worker();
    await set({ kind: "all", caps: { micros: 1_000 } });
    await at.submit();
    await at.submit();
    const one = await begin(worker);
    const two = await begin(worker);
    await ask(worker, one.run, 1, { micros: 900 });
    expect(await told(worker, one.run)).toMatchObject({ verdict: "granted" });
    await ask(worker, two.run, 1, { micros: 300 });
    expect((await worker.inbox()).controls).toEqual([]);
    await finish(worker, one.run, { micros: 200 });
    await at.pass();
    expect(await told(worker, two.run)).toMatchObject({
      want: 1,
      verdict: "granted",
      granted: { micros: 300 },
    });
  });

  test("of one scope leaves another alone, and a default holds for each name by itself", async () => {
    const worker = await at.worker();
    await set({ kind: "tenant", name: "*", caps: { calls: 1 } });
    await at.submit({ tenant: "a" });
    const first = await begin(worker);
    const second = await at.submit({ tenant: "a" });
    const other = await at.submit({ tenant: "b" });
    await at.pass();
    expect((await at.task(second)).status).toBe("delayed");
    expect((await at.task(other)).status).toBe("running");
    await finish(worker, first.run, {});
    await at.pass();
    expect((await at.task(second)).status).toBe("running");
  });
});

describe("a task that cannot be allotted anything", () => {
  test("waits, says for what, and goes on when a run gives back", async () => {
    const worker = await at.worker();
    await set({ kind: "agent", name: "echo", caps: { calls: 1 } });
    await at.submit();
    const { run } = await begin(worker);
    const task = await at.submit();
    await at.pass();
    expect((await at.task(task)).status).toBe("delayed");
    const reason = await at.why(task);
    expect(reason).toMatchObject({ code: "budget", at: null });
    expect(reason.message).toBe(
      'The budget of the agent "echo" has no room: 0 calls of 1 calls, and live runs hold 1 calls.',
    );
    expect(reason.clears).toBe(
      "The end of a run that holds some of it, a higher limit, or signalbox budgets clear.",
    );
    await finish(worker, run, { calls: 0 });
    await at.pass();
    expect((await at.task(task)).status).toBe("running");
  });

  test("waits for the end of the period", async () => {
    vi.setSystemTime(Date.UTC(2026, 10, 21, 23, 59));
    const worker = await at.worker();
    await set({ kind: "all", period: "day", caps: { micros: 100 } });
    await at.submit();
    await finish(worker, (await begin(worker)).run, { micros: 100 });
    const task = await at.submit();
    await at.pass();
    const midnight = Date.UTC(2026, 10, 22);
    expect(await at.why(task)).toMatchObject({ code: "budget", at: midnight });
    await at.leap(midnight - Date.now() - 1_000);
    expect((await at.task(task)).status).toBe("delayed");
    await at.leap(2_000);
    expect((await at.task(task)).status).toBe("running");
    expect(await balance({ kind: "all", period: "day" })).toMatchObject({ since: midnight, spent: NOTHING });
  });

  test.each([
    ["a higher limit", () => set({ kind: "all", caps: { calls: 2 } })],
    ["a cleared one", () => clear({ kind: "all" })],
    ["one that is removed", () => at.t.mutation(api.budgets.remove, { key, kind: "all" })],
  ])("goes on by %s", async (_what, change) => {
    const worker = await at.worker();
    await set({ kind: "all", caps: { calls: 1 } });
    await at.submit();
    await finish(worker, (await begin(worker)).run, { calls: 1 });
    const task = await at.submit();
    await at.pass();
    expect((await at.task(task)).status).toBe("delayed");
    await change();
    await at.pass();
    expect((await at.task(task)).status).toBe("running");
  });

  test("can be cancelled, and looks again by itself", async () => {
    await at.worker();
    await set({ kind: "all", caps: { calls: 0 } });
    const [one, two] = [await at.submit(), await at.submit()];
    await at.pass();
    await at.cancel(one);
    expect((await at.task(one)).status).toBe("cancelled");
    await at.leap(BUDGET_LOOK_MS + 1_000);
    expect((await at.why(two)).code).toBe("budget");
    await at.worker("another");
    await at.pass();
    expect((await at.task(two)).status).toBe("delayed");
  });

  test("fails when its own budget is spent", async () => {
    const worker = await at.worker();
    const task = await at.submit({ budget: { calls: 1 } });
    const { run } = await begin(worker);
    await worker.sync({
      finished: [
        {
          run,
          outcome: { kind: "failed", error: { code: "x", message: "x" }, retryable: true, notBeforeMs: null },
          usage: null,
          spending: { run, spent: some({ calls: 1 }), reserved: NOTHING, want: null },
        },
      ],
    });
    await at.pass(5_000);
    expect(await at.task(task)).toMatchObject({ status: "failed", error: { code: "budget_exceeded" } });
  });
});

describe("each limit", () => {
  test.each(["micros", "tokens", "calls", "ms"] as const)(
    "of %s holds at the limit and one above",
    async (unit) => {
      const worker = await at.worker();
      await set({ kind: "all", caps: { [unit]: 1_000 } });
      await at.submit();
      const { run } = await begin(worker);
      // All but one is spent: the last one is given, and nothing behind it.
      await ask(worker, run, 1, { [unit]: 1 }, { spent: { [unit]: 999 } });
      expect(await told(worker, run)).toMatchObject({ verdict: "granted", granted: { [unit]: 1_000 } });
      await ask(worker, run, 2, { [unit]: 1 }, { spent: { [unit]: 1_000 } });
      expect(await told(worker, run)).toMatchObject({ verdict: "exceeded", granted: { [unit]: 1_000 } });
    },
  );
});

describe("a spent budget", () => {
  const wish = (worker: TestWorker, run: Id<"runs">) => ask(worker, run, 1, { micros: 10 });
  const spend = async (worker: TestWorker, onBreach: OnBreach) => {
    await set({ kind: "all", period: "day", caps: { micros: 100 }, onBreach });
    const task = await at.submit();
    const { run } = await begin(worker);
    await ask(worker, run, 1, { micros: 10 }, { spent: { micros: 100 } });
    return { task, run, allotment: await told(worker, run) };
  };

  test("that warns lets the run go on, and the history tells once", async () => {
    const worker = await at.worker();
    const { task, run, allotment } = await spend(worker, "warn");
    expect(allotment).toMatchObject({ verdict: "granted", degraded: false, granted: { micros: 110 } });
    await ask(worker, run, 2, { micros: 10 }, { spent: { micros: 110 } });
    expect((await at.history(task)).filter((type) => type === "budget_breached")).toHaveLength(1);
    await at.submit();
    expect((await begin(worker)).allotment).toMatchObject({ verdict: "granted" });
  });

  test("that degrades asks for the cheapest model, also in runs to come", async () => {
    const worker = await at.worker();
    const { allotment } = await spend(worker, "degrade");
    expect(allotment).toMatchObject({ verdict: "granted", degraded: true });
    await at.submit();
    expect((await begin(worker)).allotment).toMatchObject({ degraded: true });
  });

  test("that pauses keeps the scope until the period is over", async () => {
    const worker = await at.worker();
    const { task, run, allotment } = await spend(worker, "pause");
    expect(allotment).toMatchObject({ verdict: "paused" });
    expect(await balance({ kind: "all", period: "day", onBreach: "pause" })).toMatchObject({ paused: true });
    await worker.finish(run, { kind: "released" });
    await at.pass();
    expect(await at.task(task)).toMatchObject({ status: "delayed", error: null });
    // A higher limit alone does not lift the pause; clearing does.
    await set({ kind: "all", period: "day", onBreach: "pause", caps: { micros: 1_000 } });
    await at.pass();
    expect((await at.task(task)).status).toBe("delayed");
    expect((await at.why(task)).message).toMatch("is paused");
    await clear({ kind: "all", period: "day", onBreach: "pause" });
    await at.pass();
    expect((await at.task(task)).status).toBe("running");
  });

  test.each([
    ["approve", "running", null],
    ["refuse", "failed", "budget_exceeded"],
  ] as const)("that asks lets people %s: then the task is %s", async (decision, status, code) => {
    const worker = await at.worker();
    const { task, run, allotment } = await spend(worker, "ask");
    expect(allotment).toMatchObject({ verdict: "asked" });
    const ask = { step: "budget#1", tool: "budget", args: allotment.ask!, why: "spend" as const };
    await worker.finish(run, {
      kind: "suspended",
      step: "budget#1",
      until: { approvals: [{ ...ask, about: null, timeoutMs: null }] },
    });
    await at.pass();
    expect((await at.task(task)).status).toBe("waiting_approval");
    const { approvals } = await at.t.query(api.approvals.list, { key, task });
    const { approval, argsHash } = approvals[0]!;
    await at.t.mutation(api.approvals.decide, { key, approval, argsHash, decision });
    await at.pass();
    expect(await at.task(task)).toMatchObject({ status, error: code === null ? null : { code } });
    if (decision === "refuse") return;
    // It goes on without regard to the budget; others begin with nothing, and ask for themselves.
    const again = await worker.begin();
    await wish(worker, again.run);
    expect(await told(worker, again.run)).toMatchObject({ verdict: "granted" });
    await at.submit();
    const other = await begin(worker);
    expect(other.allotment).toMatchObject({ verdict: "granted", granted: { micros: 0 } });
    await wish(worker, other.run);
    expect(await told(worker, other.run)).toMatchObject({ verdict: "asked" });
  });

  test("that stops tells the run so, and which budget it is", async () => {
    const worker = await at.worker();
    const { allotment } = await spend(worker, "stop");
    expect(allotment.verdict).toBe("exceeded");
    expect(allotment.why).toBe("The budget of everything for this day is spent: $0.000100 of $0.000100.");
  });
});

describe("a worker that died", () => {
  test("gives back what it held but for the calls that were under way", async () => {
    const worker = await at.worker();
    await set({ kind: "all", caps: { micros: 32_000 } });
    await at.submit({ retry: { maxAttempts: 1 } });
    const { run } = await begin(worker);
    await worker.sync({
      spending: [{ run, spent: some({ micros: 100 }), reserved: some({ micros: 70 }), want: null }],
    });
    expect(await balance()).toMatchObject({ held: { micros: 1_000 } });
    await at.leap(60_000);
    expect(await balance()).toMatchObject({ spent: { micros: 170 }, held: NOTHING });
    // What it says when it comes back is not counted.
    await worker.sync({ spending: [{ run, spent: some({ micros: 900 }), reserved: NOTHING, want: null }] });
    await at.pass();
    expect(await balance()).toMatchObject({ spent: { micros: 170 } });
  });

  test("that had not begun has spent nothing", async () => {
    const worker = await at.worker();
    await set({ kind: "all", caps: { micros: 32_000 } });
    await at.submit();
    await at.pass();
    await at.t.mutation(api.worker.crashed, { key: KEYS.worker, session: worker.session, blamed: null });
    await at.pass();
    expect(await balance()).toMatchObject({ spent: NOTHING, held: NOTHING });
  });
});

describe("the tree", () => {
  test("counts what a task spawns, unless the budget says otherwise", async () => {
    const worker = await at.worker();
    await set({ kind: "stack", name: "shop", caps: { micros: 64_000 } });
    await set({ kind: "agent", name: "echo", period: "run", caps: { micros: 3_200 }, children: false });
    const task = await at.submit({ budget: { micros: 32_000 }, stack: "shop" });
    const parent = await begin(worker);
    expect(parent.allotment).toMatchObject({ granted: { micros: 100 } });
    const args = { key: KEYS.worker, session: worker.session, run: parent.run, step: "s", gather: false };
    await at.t.mutation(api.worker.spawn, { ...args, tasks: [{ agent: "echo", input: "1" }] });
    const child = await begin(worker);
    await finish(worker, child.run, { micros: 90 });
    await at.pass();
    expect(await balance({ kind: "task", name: task })).toMatchObject({
      spent: { micros: 90 },
      held: { micros: 100 },
    });
    expect(await balance({ kind: "stack", name: "shop" })).toMatchObject({ spent: { micros: 90 } });
    const { balances } = await show({ kind: "agent", name: "echo", period: "run" });
    expect(balances.map(({ scope, spent }) => [scope, spent.micros]).sort()).toEqual(
      [
        [child.task, 90],
        [task, 0],
      ].sort(),
    );
  });
});

describe("what operators say", () => {
  test.each([
    [{ kind: "all", caps: {} }, "budget: give at least one of micros, tokens, calls and ms."],
    [
      { kind: "all", name: "x", caps: { calls: 1 } },
      "name: the budget of everything has none; leave it out.",
    ],
    [{ kind: "tenant", caps: { calls: 1 } }, /^name: /],
    [{ kind: "all", caps: { calls: -1 } }, /^budget calls: /],
    [{ kind: "all", caps: { calls: MAX_LIMIT + 1 } }, /^budget calls: /],
    [{ kind: "all", caps: { calls: 1.5 } }, /^budget calls: /],
    [{ kind: "all", caps: { calls: 1 }, zone: "Mars/Base" }, /^timeZone: /],
    [{ kind: "all", caps: { calls: 1 }, unpriced: -1 }, /^unpriced: /],
  ] as [BudgetSpec, string | RegExp][])("%j is refused", async (spec, message) => {
    await expect(set(spec)).rejects.toMatchObject({ data: { code: "invalid_argument" } });
    const error = (await set(spec).catch((caught: unknown) => caught)) as { data: { message: string } };
    expect(error.data.message).toMatch(message);
  });

  test("is listed with how it stands, and kept but for what is changed", async () => {
    await set({
      kind: "tenant",
      name: "t",
      period: "month",
      caps: { calls: MAX_LIMIT },
      zone: "Europe/Berlin",
    });
    await set({ kind: "tenant", name: "t", period: "month", caps: { tokens: 7 } });
    const { budgets } = await at.t.query(api.budgets.list, { key });
    expect(budgets).toMatchObject([
      {
        budget: {
          kind: "tenant",
          zone: "Europe/Berlin",
          caps: { calls: MAX_LIMIT, tokens: 7, micros: null },
        },
        balance: { since: Date.UTC(2026, 9, 31, 23), until: Date.UTC(2026, 10, 30, 23), spent: NOTHING },
      },
    ]);
  });

  test("of a budget that is not there is refused with those that are", async () => {
    await set({ kind: "tenant", name: "t", period: "day", caps: { calls: 1 } });
    await expect(clear({ kind: "tenant", name: "t" })).rejects.toMatchObject({
      data: { code: "not_found", message: expect.stringContaining("day, stop") as string },
    });
  });
});

describe("what was spent long ago", () => {
  test.each([
    [KEEP_PERIODS_MS, 2],
    [KEEP_PERIODS_MS + 86_400_000, 1],
  ])("is kept for %i ms: %i periods are left", async (after, kept) => {
    await set({ kind: "all", period: "day", caps: { calls: 5 } });
    await at.worker("then");
    await at.submit();
    await at.pass();
    vi.setSystemTime(Date.now() + after);
    await at.worker("now");
    await at.submit();
    await at.pass();
    const { balances } = await show({ kind: "all", period: "day" });
    expect(balances).toHaveLength(kept);
  });
});

describe("cost", () => {
  test("is summed over runs and minutes", async () => {
    const worker = await at.worker();
    const task = await at.submit({ stack: "shop" });
    const { run } = await begin(worker);
    const usage = { model: "m", calls: 2, inputTokens: 5, outputTokens: 3, costMicros: 41 };
    await worker.sync({ finished: [{ run, outcome: { kind: "succeeded", output: null }, usage }] });
    expect((await at.task(task)).usage).toEqual(usage);
    await at.leap(120_000);
    const from = Date.UTC(2026, 10, 21);
    const read = { key, scope: "stack:shop", from, to: from + 86_400_000 };
    const minutes = await at.t.query(api.stats.read, read);
    expect(minutes.reduce((sum, { costMicros = 0 }) => sum + costMicros, 0)).toBe(41);
  });
});

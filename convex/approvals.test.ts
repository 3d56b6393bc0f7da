/** What people decide: once, in time, for exactly what was asked; the task waits without a worker. */
import { beforeEach, describe, expect, test, vi } from "vitest";
import { api, internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import type { Ask } from "./approval.validators";
import { APPROVAL_MS, INLINE_BYTES, MAX_APPROVAL_BYTES, MAX_ASKS, MAX_DELAY_MS } from "./constants";
import { sha256 } from "./model/text";
import { KEYS, probe, useDeployment, type TestWorker } from "./setup.testing";
import type { Outcome } from "./validators";

const at = useDeployment();
let worker: TestWorker;

beforeEach(async () => {
  worker = await at.worker("w");
});

const PAY = '{"amount":100,"to":"Ada"}';

const question = (more: Partial<Ask> = {}): Ask => ({
  step: "pay",
  tool: "pay",
  args: PAY,
  why: "tool",
  about: null,
  timeoutMs: 60_000,
  ...more,
});

const asking = (...asks: Partial<Ask>[]): Outcome => ({
  kind: "suspended",
  step: asks[0]?.step ?? "pay",
  until: { approvals: asks.map(question) },
});

const begun = (spec = {}) => at.begun(worker, spec);

async function waiting(...asks: Partial<Ask>[]) {
  const { task, run } = await begun();
  await worker.finish(run, asking(...(asks.length > 0 ? asks : [{}])));
  return { task, run, approvals: (await open(task)).map(({ approval }) => approval).reverse() };
}

const open = async (task: Id<"tasks">) =>
  (await at.t.query(api.approvals.list, { key: KEYS.submit, task, state: "asked" })).approvals;

const shown = (approval: Id<"approvals">) => at.t.query(api.approvals.get, { key: KEYS.submit, approval });

async function decide(
  approval: Id<"approvals">,
  decision: "approve" | "refuse" = "approve",
  more: { argsHash?: string; note?: string; result?: string; request?: string; key?: string } = {},
) {
  const { argsHash } = await shown(approval);
  return at.t.mutation(api.approvals.decide, {
    key: KEYS.operator,
    approval,
    argsHash,
    decision,
    ...more,
  });
}

/** What the next run finds under each key. */
async function answers() {
  await at.pass();
  const { run } = await worker.begin();
  const { steps } = await worker.steps(run);
  return {
    run,
    answers: Object.fromEntries(
      steps.map(({ key, result }) => [key, JSON.parse(result ?? "null") as object]),
    ),
  };
}

describe("a task that waits for people", () => {
  test("holds no worker and burns no attempt; the decision is its step's result, and names who made it", async () => {
    const { task, run } = await begun({ retry: { maxAttempts: 1 } });
    await worker.finish(run, asking({}));
    expect(await at.task(task)).toMatchObject({ status: "waiting_approval", error: null });
    const [asked] = await open(task);
    expect(asked).toMatchObject({
      ...{ task, run, tenant: "default", agent: "echo", step: "pay", tool: "pay", args: PAY, why: "tool" },
      ...{ argsHash: await sha256(PAY), state: "asked", expiresAt: Date.now() + 60_000, decidedBy: null },
    });
    await at.pass(1_000);
    expect((await worker.inbox()).assigned).toEqual([]);
    const decided = await decide(asked!.approval, "approve", { note: "as agreed" });
    const [operator] = (await at.t.query(internal.operator.listKeys, {})).filter(
      (k) => k.label === "operator",
    );
    expect(decided).toMatchObject({
      ...{ state: "approved", decidedBy: operator!.key, decidedByLabel: "operator", note: "as agreed" },
      decidedAt: Date.now(),
    });
    const found = await answers();
    expect(found.answers).toEqual({
      pay: {
        ...{ state: "approved", by: operator!.key, label: "operator", note: "as agreed" },
        argsHash: await sha256(PAY),
      },
    });
    await worker.finish(found.run);
    expect((await at.task(task)).status).toBe("succeeded");
    expect(await at.history(task)).toEqual([
      ...["task_submitted", "run_assigned", "approval_asked", "task_suspended", "approval_decided"],
      ...["task_woken", "run_assigned", "task_succeeded"],
    ]);
  });

  test("says what it waits for", async () => {
    const { task, approvals } = await waiting();
    expect((await at.state(task)).waitsFor).toBe(`approval of pay (${approvals[0]})`);
    const reason = await at.why(task);
    expect(reason).toMatchObject({ code: "waiting_approval", at: Date.now() + 60_000 });
    expect(reason.message).toContain(approvals[0]!);
  });

  test("is refused what it asks for, and goes on with that", async () => {
    const { approvals } = await waiting();
    await decide(approvals[0]!, "refuse", { note: "too much" });
    expect((await answers()).answers).toMatchObject({ pay: { state: "refused", note: "too much" } });
  });

  test("asks several things at a time and goes on when all are decided", async () => {
    const { task, approvals } = await waiting({ step: "a" }, { step: "b" }, { step: "c", timeoutMs: 5_000 });
    expect(approvals).toHaveLength(3);
    await decide(approvals[1]!, "refuse");
    await decide(approvals[0]!);
    expect((await at.task(task)).status).toBe("waiting_approval");
    await at.pass(5_100);
    expect((await at.task(task)).status).toBe("running");
    const found = await answers();
    expect(found.answers).toMatchObject({
      ...{ a: { state: "approved" }, b: { state: "refused" }, c: { state: "expired" } },
    });
  });

  test("is asked nothing twice: what an earlier run was answered stands", async () => {
    const { task, approvals } = await waiting({ step: "a" });
    await decide(approvals[0]!);
    const { run } = await answers();
    await worker.finish(run, asking({ step: "a" }, { step: "b" }));
    expect(await open(task)).toMatchObject([{ step: "b" }]);
    await worker.finish((await at.task(task)).run!); // it holds none
    await decide((await open(task))[0]!.approval);
    const again = await answers();
    await worker.finish(again.run, asking({ step: "a" }, { step: "b" }));
    expect(await open(task)).toEqual([]);
    await at.pass();
    expect((await at.task(task)).status).toBe("running");
  });

  test("is paused when the decision comes, if that was asked for", async () => {
    const { task, approvals } = await waiting();
    expect(await at.pause(task)).toBe("waiting_approval");
    await decide(approvals[0]!);
    expect((await at.task(task)).status).toBe("paused");
    expect(await at.resume(task)).toBe("pending");
    expect((await answers()).answers).toMatchObject({ pay: { state: "approved" } });
  });

  test("is found by a bulk cancel", async () => {
    const { task, approvals } = await waiting();
    const args = { key: KEYS.submit, filter: { status: "waiting_approval" as const } };
    expect(await at.t.mutation(api.tasks.cancelMany, args)).toMatchObject({ matched: 1, changed: 1 });
    expect((await at.task(task)).status).toBe("cancelled");
    expect((await shown(approvals[0]!)).state).toBe("withdrawn");
  });

  test("ends by its own deadline, and nobody is asked any more", async () => {
    const { task, run } = await begun({ endWithinMs: 5_000 });
    await worker.finish(run, asking({}));
    const { approval } = (await open(task))[0]!;
    await at.pass(5_100);
    expect(await at.task(task)).toMatchObject({ status: "failed", error: { code: "end_deadline" } });
    await expect(decide(approval)).rejects.toThrow(/already_decided.*withdrawn/);
  });
});

describe("a decision", () => {
  test("is made once: the second is told who was first, a repeat of the first changes nothing", async () => {
    const { task, approvals } = await waiting();
    const [id] = approvals as [Id<"approvals">];
    const first = await decide(id, "approve", { request: "r1" });
    expect(await decide(id, "approve", { request: "r1" })).toEqual(first);
    await expect(decide(id, "approve")).rejects.toThrow(
      /already_decided.*approved by \\*"operator\\*" \(key /,
    );
    await expect(decide(id, "refuse", { request: "r2" })).rejects.toThrow(/already_decided/);
    const hash = await sha256("sbo_other");
    await at.t.mutation(internal.operator.createKey, { hash, role: "operator", label: "other" });
    await expect(decide(id, "refuse", { request: "r1", key: "sbo_other" })).rejects.toThrow(
      /already_decided/,
    );
    expect((await at.history(task)).filter((type) => type === "approval_decided")).toHaveLength(1);
  });

  test("is bound to the arguments that were asked for", async () => {
    const { task, approvals } = await waiting();
    const argsHash = await sha256('{"amount":1000,"to":"Ada"}');
    await expect(decide(approvals[0]!, "approve", { argsHash })).rejects.toThrow("arguments_changed");
    expect((await at.task(task)).status).toBe("waiting_approval");
    await decide(approvals[0]!);
  });

  test("holds for no other arguments: a run that asks under the same step fails visibly", async () => {
    const { task, approvals } = await waiting();
    await decide(approvals[0]!);
    const { run } = await answers();
    await worker.finish(run, asking({ args: '{"amount":1000,"to":"Ada"}' }));
    const { status, error } = await at.task(task);
    expect([status, error!.code]).toEqual(["failed", "arguments_changed"]);
    expect(error!.message).toContain(approvals[0]!);
  });

  test("is the operator's, for the queues of the key", async () => {
    const { approvals } = await waiting();
    const [approval] = approvals as [Id<"approvals">];
    for (const key of [KEYS.viewer, KEYS.submit, KEYS.worker]) {
      await expect(decide(approval, "approve", { key })).rejects.toThrow("forbidden");
    }
    const hash = await sha256("sbo_gpu");
    await at.t.mutation(internal.operator.createKey, {
      ...{ hash, role: "operator", label: "gpu", queues: ["gpu"] },
    });
    await expect(decide(approval, "approve", { key: "sbo_gpu" })).rejects.toThrow("not the queue default");
    expect((await shown(approval)).state).toBe("asked");
  });

  test("comes in time or not at all: at the limit it has expired", async () => {
    const { approvals } = await waiting();
    const { approvals: late, task } = await waiting({ timeoutMs: 60_000 });
    const { expiresAt } = await shown(approvals[0]!);
    vi.setSystemTime(expiresAt - 1);
    expect((await decide(approvals[0]!)).state).toBe("approved");
    vi.setSystemTime((await shown(late[0]!)).expiresAt);
    await expect(decide(late[0]!)).rejects.toThrow(/already_decided.*it expired at/);
    await at.pass(61_000); // the clock was set, the timers were not
    expect(await shown(late[0]!)).toMatchObject({ state: "expired", decidedBy: null });
    await expect(decide(late[0]!)).rejects.toThrow(/already_decided.*it expired at/);
    expect((await at.history(task)).filter((type) => type === "task_woken")).toHaveLength(1);
  });

  test("in time clears the time limit", async () => {
    const { task, approvals } = await waiting();
    await decide(approvals[0]!);
    await at.pass(61_000);
    expect((await shown(approvals[0]!)).state).toBe("approved");
    expect((await at.history(task)).filter((type) => type === "task_woken")).toHaveLength(1);
  });

  test("that races with a cancel: whichever commits first stands", async () => {
    const [first, second] = [await waiting(), await waiting()];
    await Promise.allSettled([at.cancel(first.task), decide(first.approvals[0]!)]);
    expect((await at.task(first.task)).status).toBe("cancelled");
    expect((await shown(first.approvals[0]!)).state).toMatch(/withdrawn|approved/);
    await at.cancel(second.task);
    await expect(decide(second.approvals[0]!)).rejects.toThrow(/already_decided.*withdrawn/);
    await at.pass(61_000);
    expect((await shown(second.approvals[0]!)).state).toBe("withdrawn");
    expect((await at.task(second.task)).status).toBe("cancelled");
  });

  test("is asked for anew when a cancelled task is tried again", async () => {
    const { task } = await waiting();
    await at.cancel(task);
    await at.retry(task);
    const { run } = await answers();
    await worker.finish(run, asking({ args: '{"amount":1}' }));
    expect(await open(task)).toMatchObject([{ args: '{"amount":1}', state: "asked" }]);
    const all = await at.t.query(api.approvals.list, { key: KEYS.submit, task });
    expect(all.approvals.map(({ state }) => state)).toEqual(["asked", "withdrawn"]);
    await decide(all.approvals[0]!.approval);
    expect((await answers()).answers).toMatchObject({ pay: { argsHash: await sha256('{"amount":1}') } });
  });

  test.each([
    ["approval_refused", ["asked", "approved", "refused"]],
    ["boom", ["approved", "refused"]],
  ])("that a task failed of as %s is asked for anew by a retry, or not", async (code, states) => {
    const { task, approvals } = await waiting({ step: "a" }, { step: "b" });
    await decide(approvals[0]!, "refuse");
    await decide(approvals[1]!);
    const { run } = await answers();
    const error = { code, message: "not so" };
    await worker.finish(run, { kind: "failed", error, retryable: false, notBeforeMs: null });
    await at.retry(task);
    const second = await answers();
    expect(second.answers).toMatchObject({ b: { state: "approved" } });
    await worker.finish(second.run, asking({ step: "a" }, { step: "b" }));
    const all = await at.t.query(api.approvals.list, { key: KEYS.submit, task });
    expect(all.approvals.map(({ state }) => state)).toEqual(states);
  });

  test("can say what came of something in doubt, and of nothing else", async () => {
    const { approvals } = await waiting({ step: "a", why: "in_doubt", about: "x" }, { step: "b" });
    await expect(decide(approvals[1]!, "approve", { result: "1" })).rejects.toThrow("result:");
    await expect(decide(approvals[0]!, "refuse", { result: "1" })).rejects.toThrow("result:");
    await expect(decide(approvals[0]!, "approve", { result: "{" })).rejects.toThrow("result: not JSON");
    const over = JSON.stringify("x".repeat(MAX_APPROVAL_BYTES - 1));
    await expect(decide(approvals[0]!, "approve", { result: over })).rejects.toThrow("payload_too_large");
    const most = JSON.stringify("x".repeat(MAX_APPROVAL_BYTES - 2));
    await decide(approvals[0]!, "approve", { result: most });
    await decide(approvals[1]!);
    const found = await answers();
    expect(found.answers["a"]).toMatchObject({ state: "approved", result: JSON.parse(most) as string });
  });

  test("on something that is not there is refused", async () => {
    const { task, approvals } = await waiting();
    const nobody = { key: KEYS.operator, argsHash: "x", decision: "approve" as const };
    await expect(at.t.mutation(api.approvals.decide, { ...nobody, approval: "zzz" })).rejects.toThrow(
      "not_found",
    );
    await at.t.mutation(probe.removeTask, { task });
    await expect(at.t.mutation(api.approvals.decide, { ...nobody, approval: approvals[0]! })).rejects.toThrow(
      "not_found",
    );
    await at.pass(61_000); // its alarm finds nobody
  });
});

describe("what can be asked", () => {
  const bytes = (n: number) => JSON.stringify("x".repeat(n - 2));

  test.each<[string, Partial<Ask>, string]>([
    ["arguments at the limit", { args: bytes(MAX_APPROVAL_BYTES) }, "waiting_approval"],
    ["arguments over it", { args: bytes(MAX_APPROVAL_BYTES + 1) }, "approval_too_large"],
    ["no JSON", { args: "{" }, "invalid_approval"],
    ["a name", { tool: "x".repeat(256) }, "waiting_approval"],
    ["too long a name", { tool: "x".repeat(257) }, "invalid_approval"],
    ["no name", { tool: "" }, "invalid_approval"],
    ["the longest wait", { timeoutMs: MAX_DELAY_MS }, "waiting_approval"],
    ["a longer one", { timeoutMs: MAX_DELAY_MS + 1 }, "invalid_approval"],
    ["no number", { timeoutMs: Number.NaN }, "invalid_approval"],
    ["no step", { step: "" }, "invalid_step"],
  ])("%s", async (_, more, ends) => {
    const { task, run } = await begun();
    await worker.finish(run, asking(more));
    const { status, error } = await at.task(task);
    expect(error?.code ?? status).toBe(ends);
  });

  test.each([
    [MAX_ASKS, "waiting_approval"],
    [MAX_ASKS + 1, "failed"],
    [0, "failed"],
  ])("%d questions at a time", async (count, status) => {
    const { task, run } = await begun();
    await worker.finish(run, asking(...Array.from({ length: count }, (_, n) => ({ step: `s${n}` }))));
    expect((await at.task(task)).status).toBe(status);
    await at.cancel(task);
    expect(await open(task)).toEqual([]);
  });

  test("two of one step, or of one that was something else, are refused", async () => {
    const first = await begun();
    await worker.finish(first.run, asking({}, {}));
    expect((await at.task(first.task)).error!.code).toBe("invalid_approval");
    const second = await begun();
    await worker.step(second.run, "pay");
    await worker.finish(second.run, asking({}));
    expect((await at.task(second.task)).error!.code).toBe("step_mismatch");
  });

  test("waits for seven days unless the asker says otherwise", async () => {
    const { approvals } = await waiting({ timeoutMs: null });
    const { askedAt, expiresAt } = await shown(approvals[0]!);
    expect(Math.abs(expiresAt - askedAt - APPROVAL_MS)).toBeLessThan(1_000);
  });

  test("is listed newest first, by tenant, task and state, large arguments left out", async () => {
    const large = await waiting({ args: bytes(INLINE_BYTES + 1) });
    const small = await waiting({ args: bytes(INLINE_BYTES) });
    await decide(small.approvals[0]!);
    const list = (more: object) => at.t.query(api.approvals.list, { key: KEYS.submit, ...more });
    const all = await list({});
    expect(all.approvals.map(({ task }) => task)).toEqual([small.task, large.task]);
    expect(all.approvals.map(({ args }) => args?.length ?? null)).toEqual([INLINE_BYTES, null]);
    expect((await shown(large.approvals[0]!)).args).toHaveLength(INLINE_BYTES + 1);
    expect((await list({ state: "asked" })).approvals).toMatchObject([{ task: large.task }]);
    expect((await list({ tenant: "another" })).approvals).toEqual([]);
    const page = await list({ limit: 1 });
    expect((await list({ limit: 1, cursor: page.cursor })).approvals).toMatchObject([{ task: large.task }]);
    await expect(list({ limit: 101 })).rejects.toThrow("limit");
  });
});

describe("an effect that people were asked about", () => {
  const intent = (run: Id<"runs">, argsHash: string) =>
    worker.sync({
      steps: [
        {
          ...{ run, key: "turn#1/0:pay", kind: "tool", tool: "pay", effect: "unsafe", state: "intended" },
          ...{ argsHash, result: null, signal: null },
        },
      ],
    });
  const key = "turn#1/0:pay.approval";

  test("begins with the arguments that were approved", async () => {
    const { task, approvals } = await waiting({ step: key });
    await decide(approvals[0]!);
    const { run } = await answers();
    await intent(run, await sha256(PAY));
    expect((await at.task(task)).status).toBe("running");
    expect((await at.state(task)).steps).toBe(2);
  });

  test.each([
    ["with others it is refused", "approve", '{"amount":1000,"to":"Ada"}', "arguments_changed"],
    ["refused, it does not begin", "refuse", PAY, "not_approved"],
  ] as const)("%s", async (_, decision, args, code) => {
    const { task, approvals } = await waiting({ step: key });
    await decide(approvals[0]!, decision);
    const { run } = await answers();
    expect((await intent(run, await sha256(args))).lost).toEqual([run]);
    expect(await at.task(task)).toMatchObject({ status: "failed", error: { code } });
  });

  test("is in doubt until people have said what became of it", async () => {
    const { task, run } = await begun({ retry: { initialMs: 1 } });
    const argsHash = await sha256(PAY);
    await intent(run, argsHash);
    const about = "turn#1/0:pay";
    const doubt = { step: `${about}.doubt`, why: "in_doubt", about } as const;
    await worker.finish(run, asking(doubt));
    const state = async () => {
      const { run } = await at.task(task);
      const { steps } = await worker.steps(run!);
      return steps.find((step) => step.key === about)!.state;
    };
    const { approval } = (await open(task))[0]!;
    await decide(approval); // it did not happen
    await at.pass();
    expect(await state()).toBe("intended");
    const second = await worker.begin();
    await worker.finish(second.run, asking({ ...doubt, step: `${about}.doubt#2` }));
    await decide((await open(task))[0]!.approval, "approve", { result: '"paid"' });
    await at.pass();
    expect(await state()).toBe("in_doubt"); // until the run that knows tells its result
  });
});

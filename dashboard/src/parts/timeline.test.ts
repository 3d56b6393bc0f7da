import { describe, expect, test } from "vitest";
import type { Id } from "../../../convex/_generated/dataModel";
import type { AttemptView, CallRow, StepRow } from "../../../convex/dashboard.validators";
import { objectionToResult } from "./approvals";
import { spentBy, tokensOf } from "./cost";
import { momentsOf } from "./timeline";

const run = "run" as Id<"runs">;
const attempt = (more: Partial<AttemptView> = {}): AttemptView => ({
  ...{ run, attempt: 1, worker: "w", state: "running", assignedAt: 900, startedAt: 1_000, endedAt: null },
  ...{ usage: null, error: null, ...more },
});
const call = (more: Partial<CallRow> = {}): CallRow => ({
  ...{ run, call: 1, attempt: 1, model: "p/m", startedMs: 0, ms: 100, state: "succeeded", error: null },
  ...{ usage: null, costMicros: 5, estimated: false, keptAt: 2_000, ...more },
});
const step = (key: string, keptAt: number): StepRow => ({
  ...{ key, kind: "turn", keptAt, over: true, endsAt: null, result: "1", cut: false, tool: null },
  ...{ effect: null, state: null, usage: null, copied: false },
});

describe("the order of time", () => {
  const order = (...given: Parameters<typeof momentsOf>) =>
    momentsOf(...given).map((moment) =>
      moment.kind === "attempt"
        ? moment.attempt.run
        : moment.kind === "step"
          ? moment.step.key
          : `${moment.call.call}.${moment.call.attempt}`,
    );

  test("a call stands before the step that is told with it, and behind the step that came before it", () => {
    const calls = [call({ keptAt: 1_100.1 }), call({ call: 2, startedMs: 150, keptAt: 1_300.1 })];
    const steps = [step("turn#1", 1_100), step("turn#2", 1_300)];
    expect(order([attempt()], calls, steps)).toEqual(["run", "1.1", "turn#1", "2.1", "turn#2"]);
  });

  test("attempts of a call that are told at once stand in their order, however long each took", () => {
    const calls = [
      call({ ms: 50, keptAt: 4_000 }),
      call({ attempt: 2, startedMs: 60, ms: 2_900, keptAt: 4_000 }),
    ];
    expect(order([attempt()], calls, [step("turn#1", 3_999)])).toEqual(["run", "1.1", "1.2", "turn#1"]);
  });

  test("no call stands before its attempt, whatever its worker's clock says", () => {
    expect(order([attempt()], [call({ ms: 5_000 })], [])).toEqual(["run", "1.1"]);
  });

  test("a call of an attempt that is not shown stands by when it was told of", () => {
    const other = "other" as Id<"runs">;
    expect(order([attempt()], [call({ run: other, keptAt: 950 })], [])).toEqual(["1.1", "run"]);
  });
});

describe("what a task has cost", () => {
  const usage = { model: null, calls: 1, inputTokens: 1, outputTokens: 1 };
  const ended = { run, status: "succeeded", usage: { ...usage, costMicros: 70 } } as const;
  test("is what its ended runs have; of the live one its calls are added", () => {
    const shown = { calls: [call(), call({ call: 2, costMicros: 6 })], more: false };
    expect(spentBy(ended, shown)).toEqual({ micros: 70, atLeast: false, estimated: false });
    expect(spentBy({ ...ended, status: "running" }, shown)).toMatchObject({ micros: 81, atLeast: false });
    expect(spentBy({ ...ended, status: "running", usage }, shown)).toMatchObject({ micros: 11 });
  });

  test("is unknown without a price, at least that with calls that have none, and told to be estimated", () => {
    const free = { calls: [call({ costMicros: null })], more: false };
    expect(spentBy({ ...ended, usage }, free)).toMatchObject({ micros: null });
    expect(spentBy({ ...ended, status: "running" }, free)).toMatchObject({ micros: 70, atLeast: true });
    expect(spentBy({ ...ended, status: "running" }, { calls: [call()], more: true }).atLeast).toBe(true);
    expect(spentBy(ended, { calls: [call({ estimated: true })], more: false }).estimated).toBe(true);
  });
});

test.each([
  [{ inputTokens: 1, outputTokens: null, cachedInputTokens: null }, "1 in, ? out"],
  [{ inputTokens: 20, outputTokens: 3, cachedInputTokens: 0 }, "20 in, 3 out"],
  [{ inputTokens: 20, outputTokens: 3, cachedInputTokens: 15 }, "20 in (15 cached), 3 out"],
])("tokens %j: %s", (usage, text) => expect(tokensOf(usage)).toBe(text));

test.each([
  ["null", null],
  [' {"paid": true} ', null],
  [" ", "Say what came of it"],
  ["done", "is not JSON"],
])("what came of a call: %j", (text, wrong) => {
  const found = objectionToResult(text);
  if (wrong === null) expect(found).toBeNull();
  else expect(found).toContain(wrong);
});

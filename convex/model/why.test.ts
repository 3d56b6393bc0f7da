import { describe, expect, test } from "vitest";
import { reasons, type Facts } from "./why";

const NOW = 1_000_000;

const worker = (more: Partial<Facts["workers"][number]> = {}) => ({
  name: "w",
  queues: ["q"],
  agents: ["a"],
  labels: [],
  llm: false,
  capacity: 2,
  draining: false,
  held: 0,
  ...more,
});

type More = Partial<Omit<Facts, "task">> & { task?: Partial<Facts["task"]> };

function facts({ task, ...more }: More = {}): Facts {
  return {
    now: NOW,
    task: {
      _id: "t1" as Facts["task"]["_id"],
      status: "pending",
      queue: "q",
      agent: "a",
      kind: "python",
      labels: [],
      cancelRequested: false,
      error: null,
      endedAt: null,
      attempt: 0,
      failures: 0,
      retry: { maxAttempts: 3, initialMs: 1_000, base: 2, maxMs: 300_000 },
      ...task,
    },
    version: undefined,
    lane: "q/a//t/",
    ahead: { count: 0, more: false },
    delayed: null,
    after: null,
    wait: null,
    asked: [],
    run: null,
    blocks: [],
    workers: [worker()],
    dead: [],
    ...more,
  };
}

const run = { worker: "w", since: NOW - 2_000, deadlineAt: NOW + 5_000, silentMs: null };
const queue = { kind: "queue", name: "q" } as const;
const system = { kind: "system", name: "" } as const;
const rate = { count: 2, perMs: 1_000, burst: 1 };

describe("why", () => {
  test.each<[string, More, [code: string, message: RegExp, at?: number][]]>([
    ["next in line", {}, [["in_line", /next of its lane/]]],
    ["in line", { ahead: { count: 3, more: false } }, [["in_line", /^3 of its lane/]]],
    ["far behind", { ahead: { count: 100, more: true } }, [["in_line", /^At least 100/]]],
    [
      "delayed",
      { task: { status: "delayed" }, delayed: { dueAt: NOW + 9, setAside: null } },
      [["delayed", /due later/, NOW + 9]],
    ],
    [
      "to be tried again",
      {
        task: {
          status: "delayed",
          error: { code: "boom", message: "" },
          failures: 1,
          attempt: 1,
          gathers: true,
        },
        delayed: { dueAt: NOW + 9, setAside: null },
      },
      [["delayed", /ended with boom, and it is tried again: 1 of 3 attempts/, NOW + 9]],
    ],
    [
      "gathering a batch",
      { task: { status: "delayed", gathers: true }, delayed: { dueAt: NOW + 9, setAside: null } },
      [["delayed", /gathers a batch/, NOW + 9]],
    ],
    [
      "debounced",
      { task: { status: "delayed" }, delayed: { dueAt: NOW + 9, setAside: null }, debounced: true },
      [["delayed", /debounced: each submit under its key puts it off/, NOW + 9]],
    ],
    [
      "for its children",
      { task: { status: "waiting_event" }, wait: { event: "g1", until: null, group: "g1" } },
      [["waiting_event", /tasks that it has submitted \(group g1\)/]],
    ],
    [
      "set aside",
      { task: { status: "delayed" }, delayed: { dueAt: NOW + 9, setAside: "boom" } },
      [["set_aside", /boom/, NOW + 9]],
    ],
    [
      "asleep",
      { task: { status: "sleeping" }, delayed: { dueAt: NOW + 9, setAside: null } },
      [["sleeping", /between two runs/, NOW + 9]],
    ],
    [
      "for an event",
      { task: { status: "waiting_event" }, wait: { event: "paid", until: NOW + 9, group: null } },
      [["waiting_event", /"paid"/, NOW + 9]],
    ],
    [
      "for others",
      { task: { status: "waiting" }, after: { tasks: ["t1", "t2"], more: true, mode: "any" } },
      [["waiting", /any of: t1, t2 and more/]],
    ],
    [
      "behind a settle loop that has died",
      {
        task: { status: "waiting" },
        after: { tasks: [], more: false, mode: "all" },
        dead: ["settle", "timers", "dispatch"],
      },
      [
        ["waiting", /^All that it comes after has ended/],
        ["loop_dead", /settle loop/],
      ],
    ],
    ["paused", { task: { status: "paused" }, dead: ["settle", "timers"] }, [["paused", /is paused/]]],
    [
      "being prepared by a loop that has died",
      { task: { status: "paused", preparing: "restart" }, dead: ["settle"] },
      [
        ["preparing", /dropped/],
        ["loop_dead", /settle loop/],
      ],
    ],
    [
      "asked to pause while it waits",
      {
        task: { status: "waiting_approval", pauseRequested: true },
        asked: [
          { approval: "a1", tool: "pay", why: "tool", expiresAt: NOW + 9 },
          { approval: "a2", tool: "mail", why: "in_doubt", expiresAt: NOW + 8 },
        ],
      },
      [
        ["pause_requested", /./],
        ["waiting_approval", /approve "pay" \(approval a1\)/, NOW + 9],
        ["waiting_approval", /whether "mail" happened \(approval a2\)/, NOW + 8],
      ],
    ],
    [
      "waiting, and to be paused",
      {
        task: { status: "waiting_event", pauseRequested: true },
        wait: { event: "x", until: null, group: null },
      },
      [
        ["pause_requested", /pause/],
        ["waiting_event", /"x"/],
      ],
    ],
    [
      "everything at once, in order",
      {
        dead: ["dispatch", "timers"],
        blocks: [
          { code: "paused", scope: system, by: [system], zero: false },
          { code: "counting", scope: queue },
          { code: "limit", scope: queue, inUse: 2, limit: 2 },
          { code: "rate", scope: queue, rate, at: NOW + 3 },
        ],
        workers: [],
      },
      [
        ["loop_dead", /dispatch loop/],
        ["scope_paused", /The system is paused/],
        ["scope_counting", /queue "q".*counted/],
        ["scope_limit", /queue "q".*2 of 2 runs/],
        ["scope_rate", /queue "q".*2 starts in 1000 ms/, NOW + 3],
        ["no_worker", /No worker is live/],
        ["in_line", /next/],
      ],
    ],
    [
      "delayed with dead timers",
      { task: { status: "delayed" }, delayed: { dueAt: NOW, setAside: null }, dead: ["timers"] },
      [
        ["delayed", /./, NOW],
        ["loop_dead", /timers loop/],
      ],
    ],
    [
      "delayed under a pause",
      {
        task: { status: "delayed" },
        delayed: { dueAt: NOW + 9, setAside: null },
        blocks: [{ code: "paused", scope: queue, by: [queue], zero: false }],
      },
      [
        ["delayed", /./, NOW + 9],
        ["scope_paused", /queue "q"/],
      ],
    ],
    [
      "no queue",
      { workers: [worker({ queues: ["x"] })] },
      [
        ["no_worker_for_queue", /None of 1 live/],
        ["in_line", /./],
      ],
    ],
    [
      "no agent",
      { workers: [worker({ agents: [] }), worker({ queues: ["x"] })] },
      [
        ["no_worker_for_agent", /None of 1 workers of its queue knows the agent a/],
        ["in_line", /./],
      ],
    ],
    [
      "no model",
      { task: { kind: "llm" }, workers: [worker({ agents: [] })] },
      [
        ["no_worker_for_agent", /has a model/],
        ["in_line", /./],
      ],
    ],
    [
      "no labels",
      { task: { labels: ["gpu"] } },
      [
        ["no_worker_for_labels", /None of 1 .*: gpu/],
        ["in_line", /./],
      ],
    ],
    [
      "draining",
      { workers: [worker({ draining: true })] },
      [
        ["draining", /All 1/],
        ["in_line", /./],
      ],
    ],
    [
      "full",
      { workers: [worker({ held: 2 }), worker({ held: 2 }), worker({ draining: true })] },
      [
        ["full", /All 2 .*: 4 of 4 runs/],
        ["in_line", /./],
      ],
    ],
    ["room for one", { workers: [worker({ held: 2 }), worker({ held: 1 })] }, [["in_line", /./]]],
    [
      "given",
      { task: { status: "running" }, run: { ...run, state: "assigned" } },
      [["assigned", /worker w 2.0 s ago/, NOW + 5_000]],
    ],
    [
      "running in silence, cancelled",
      {
        task: { status: "running", cancelRequested: true },
        run: { ...run, state: "running", silentMs: 1_500 },
      },
      [
        ["cancel_requested", /cancellation/],
        ["running", /since 2.0 s; silent for 1.5 s/, NOW + 5_000],
      ],
    ],
    ["done", { task: { status: "succeeded", endedAt: NOW - 1 } }, [["ended", /succeeded/, NOW - 1]]],
    [
      "failed",
      { task: { status: "failed", endedAt: NOW - 1, error: { code: "x", message: "no luck" } } },
      [["ended", /failed: no luck/, NOW - 1]],
    ],
    ["cancelled", { task: { status: "cancelled", endedAt: NOW } }, [["ended", /cancelled/, NOW]]],
    ["skipped", { task: { status: "skipped", endedAt: NOW } }, [["ended", /skipped/, NOW]]],
  ])("%s", (_, more, expected) => {
    const found = reasons(facts(more));
    expect(found.map(({ code }) => code)).toEqual(expected.map(([code]) => code));
    for (const [i, [, message, at = null]] of expected.entries()) {
      expect(found[i]!.message).toMatch(message);
      expect(found[i]!.at).toBe(at);
      expect(found[i]!.clears).not.toBe("");
    }
  });

  test.each([
    [[system], system, false, "The system is paused.", "signalbox resume."],
    [[queue], queue, false, 'The queue "q" is paused.', "signalbox resume --queue q."],
    [[], queue, true, 'The queue "q" has a limit of 0.', "A higher limit."],
    [
      [queue, { kind: "queue", name: "*" }],
      queue,
      true,
      'The queue "q" is paused and is paused with all of its kind and has a limit of 0.',
      'signalbox resume --queue q, and signalbox resume --queue "*", and a higher limit.',
    ],
  ] as const)("says what lets go what is held back: %j %j %j", (by, scope, zero, message, clears) => {
    const [found] = reasons(facts({ blocks: [{ code: "paused", scope, by: [...by], zero }] }));
    expect(found).toEqual({ code: "scope_paused", message, clears, at: null });
  });
});

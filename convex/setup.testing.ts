/** What the tests of the control plane share: keys, a worker, time. */
import { makeFunctionReference } from "convex/server";
import { afterEach, beforeEach, expect, vi } from "vitest";
import { api, internal } from "./_generated/api";
import type { CallReport, ModelReport } from "./model.validators";
import type { Id } from "./_generated/dataModel";
import { sha256 } from "./model/text";
import type { Spending } from "./budget.validators";
import type { Emission } from "./trigger.validators";
import { startBackend, type Backend } from "./backends.testing";
import type { Clocks, Finished, Outcome, ProgressReport, StepReport, TaskSpec } from "./validators";

export const KEYS = {
  worker: "sbw_test",
  viewer: "sbv_test",
  submit: "sbs_test",
  operator: "sbo_test",
} as const;

export const SUCCEEDED: Outcome = { kind: "succeeded", output: null };
/** Not retryable. */
export const FATAL: Outcome = {
  kind: "failed",
  error: { code: "boom", message: "no" },
  retryable: false,
  notBeforeMs: null,
};

/** The functions of probe.testing.ts, which no generated code knows. */
export const probe = {
  notes: makeFunctionReference<"query", Record<string, never>, string[]>("probe:notes"),
  strandSettle: makeFunctionReference<"mutation", { again: boolean }, null>("probe:strandSettle"),
  loseCallback: makeFunctionReference<"mutation", { group: Id<"groups"> }, null>("probe:loseCallback"),
  mendCallback: makeFunctionReference<"mutation", { group: Id<"groups">; callback: string }, null>(
    "probe:mendCallback",
  ),
  settlements: makeFunctionReference<"query", Record<string, never>, number>("probe:settlements"),
  controls: makeFunctionReference<"query", Record<string, never>, Id<"controls">[]>("probe:controls"),
  endpoints: makeFunctionReference<
    "query",
    Record<string, never>,
    { endpoint: Id<"endpoints">; asked: number; answered: number }[]
  >("probe:endpoints"),
  everyJob: makeFunctionReference<"query", Record<string, never>, string[]>("probe:everyJob"),
  removeTask: makeFunctionReference<"mutation", { task: Id<"tasks"> }, null>("probe:removeTask"),
  rowCounts: makeFunctionReference<"query", Record<string, never>, Record<string, number>>("probe:rowCounts"),
  strandUpkeep: makeFunctionReference<"mutation", { busyUntil: number }, number>("probe:strandUpkeep"),
  inputOf: makeFunctionReference<"query", { task: Id<"tasks"> }, Id<"outputs"> | null>("probe:inputOf"),
  removeRun: makeFunctionReference<"mutation", { run: Id<"runs"> }, null>("probe:removeRun"),
  removeAgent: makeFunctionReference<"mutation", { name: string }, null>("probe:removeAgent"),
  countTasks: makeFunctionReference<"query", Record<string, never>, number>("probe:countTasks"),
  countOutputs: makeFunctionReference<"query", Record<string, never>, number>("probe:countOutputs"),
  keyRows: makeFunctionReference<"query", Record<string, never>, string>("probe:keyRows"),
  ownerlessRuns: makeFunctionReference<"query", Record<string, never>, number>("probe:ownerlessRuns"),
  books: makeFunctionReference<
    "query",
    Record<string, never>,
    {
      live: string[];
      freed: number;
      freedRows: number;
      counters: { kind: string; name: string; inUse: number }[];
      jobs: number[];
      stickies: number;
    }
  >("probe:books"),
  pendingJobs: makeFunctionReference<"query", Record<string, never>, string[]>("probe:pendingJobs"),
  wakeWaiters: makeFunctionReference<"mutation", { tenant: string; name: string; data: string }, number>(
    "probe:wakeWaiters",
  ),
  emitAndFail: makeFunctionReference<"mutation", { name: string; data: string }, null>("probe:emitAndFail"),
  emitBesideARow: makeFunctionReference<"mutation", { name: string; data: string }, Emission>(
    "probe:emitBesideARow",
  ),
  countNonces: makeFunctionReference<"query", Record<string, never>, number>("probe:countNonces"),
  killJobs: makeFunctionReference<"mutation", { name: string }, null>("probe:killJobs"),
  hurry: makeFunctionReference<"mutation", { task: Id<"tasks"> }, null>("probe:hurry"),
  prepare: makeFunctionReference<"mutation", { task: Id<"tasks"> }, null>("probe:prepare"),
  setSteps: makeFunctionReference<"mutation", { run: Id<"runs">; steps: number }, null>("probe:setSteps"),
  setSignals: makeFunctionReference<"mutation", { task: Id<"tasks">; signals: number }, null>(
    "probe:setSignals",
  ),
  strandDispatch: makeFunctionReference<"mutation", { again: boolean }, null>("probe:strandDispatch"),
};

/**
 * A deployment for the file that calls this: each of its tests finds it new, with a key of each role and the agent `echo`, and
 * on vitest's clock, which stands until the test lets time pass. What a test stubs or spies on ends with it.
 *
 * @param clock.now  when each test begins, in ms since the epoch; by default now
 */
export function useDeployment(clock: { now?: number } = {}): Deployment {
  const deployment = new Deployment();
  beforeEach(async () => {
    vi.useFakeTimers(clock);
    await deployment.start();
  });
  afterEach(() => {
    deployment.close();
    vi.unstubAllGlobals();
    vi.restoreAllMocks();
    vi.useRealTimers();
  });
  return deployment;
}

export class Deployment {
  #backend: Backend | undefined;

  get t(): Backend {
    if (this.#backend === undefined) throw new Error("the deployment runs only inside of tests");
    return this.#backend;
  }

  async start(): Promise<void> {
    this.#backend = await startBackend();
    for (const role of ["worker", "viewer", "submit", "operator"] as const) {
      const hash = await sha256(KEYS[role]);
      await this.t.mutation(internal.operator.createKey, { hash, role, label: role });
    }
    // A worker that came and went brought the agent.
    await (await this.worker("first")).drain();
  }

  /** Let everything that falls due within `ms` happen, at its time. */
  async pass(ms = 0): Promise<void> {
    for (const end = Date.now() + ms; Date.now() < end; await this.t.runDue()) {
      vi.advanceTimersByTime(Math.min(50, end - Date.now()));
    }
    // What a pass schedules for now is due now.
    for (let chain = 0; chain < 20; chain++) await this.t.runDue();
  }

  /** Let time pass at once, and the watchdog turn until nothing that it began is under way. */
  async leap(ms: number): Promise<void> {
    vi.advanceTimersByTime(ms);
    await this.pass(); // the mock cannot cancel a job that it has begun
    for (let turn = 0; turn < 3; turn++) {
      await this.t.mutation(internal.timers.watchdog, {});
      await this.pass();
    }
  }

  /** The id of a text that stands beside its task's row. */
  async largeText(): Promise<Id<"outputs">> {
    return (await this.t.query(probe.inputOf, {
      task: await this.submit({ input: JSON.stringify("x".repeat(9_000)) }),
    }))!;
  }

  close(): void {
    this.#backend?.close();
    this.#backend = undefined;
  }

  async submit(spec: Partial<TaskSpec> = {}): Promise<Id<"tasks">> {
    return (await this.submitAll([spec]))[0]!;
  }

  /** A task whose run `worker` is given, and nothing else, and has not begun. */
  async assigned(worker: TestWorker, spec: Partial<TaskSpec> = {}) {
    const task = await this.submit(spec);
    await this.pass();
    const { assigned } = await worker.inbox();
    expect(assigned).toHaveLength(1);
    return { task, run: assigned[0]!.run, assignment: assigned[0]! };
  }

  /** Submit tasks in one call, any of which may be refused. */
  answersTo(specs: Partial<TaskSpec>[]) {
    const tasks = specs.map((spec) => ({ agent: "echo", input: "null", ...spec }));
    return this.t.mutation(api.tasks.submit, { key: KEYS.submit, tasks });
  }

  /** Submit tasks in one call, none of which may be refused. */
  async submitAll(specs: Partial<TaskSpec>[]): Promise<Id<"tasks">[]> {
    return (await this.answersTo(specs)).map((answer) => {
      if (!answer.ok) throw new Error(answer.message);
      return answer.task;
    });
  }

  /** A task whose run `worker` has begun, which has nothing else to begin. */
  async begun(worker: TestWorker, spec: Partial<TaskSpec> = {}) {
    const task = await this.submit(spec);
    await this.pass();
    const { run } = await worker.begin();
    return { task, run };
  }

  async task(task: Id<"tasks">) {
    return (await this.t.query(api.tasks.get, { key: KEYS.submit, task }))!;
  }

  state(task: Id<"tasks">) {
    return this.t.query(api.tasks.state, { key: KEYS.submit, task });
  }

  signal(task: Id<"tasks">, name: string, data = "null", id: string = crypto.randomUUID()) {
    return this.t.mutation(api.tasks.signal, { key: KEYS.submit, task, name, data, id });
  }

  /** The first reason why a task does not run now. */
  async why(task: Id<"tasks">) {
    return (await this.t.query(api.tasks.why, { key: KEYS.submit, task })).reasons[0]!;
  }

  cancel(task: Id<"tasks">) {
    return this.t.mutation(api.tasks.cancel, { key: KEYS.submit, task });
  }

  retry(task: Id<"tasks">) {
    return this.t.mutation(api.tasks.retry, { key: KEYS.submit, task });
  }

  async pause(task: Id<"tasks">) {
    return (await this.t.mutation(api.tasks.pause, { key: KEYS.submit, task })).status;
  }

  async resume(task: Id<"tasks">) {
    return (await this.t.mutation(api.tasks.resume, { key: KEYS.submit, task })).status;
  }

  async history(task: Id<"tasks">) {
    const { events } = await this.t.query(api.tasks.history, { key: KEYS.submit, task });
    return events.map((event) => event.type);
  }

  async worker(
    name = "w",
    more: {
      capacity?: number;
      incarnation?: string; // other than the first, it speaks at once, which takes the worker over
      silent?: boolean; // it does not speak
      llm?: boolean;
      brings?: string[];
      can?: string[];
      labels?: string[];
      queues?: string[];
      code?: string; // of its agents
      version?: string;
      forks?: boolean;
    } = {},
  ): Promise<TestWorker> {
    const registered = await this.t.mutation(api.worker.register, {
      key: KEYS.worker,
      worker: name,
      incarnation: more.incarnation ?? "1",
      queues: more.queues ?? ["default"],
      agents: (more.brings ?? ["echo"]).map((agent) => ({
        name: agent,
        description: "says what it hears",
        capabilities: more.can ?? [],
        ...(more.code !== undefined && { code: more.code }),
        ...(more.version !== undefined && { version: more.version }),
      })),
      labels: more.labels ?? [],
      llm: more.llm ?? true,
      capacity: more.capacity ?? 10,
      forks: more.forks ?? true,
      version: "test",
    });
    const worker = new TestWorker(this.t, registered.session);
    if (more.incarnation !== undefined && !more.silent) await worker.sync();
    return worker;
  }
}

export class TestWorker {
  seq = 0;

  constructor(
    private readonly t: Backend,
    readonly session: Id<"sessions">,
  ) {}

  inbox() {
    return this.t.query(api.worker.inbox, { key: KEYS.worker, session: this.session });
  }

  body(more: Partial<Parameters<TestWorker["send"]>[0]> = {}) {
    this.seq += 1;
    return {
      session: this.session,
      seq: this.seq,
      accepted: [],
      chunks: [],
      finished: [],
      acknowledged: [],
      ...more,
    };
  }

  send(body: {
    session: Id<"sessions">;
    seq: number;
    accepted: Id<"runs">[];
    chunks: { run: Id<"runs">; seq: number; call: number; attempt: number; kind: "text"; text: string }[];
    finished: Finished[];
    acknowledged: Id<"controls">[];
    steps?: StepReport[];
    progress?: ProgressReport[];
    clocks?: Clocks;
    calls?: CallReport[];
    models?: ModelReport[];
    spending?: Spending[];
  }) {
    return this.t.mutation(api.worker.sync, { key: KEYS.worker, ...body });
  }

  sync(more: Parameters<TestWorker["body"]>[0] = {}) {
    return this.send(this.body(more));
  }

  /** The session's one assigned run, accepted. */
  async begin() {
    const [assigned] = (await this.inbox()).assigned;
    if (assigned === undefined) throw new Error("nothing is assigned");
    await this.sync({ accepted: [assigned.run] });
    return assigned;
  }

  /** What the session's one assigned run works on. */
  async input(): Promise<unknown> {
    const [item] = (await this.inbox()).assigned;
    const args = { key: KEYS.worker, session: this.session, run: item!.run };
    return JSON.parse(item!.input ?? (await this.t.query(api.worker.input, args)));
  }

  /** Report a step of a run. */
  step(run: Id<"runs">, key: string, result = "1", more: Partial<StepReport> = {}) {
    return this.sync({ steps: [{ run, key, kind: "step", result, signal: null, ...more }] });
  }

  steps(run: Id<"runs">, cursor: string | null = null) {
    return this.t.query(api.worker.steps, { key: KEYS.worker, session: this.session, run, cursor });
  }

  finish(run: Id<"runs">, outcome = SUCCEEDED) {
    return this.sync({ finished: [{ run, outcome, usage: null }] });
  }

  /** End all that is assigned well. */
  async finishAll() {
    const { assigned } = await this.inbox();
    return this.sync({ finished: assigned.map(({ run }) => ({ run, outcome: SUCCEEDED, usage: null })) });
  }

  /** Take no more; `final`: and leave. */
  drain(final = true) {
    return this.t.mutation(api.worker.drain, { key: KEYS.worker, session: this.session, final });
  }
}

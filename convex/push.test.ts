/** What endpoints say of the runs that are pushed to them, and what they are told: kept and told as with a worker. */
import { beforeEach, expect, test, vi } from "vitest";
import { api, internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { HEALTH_EVERY_MS, MAX_SYNC_ITEMS } from "./constants";
import { readReport, type Report } from "./model/answers";
import type { Demand, Question } from "./model/asking";
import type { ModelStanding } from "./model.validators";
import { KEYS, probe, useDeployment } from "./setup.testing";

const at = useDeployment();
let task: Id<"tasks">;
let run: Id<"runs">;

beforeEach(async () => {
  vi.stubGlobal("fetch", () => Promise.resolve(new Response("", { status: 202 })));
  const { operator: key } = KEYS;
  const endpoint = {
    name: "site",
    url: "https://agents.example.com/",
    secretVariable: "SIGNALBOX_PUSH_SECRET",
  };
  await at.t.mutation(api.endpoints.set, { key, ...endpoint });
  await at.t.mutation(api.agents.sync, {
    key,
    agents: [{ name: "pushed", description: "", executor: { kind: "http", endpoint: "site" } }],
  });
  task = await at.submit({ agent: "pushed" });
  await begun();
});

/** Dispatch gives the task to the endpoint, which takes it. */
async function begun(): Promise<void> {
  await at.pass();
  run = (await at.task(task)).run!;
  await at.t.mutation(internal.push.begin, { run }); // where no action runs
  await at.t.mutation(internal.push.settle, { run, answer: { kind: "taken" } });
}

let messages = 0;

function call(said: object, { message = `m${++messages}`, attempt = 1 } = {}) {
  const report = readReport(said) as Report;
  expect(report).toBeTypeOf("object");
  return at.t.mutation(internal.push.called, { message, run, attempt, report });
}

async function ask(question: Question, attempt = 1): Promise<unknown> {
  const text = await at.t.query(internal.push.answer, { run, attempt, question });
  return text === null ? null : JSON.parse(text);
}

async function demand(asked: Demand, attempt = 1): Promise<unknown> {
  const text = await at.t.mutation(internal.push.meet, { run, attempt, demand: asked });
  return text === null ? null : JSON.parse(text);
}

const OVER = { ok: false, code: "run_ended" };
const DONE = { outcome: { kind: "succeeded", output: "1" } };

test("steps are kept, a wait ends the run, and the next one finds both", async () => {
  const step = { key: "first", result: '"a"' };
  expect(await call({ steps: [step], progress: { done: 1 } })).toEqual({ ok: true, stop: false });
  expect(await call({ steps: [{ ...step, result: '"b"' }] })).toMatchObject({ ok: true }); // the first stands
  const wait = { kind: "suspended", step: "go", until: { event: "go", timeoutMs: null } };
  expect(await call({ outcome: wait })).toMatchObject({ ok: true });
  expect((await at.task(task)).status).toBe("waiting_event");
  expect(await call(DONE)).toMatchObject(OVER);
  await at.signal(task, "go", "7");
  await begun();
  const { steps } = (await ask({ ask: "steps" }, 2)) as { steps: { key: string; result: string }[] };
  expect(steps.map(({ key, result }) => [key, result])).toEqual([
    ["first", '"a"'],
    ["go", '{"name":"go","data":7}'],
  ]);
});

test("a message counts once, and only for the attempt that is live", async () => {
  expect(await call({ chunks: [{ seq: 0, text: "a" }] }, { message: "same" })).toMatchObject({ ok: true });
  expect(await call(DONE, { message: "same" })).toMatchObject({ ok: false, code: "replayed" });
  expect(await call(DONE, { attempt: 2 })).toMatchObject(OVER);
  expect(await demand({ ask: "emit", step: "e", name: "n", data: "1" }, 2)).toBeNull();
  expect((await at.task(task)).status).toBe("running");
  expect(await call(DONE)).toMatchObject({ ok: true });
  expect(await ask({ ask: "steps" })).toBeNull();
});

test("a message that comes again is not said to be kept when its run is somebody else's by now", async () => {
  const intent = {
    steps: [{ key: "pay", kind: "tool", tool: "pay", state: "intended", effect: "unsafe", result: null }],
  };
  expect(await call(intent, { message: "heard" })).toMatchObject({ ok: true }); // and the answer gets lost
  await at.t.mutation(internal.push.settle, {
    run,
    answer: { kind: "unreachable", error: { code: "endpoint_unreachable", message: "m" } },
  });
  expect(await call(intent, { message: "heard" })).toMatchObject(OVER);
  expect(await call(intent, { message: "late" })).toMatchObject(OVER); // and this answer gets lost, too
  expect(await call(intent, { message: "late" })).toMatchObject(OVER);
  await begun();
  expect(await call(DONE, { message: "end", attempt: 2 })).toMatchObject({ ok: true });
  expect(await call(DONE, { message: "end", attempt: 2 })).toMatchObject({ code: "replayed" });
});

const CALL = {
  ...{ call: 1, attempt: 1, model: "groq/fast", provider: "groq", startedMs: 0, ms: 5, state: "succeeded" },
  ...{ error: null, costMicros: 12, estimated: false },
  usage: { inputTokens: 7, outputTokens: 1, cachedInputTokens: 0, cacheWriteTokens: 0, reasoningTokens: 0 },
};

test("what a late answer has paid for counts, though the run has ended", async () => {
  await call(DONE);
  const report = readReport({ ...DONE, calls: [CALL] }) as Report;
  await at.t.mutation(internal.push.settle, { run, answer: { kind: "report", report } });
  await at.pass();
  expect((await at.task(task)).usage).toMatchObject({ calls: 1, inputTokens: 7 });
});

test("a step that cannot be kept ends its run, and nothing of it is taken any more", async () => {
  await call({ steps: [{ key: "k", result: "1" }] });
  expect(await call({ steps: [{ key: "k", kind: "turn", result: "1" }] })).toMatchObject(OVER);
  expect((await at.task(task)).error?.code).toBe("step_mismatch");
});

test("children come once for their step, and are asked for", async () => {
  await at.submit();
  const spawn: Demand = { ask: "spawn", step: "s", tasks: [{ agent: "echo", input: "1" }], gather: true };
  const first = (await demand(spawn)) as { tasks: Id<"tasks">[]; group: string };
  expect(await demand(spawn)).toEqual(first);
  expect(first.tasks).toHaveLength(1);
  expect(await ask({ ask: "gathered", tasks: first.tasks })).toMatchObject({
    items: [{ status: "pending" }],
  });
  await expect(ask({ ask: "gathered", tasks: ["ghost"] })).rejects.toThrow("no task");
  await expect(ask({ ask: "gathered", tasks: [task] })).rejects.toThrow("is no child");
  expect(await ask({ ask: "upstream" })).toEqual({ items: [], next: null });
  expect(await demand({ ask: "emit", step: "e", name: "n", data: "1" })).toEqual({ tasks: [], woken: 0 });
  expect(await demand({ ask: "output", text: '"large"' })).toBeNull();
  await call({ outcome: { kind: "succeeded" } });
  expect((await at.task(task)).output).toBe('"large"');
});

test("tasks that come next are all taken, or the run has failed", async () => {
  const next = [{ agent: "ghost", input: "1" }];
  expect(await call({ ...DONE, next })).toMatchObject(OVER);
  expect((await at.task(task)).error?.code).toBe("invalid_next");
});

test("a callback holds as many items as a sync", async () => {
  const chunks = Array.from({ length: MAX_SYNC_ITEMS }, (_, seq) => ({ seq, text: "a" }));
  expect(await call({ chunks })).toMatchObject({ ok: true });
  const more = { chunks, progress: { done: 1 } };
  await expect(call(more)).rejects.toThrow(`at most ${MAX_SYNC_ITEMS}`);
  const answer = { kind: "report" as const, report: readReport({ ...more, ...DONE }) as Report };
  await at.t.mutation(internal.push.settle, { run, answer }); // as an answer it fails the run, for nobody sends it again
  expect((await at.task(task)).error?.code).toBe("endpoint_bad_answer");
});

test.each(["pause", "signal", "cancel"] as const)("a %s is told, again until it was heard", async (what) => {
  vi.stubGlobal("fetch", () => Promise.resolve(new Response("", { status: 404 }))); // it does not know the run yet
  const calls = async () =>
    (await at.t.query(probe.everyJob, {})).filter((job) => job === "push:tell").length;
  if (what === "pause") await at.pause(task);
  else if (what === "signal") await at.signal(task, "go", "7");
  else await at.cancel(task);
  const [control] = await at.t.query(probe.controls, {});
  expect(await calls()).toBe(1);
  const told = (await at.t.query(internal.push.toTell, { control: control! }))!;
  const signal = what === "signal" ? { name: "go", data: "7" } : null;
  expect(JSON.parse(told.body)).toMatchObject({ type: what, run, signal });
  expect(told.url).toBe("https://agents.example.com/");
  vi.advanceTimersByTime(HEALTH_EVERY_MS);
  await at.pass();
  expect(await calls()).toBeGreaterThan(1);
  await at.t.mutation(internal.push.heard, { control: control! });
  expect(await at.t.query(probe.controls, {})).toEqual([]);
  expect(await at.t.query(internal.push.toTell, { control: control! })).toBeNull();
});

test("signals are told one behind the other, and again once the run is taken", async () => {
  vi.stubGlobal("fetch", () => Promise.resolve(new Response("", { status: 404 })));
  const told = async () => (await at.t.query(probe.everyJob, {})).filter((job) => job === "push:tell").length;
  for (const data of ["1", "2", "3"]) await at.signal(task, "go", data);
  const [first, second] = await at.t.query(probe.controls, {});
  expect(await told()).toBe(1); // else they could overtake each other
  await at.t.mutation(internal.push.heard, { control: first! });
  expect(await told()).toBe(2);
  const { body } = (await at.t.query(internal.push.toTell, { control: second! }))!;
  expect(JSON.parse(body)).toMatchObject({ signal: { data: "2" } });
  await at.t.mutation(internal.push.heard, { control: first! }); // the answer to another call
  expect(await told()).toBe(2);
  await at.pause(task);
  expect(await told()).toBe(3);
  await at.t.mutation(internal.push.settle, { run, answer: { kind: "taken" } });
  expect(await told()).toBe(5);
});

test("what was to be told of a run that has ended is dropped", async () => {
  await at.pause(task);
  await call(DONE);
  const [control] = await at.t.query(probe.controls, {});
  expect(await at.t.query(internal.push.toTell, { control: control! })).toBeNull();
  vi.advanceTimersByTime(HEALTH_EVERY_MS);
  await at.pass();
  expect(await at.t.query(probe.controls, {})).toEqual([]);
});

const MODEL = "groq/fast";
const SEEN = { model: MODEL, requests: 1, failures: 0, tokens: 10, error: null, coolMs: null, share: null };
const HOT = { ...SEEN, failures: 1, error: { code: "rate_limited", message: "slow down" }, coolMs: 60_000 };
const modelView = async () => (await at.t.query(api.models.list, { key: KEYS.operator })).models[0];

test("what a run has seen of models counts for all, and it is told how they stand", async () => {
  expect(await call({ models: [HOT] })).toEqual({ ok: true, stop: false });
  await at.pass();
  const worker = await at.worker();
  expect((await worker.inbox()).models).toMatchObject([{ model: MODEL, coolMs: 60_000 }]);
  const told = (await call({ progress: { done: 1 } })) as { standing: ModelStanding };
  expect(told.standing.models).toMatchObject([{ model: MODEL, coolMs: 60_000, error: HOT.error }]);
  expect(await ask({ ask: "models" })).toEqual(told.standing);
  await call({ outcome: { kind: "suspended", step: "w", until: { ms: 1 } } });
  await at.pass(50);
  run = (await at.task(task)).run!;
  const letter = await at.t.mutation(internal.push.begin, { run });
  if (letter !== null) expect(letter.standing).toMatchObject({ session: told.standing.session }); // where no action has
});

test("an endpoint has its share of a limit, and gives it back when it is dead", async () => {
  await at.t.mutation(api.models.set, { key: KEYS.operator, model: MODEL, requests: 10 });
  const share = async () => ((await ask({ ask: "models" })) as ModelStanding).models[0]!;
  const { configured, rev, requests } = await share();
  expect(requests).toBe(0);
  const wants = { configured, rev, usedRequests: 0, usedTokens: 0, waiting: 1, leastTokens: 0 };
  await call({ models: [{ ...SEEN, requests: 0, share: wants }] });
  await at.pass();
  expect((await share()).requests).toBe(10);
  expect(await modelView()).toMatchObject({ shares: 1 });
  await at.t.mutation(api.endpoints.set, {
    ...{ key: KEYS.operator, name: "site", url: "https://agents.example.com/", enabled: false },
    secretVariable: "SIGNALBOX_PUSH_SECRET",
  });
  await at.pass();
  expect(await modelView()).toMatchObject({ shares: 0 });
});

test("what was seen of models counts once, also of a run that has ended, and nonsense is refused", async () => {
  expect(await call({ ...DONE, models: [SEEN] }, { message: "same" })).toMatchObject({ ok: true });
  expect(await call({ ...DONE, models: [SEEN] }, { message: "same" })).toMatchObject({ code: "replayed" });
  expect(await call({ models: [SEEN] })).toMatchObject(OVER);
  expect(await call({ models: [SEEN] }, { attempt: 2 })).toMatchObject(OVER);
  await at.pass();
  expect((await modelView())!.total).toEqual({ requests: 2, failures: 0, tokens: 20 });
  await expect(call({ models: [{ ...SEEN, failures: -1 }] })).rejects.toThrow(
    "models: failures of groq/fast is -1; 0 to 1000000000000 is meant.",
  );
  await expect(call({ models: [{ ...SEEN, model: " " }] })).rejects.toThrow("is not a model's name");
  const most = Array.from({ length: MAX_SYNC_ITEMS }, () => SEEN);
  await expect(call({ models: most, progress: { done: 1 } })).rejects.toThrow(`at most ${MAX_SYNC_ITEMS}`);
  expect(await call({ models: [{ ...HOT, coolMs: 1e12 }] })).toMatchObject(OVER);
  await at.pass();
  expect((await modelView())!.coolMs).toBeLessThanOrEqual(24 * 3_600_000);
});

test.each([
  [{ usage: { model: null, calls: -1, inputTokens: 0, outputTokens: 0 } }, "usage.calls: -1"],
  [{ usage: { model: null, calls: 0, inputTokens: 1.5, outputTokens: 0 } }, "usage.inputTokens: 1.5"],
  [{ chunks: [{ seq: Infinity, text: "a" }] }, "chunks.seq: Infinity"],
  [{ progress: { done: Infinity } }, "progress.done: Infinity"],
] as [object, string][])(
  "a number that is none is refused, and nothing of it kept: %j",
  async (more, line) => {
    await expect(call({ ...DONE, ...more })).rejects.toThrow(line);
    const answer = { kind: "report" as const, report: readReport({ ...DONE, ...more }) as Report };
    await at.t.mutation(internal.push.settle, { run, answer });
    expect((await at.task(task)).error).toMatchObject({ code: "endpoint_bad_answer" });
  },
);

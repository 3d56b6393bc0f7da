/** What an endpoint tells of itself when it is asked how it does, and what dispatch and the operator make of that. */
import { beforeEach, expect, test, vi } from "vitest";
import { api, internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { DEAD_HEALTH_FACTOR, HEALTH_EVERY_MS, MAX_SILENT, OTHER_VERSION_MS } from "./constants";
import { readReport, toldIn, type Report } from "./model/answers";
import { KEYS, probe, useDeployment } from "./setup.testing";

const at = useDeployment();
let health: object; // what the endpoint answers a check
let letters: Map<string, object>; // those that an action has posted, by their runs

beforeEach(async () => {
  health = {};
  letters = new Map();
  vi.stubGlobal("fetch", (_: string, { body }: { body?: string }) => {
    if (body === undefined) return Promise.resolve(Response.json(health));
    const letter = JSON.parse(body) as { type: string; run: string };
    if (letter.type === "run") letters.set(letter.run, letter);
    return Promise.resolve(new Response("", { status: 202 }));
  });
  const { operator: key } = KEYS;
  const url = "https://agents.example.com/";
  await at.t.mutation(api.endpoints.set, { key, name: "site", url, secretVariable: "SIGNALBOX_PUSH_SECRET" });
  await sync();
});

/** Give the endpoint its agent, upon which it is asked what it has. */
function sync() {
  const executor = { kind: "http" as const, endpoint: "site" };
  const agents = [{ name: "pushed", description: "", executor }];
  return at.t.mutation(api.agents.sync, { key: KEYS.operator, agents });
}

const stateOf = async () => (await at.t.query(probe.endpoints, {}))[0]!;
const asked = async () => (await stateOf()).asked;

/** Answer the check that is under way, where no action does. */
async function answer(): Promise<void> {
  const { endpoint, asked, answered } = await stateOf();
  if (asked === answered) return;
  const told = toldIn(JSON.stringify(health));
  const said = typeof told === "string" ? { error: told, told: null } : { error: null, told };
  await at.t.mutation(internal.push.checked, { endpoint, asked, ok: true, ...said });
}

/** The endpoint is asked how it does, and answers this; @returns what the list says of it then */
async function tells(what: object): Promise<string | null> {
  await at.pass();
  await answer();
  health = what;
  await sync();
  await answer();
  await at.pass();
  const [view] = await at.t.query(api.endpoints.list, { key: KEYS.operator });
  expect(view).toMatchObject({ live: true, misses: 0 });
  return view!.error;
}

const submit = () => at.submit({ agent: "pushed", retry: { initialMs: 1 } });

type Letter = { run: Id<"runs">; [field: string]: unknown };

/** The letter of the run that the endpoint now has of a task; null: it was given none. */
async function taken(task: Id<"tasks">): Promise<Letter | null> {
  const { run, status } = await at.task(task);
  if (run === null || status !== "running") return null;
  const begun = await at.t.mutation(internal.push.begin, { run }); // where no action runs
  if (begun === null) return (letters.get(run) as Letter | undefined) ?? null;
  await at.t.mutation(internal.push.settle, { run, answer: { kind: "taken" } });
  return { ...begun.assignment, version: begun.version };
}

let messages = 0;

function call(run: Id<"runs">, said: object, attempt = 1) {
  const report = readReport(said) as Report;
  expect(report).toBeTypeOf("object");
  return at.t.mutation(internal.push.called, { message: `m${++messages}`, run, attempt, report });
}

const V1 = { version: "v1", code: "c1" };
const V2 = { version: "v2", code: "c2" };
const has = (version: object) => ({ agents: [{ name: "pushed", ...version }] });
const STEP = { key: "a", result: "1" };
const WAIT = { kind: "suspended", step: "go", until: { event: "go", timeoutMs: null } };

/** A task that has taken a step with this code, waited, and been told to go on. */
async function begun(playedBy: object) {
  const task = await submit();
  await at.pass();
  const { run } = (await taken(task))!;
  await call(run, { steps: [STEP], outcome: WAIT, playedBy });
  await at.signal(task, "go");
  await at.pass(50);
  return task;
}

test("a run that says nothing for long is seen, with what it waits for", async () => {
  const task = await submit();
  await at.pass();
  const { run } = (await taken(task))!;
  const heardAt = Date.now();
  const silence = { run, ms: 45_000, on: "model", name: "groq/x", attempt: 2 };
  expect(await tells({ runs: [run], silent: [silence, { ...silence, run: "of another" }] })).toBeNull();
  const { clocks } = await at.state(task);
  expect(clocks).toMatchObject({
    heartbeatAt: heardAt,
    silentMs: 45_000,
    on: "model",
    name: "groq/x",
    attempt: 2,
  });
  expect(clocks!.inboxAgeMs).toBeGreaterThanOrEqual(0);
  expect((await at.why(task)).message).toContain("silent for 45");
  vi.advanceTimersByTime(HEALTH_EVERY_MS);
  await at.pass();
  await tells({ runs: [run] });
  expect((await at.state(task)).clocks).toMatchObject({
    heartbeatAt: heardAt + HEALTH_EVERY_MS,
    silentMs: null,
  });
});

test("an endpoint is asked what it has before it holds a run", async () => {
  expect(await asked()).toBe(1);
  await answer();
  await at.t.mutation(api.endpoints.set, {
    ...{ key: KEYS.operator, name: "site", url: "https://other.example.com/" },
    secretVariable: "SIGNALBOX_PUSH_SECRET",
  });
  expect(await asked()).toBe(2);
});

test("a task goes on with the code that it began with alone, and the endpoint is asked for that now and then", async () => {
  await tells(has(V1));
  const task = await begun(V1);
  expect(await taken(task)).toMatchObject({ version: "v1", pinned: V1 });
  await tells(has(V2));
  await call((await at.task(task)).run!, { outcome: { kind: "released" } }, 2);
  await at.pass(100);
  expect(await at.why(task)).toMatchObject({ code: "no_worker_for_version" });
  await answer();
  const before = await asked();
  await at.pass(DEAD_HEALTH_FACTOR * HEALTH_EVERY_MS + 1_000);
  expect(await asked()).toBe(before + 1);
  health = has(V1);
  await answer();
  await at.pass(DEAD_HEALTH_FACTOR * HEALTH_EVERY_MS + 1_000);
  await answer();
  await at.pass();
  expect(await taken(task)).toMatchObject({ version: "v1" });
});

test("what plays a run says so itself, whatever the endpoint told before", async () => {
  await tells(has(V1));
  const task = await begun(V2); // another process answered
  expect(await at.why(task)).toMatchObject({ code: "no_worker_for_version" });
  await tells(has(V2));
  const { run, version } = (await taken(task))!;
  expect(version).toBe("v2");
  await expect(call(run, { steps: [{ key: "b", result: "1" }], playedBy: V1 }, 2)).rejects.toThrow(
    "playedBy: the task began with the version v2, and v1 has played it; answer such a run 409 other_version.",
  );
  expect((await at.state(task)).steps).toBe(2);
  const report = readReport({ outcome: { kind: "succeeded" }, playedBy: V1 }) as Report;
  await at.t.mutation(internal.push.settle, { run, answer: { kind: "report", report } });
  expect((await at.task(task)).error).toMatchObject({ code: "endpoint_bad_answer" });
});

test("a run that finds other code burns no attempt, and the endpoint is asked what it has by now", async () => {
  await tells(has(V1));
  const task = await begun(V1);
  const { run } = (await taken(task))!;
  await answer();
  const before = await asked();
  health = has(V2);
  await at.t.mutation(internal.push.settle, { run, answer: { kind: "other_version" } });
  expect(await asked()).toBe(before + 1);
  await at.pass();
  await answer();
  await at.pass(OTHER_VERSION_MS + 1_000);
  expect(await at.why(task)).toMatchObject({ code: "no_worker_for_version" });
  await tells(has(V1));
  const again = (await taken(task))!;
  expect(again.attempt).toBe(3);
  await call(again.run, { outcome: { kind: "succeeded", output: "1" } }, 3);
  expect(await at.task(task)).toMatchObject({ status: "succeeded", output: "1" });
});

test("a fork goes to an endpoint that keeps it from effects, and to no other", async () => {
  await tells(has(V1));
  const origin = await begun(V1);
  await call((await taken(origin))!.run, { outcome: { kind: "succeeded", output: "1" } }, 2);
  const { task } = await at.t.mutation(api.tasks.fork, { key: KEYS.submit, task: origin, at: "go" });
  await at.pass(100);
  expect(await taken(task)).toBeNull();
  await tells({ ...has(V1), forks: true });
  const letter = (await taken(task))!;
  const of = { task: origin, effects: "forbid" };
  expect(letter).toMatchObject({ version: "v1", pinned: V1, steps: 1, fork: of });
  const effect = {
    key: "e",
    kind: "tool",
    tool: "charge",
    state: "intended",
    effect: "unsafe",
    result: null,
  };
  expect(await call(letter.run, { steps: [effect], playedBy: V1 })).toMatchObject({ code: "run_ended" });
  expect((await at.task(task)).error).toMatchObject({ code: "effect_forbidden" });
});

test("of an answer that cannot be kept nothing is, and the list of endpoints says why", async () => {
  const task = await submit();
  await at.pass();
  const { run } = (await taken(task))!;
  const silence = { run, ms: 45_000, on: "agent", name: null, attempt: null };
  const most = Array.from({ length: MAX_SILENT }, () => silence);
  expect(await tells({ runs: [run], silent: most })).toBeNull();
  expect(await tells({ runs: [], silent: [...most, silence] })).toMatch(
    /^the answer to a check: clocks: at most 32/,
  );
  expect((await at.task(task)).status).toBe("running"); // it was not said to have gone
  expect(await tells({ agents: [{ name: "pushed", version: "v1" }] })).toContain(
    "a version comes with its code",
  );
  expect(await tells({ agents: [{ name: "pushed", code: "no/name" }] })).toContain("agents.pushed.code");
  expect(await tells({ agents: [{ name: "a/stranger", version: "v1" }] })).toBeNull(); // what is not pushed there
  expect(await tells({ runs: [run] })).toBeNull();
  await at.pass(50); // what was taken before it was asked
  expect(await tells({ runs: [] })).toBeNull();
  expect(await at.history(task)).toContain("task_retried");
});

/** Every public function with arguments that it takes, for the tests of who may call what. */
import { getFunctionName, type FunctionReference } from "convex/server";
import { api } from "./_generated/api";
import { KEYS, type Deployment } from "./setup.testing";
import type { Role } from "./validators";

const VIEWERS: Role[] = ["viewer", "submit", "operator"];

export type Public = FunctionReference<"query" | "mutation">;

/** A question that waits for people. */
async function asked(at: Deployment, queue: string) {
  const worker = await at.worker("asker", { queues: [queue] });
  const task = await at.submit({ queue });
  await at.pass();
  const { run } = await worker.begin();
  const ask = { step: "s", tool: "t", args: "{}", why: "tool", about: null, timeoutMs: null } as const;
  await worker.finish(run, { kind: "suspended", step: "s", until: { approvals: [ask] } });
  await worker.drain();
  const { approvals } = await at.t.query(api.approvals.list, { key: KEYS.submit, task });
  return approvals[0]!.approval;
}

/**
 * Every public function, its arguments but for the key, and the roles that may call it. What the arguments name is of one
 * queue; `maker` is the key that made the group.
 */
export async function table(
  at: Deployment,
  { queue = "default", maker = KEYS.submit }: { queue?: string; maker?: string } = {},
): Promise<[Public, Record<string, unknown>, Role[]][]> {
  const approval = await asked(at, queue);
  const { argsHash } = await at.t.query(api.approvals.get, { key: KEYS.submit, approval });
  const { session } = await at.worker("w", { queues: [queue] });
  const task = await at.submit({ queue });
  await at.pass();
  const other = await at.submit({ queue, delayMs: 1_000 });
  const run = (await at.task(task)).run!;
  const { group } = await at.t.mutation(api.groups.create, { key: maker });
  const register = {
    worker: "x",
    incarnation: "1",
    queues: [queue],
    agents: [],
    labels: [],
    llm: true,
    capacity: 1,
    version: "1",
  };
  const endpoint = { name: "e", url: "https://e.example.com/", secretVariable: "SIGNALBOX_PUSH_SECRET" };
  const body = { session, seq: 1, accepted: [], chunks: [], finished: [], acknowledged: [] };
  const name = "nightly";
  const schedule = { name, cron: "@daily", template: { agent: "echo", input: "null", queue } };
  const trigger = { name, event: "e", template: schedule.template };
  const webhook = { name, target: { kind: "event", event: "e" } };
  return [
    [api.worker.register, register, ["worker"]],
    [api.worker.inbox, { session }, ["worker"]],
    [api.worker.input, { session, run }, ["worker"]],
    [api.worker.upstream, { session, run, after: 0 }, ["worker"]],
    [api.worker.output, { session, run, text: "1" }, ["worker"]],
    [api.worker.sync, body, ["worker"]],
    [api.worker.drain, { session, final: false }, ["worker"]],
    [api.tasks.submit, { tasks: [] }, ["submit", "operator"]],
    [api.tasks.get, { task }, VIEWERS],
    [api.tasks.list, {}, VIEWERS],
    [api.tasks.cancelMany, { filter: {}, dryRun: true }, ["submit", "operator"]],
    [api.tasks.retryMany, { filter: {}, dryRun: true }, ["submit", "operator"]],
    [api.tasks.failures, {}, VIEWERS],
    [api.tasks.causes, { task }, VIEWERS],
    [api.tasks.part, { task, of: "input", index: 0 }, VIEWERS],
    [api.tasks.history, { task }, VIEWERS],
    [api.tasks.links, { task }, VIEWERS],
    [api.tasks.children, { task }, VIEWERS],
    [api.groups.create, { name: "g" }, ["submit", "operator"]],
    [api.groups.get, { group }, VIEWERS],
    [api.groups.list, {}, VIEWERS],
    [api.groups.seal, { group }, ["submit", "operator"]],
    [api.groups.cancel, { group }, ["submit", "operator"]],
    [api.groups.retryCallback, { group }, ["submit", "operator"]],
    [api.runs.watch, { task, forMs: 1 }, VIEWERS],
    [api.runs.follow, { task, run: null, after: -1 }, VIEWERS],
    [api.runs.tail, { run, after: -1 }, VIEWERS],
    [api.agents.sync, { agents: [] }, ["operator"]],
    [api.agents.list, {}, VIEWERS],
    [api.endpoints.set, endpoint, ["operator"]],
    [api.endpoints.list, {}, ["operator"]],
    [api.endpoints.remove, { name: "e" }, ["operator"]],
    [api.tasks.pause, { task }, ["submit", "operator"]],
    [api.tasks.restart, { task: other }, ["submit", "operator"]],
    [api.tasks.fork, { task: other }, ["submit", "operator"]],
    [api.tasks.compare, { task, other }, VIEWERS],
    [api.tasks.resume, { task }, ["submit", "operator"]],
    [api.tasks.retry, { task }, ["submit", "operator"]],
    [api.tasks.cancel, { task }, ["submit", "operator"]],
    [api.worker.spawn, { session, run, step: "s", tasks: [], gather: false }, ["worker"]],
    [api.worker.gathered, { session, run, tasks: [] }, ["worker"]],
    [api.worker.emit, { session, run, step: "e", name: "x", data: "1" }, ["worker"]],
    [api.worker.steps, { session, run, cursor: null }, ["worker"]],
    [api.approvals.list, {}, VIEWERS],
    [api.approvals.get, { approval }, VIEWERS],
    [api.approvals.decide, { approval, argsHash, decision: "approve", request: "1" }, ["operator"]],
    [api.tasks.signal, { task, name: "x", data: "1", id: "1" }, ["submit", "operator"]],
    [api.tasks.state, { task }, VIEWERS],
    [api.limits.set, { kind: "queue", name: "q", limit: 1 }, ["operator"]],
    [api.limits.pause, { kind: "queue", name: "q" }, ["operator"]],
    [api.limits.resume, { kind: "queue", name: "q" }, ["operator"]],
    [api.limits.remove, { kind: "queue", name: "q" }, ["operator"]],
    [api.limits.list, {}, ["operator"]],
    [api.models.set, { model: "m", requests: 1 }, ["operator"]],
    [api.models.clear, { model: "m" }, ["operator"]],
    [api.models.list, {}, VIEWERS],
    [api.models.calls, { task }, VIEWERS],
    [api.budgets.set, { kind: "tenant", name: "t", caps: { calls: 1 } }, ["operator"]],
    [api.budgets.clear, { kind: "tenant", name: "t" }, ["operator"]],
    [api.budgets.list, {}, VIEWERS],
    [api.budgets.get, { kind: "tenant", name: "t" }, VIEWERS],
    [api.budgets.remove, { kind: "tenant", name: "t" }, ["operator"]],
    [api.tasks.why, { task }, VIEWERS],
    [api.tasks.backlog, {}, VIEWERS],
    [api.dashboard.drain, { worker: "w" }, ["operator"]],
    [api.worker.crashed, { session, blamed: null }, ["worker"]],
    [api.schedules.set, { schedule }, ["submit", "operator"]],
    [api.schedules.get, { name }, VIEWERS],
    [api.upkeep.exportTasks, { after: null }, ["operator"]],
    [api.upkeep.exportPart, { task, part: "runs", cursor: null }, ["operator"]],
    [api.upkeep.exportText, { text: await at.largeText() }, ["operator"]],
    [api.upkeep.archived, { position: "1/1" }, ["operator"]],
    [api.autoscale.read, { queue }, VIEWERS],
    [api.stats.read, { scope: "all", from: 0, to: 60_000 }, VIEWERS],
    [api.schedules.list, {}, VIEWERS],
    [api.schedules.preview, { of: { name } }, VIEWERS],
    [api.schedules.runNow, { name, request: "1" }, ["submit", "operator"]],
    [api.schedules.pause, { name }, ["submit", "operator"]],
    [api.schedules.resume, { name }, ["submit", "operator"]],
    [api.schedules.remove, { name }, ["submit", "operator"]],
    [api.events.emit, { event: { name: "e", data: "1" } }, ["submit", "operator"]],
    [api.triggers.set, { trigger }, ["submit", "operator"]],
    [api.triggers.list, {}, VIEWERS],
    [api.triggers.pause, { name }, ["submit", "operator"]],
    [api.triggers.resume, { name }, ["submit", "operator"]],
    [api.triggers.remove, { name }, ["submit", "operator"]],
    [api.dashboard.caller, {}, VIEWERS],
    [api.dashboard.tasks, { filter: {}, paginationOpts: { numItems: 1, cursor: null } }, VIEWERS],
    [api.dashboard.attempts, { task }, VIEWERS],
    [api.dashboard.steps, { task }, VIEWERS],
    [api.dashboard.calls, { task }, VIEWERS],
    [api.dashboard.forks, { task }, VIEWERS],
    [api.dashboard.workers, {}, VIEWERS],
    [api.dashboard.beats, {}, VIEWERS],
    [api.dashboard.queues, {}, VIEWERS],
    [api.dashboard.failures, {}, VIEWERS],
    [api.webhooks.set, { webhook }, ["operator"]],
    [api.webhooks.list, {}, ["operator"]],
    [api.webhooks.remove, { name }, ["operator"]],
  ];
}

export function call(
  at: Deployment,
  fn: Public,
  args: Record<string, unknown>,
  key: string,
): Promise<unknown> {
  const isQuery = [
    "compare",
    "inbox",
    "input",
    "steps",
    "gathered",
    "state",
    "get",
    "list",
    "history",
    "follow",
    "tail",
    "links",
    "children",
    "upstream",
    "preview",
    "part",
    "why",
    "backlog",
    "failures",
    "causes",
    "calls",
    "forks",
    "read",
    "caller",
    "tasks",
    "attempts",
    "workers",
    "beats",
    "queues",
    "exportTasks",
    "exportPart",
    "exportText",
  ].includes(getFunctionName(fn).split(":")[1]!);
  return isQuery
    ? at.t.query(fn as FunctionReference<"query">, { key, ...args })
    : at.t.mutation(fn as FunctionReference<"mutation">, { key, ...args });
}

import { getFunctionName } from "convex/server";
import { beforeEach, describe, expect, test } from "vitest";
import { api, internal } from "./_generated/api";
import { MAX_QUEUES } from "./constants";
import { sha256 } from "./model/text";
import { KEYS, useDeployment } from "./setup.testing";
import { call, table, type Public } from "./table.testing";
import type { Role } from "./validators";

const at = useDeployment();

/** A key of this role that is bound to the queue. */
const bound = (role: Role, queue = "gpu") => `${role}_of_${queue}`;

async function bind(role: Role, queue = "gpu", queues = [queue]): Promise<string> {
  const hash = await sha256(bound(role, queue));
  await at.t.mutation(internal.operator.createKey, { hash, role, label: `${role} of ${queue}`, queues });
  return bound(role, queue);
}

// What a key that is bound to queues is refused whatever it asks for: told of all queues together.
const OF_ALL = [
  ...["budgets:list", "budgets:get"],
  ...["upkeep:exportTasks", "upkeep:exportPart", "upkeep:exportText", "upkeep:archived"],
];
// Lists, and what names nothing of a queue: answered, without anything of another queue.
const NARROWED = [
  ...["tasks:submit", "tasks:list", "tasks:cancelMany", "tasks:retryMany", "tasks:failures", "tasks:backlog"],
  ...["groups:create", "groups:list", "approvals:list", "events:emit"],
  ...["schedules:list", "triggers:list", "webhooks:list"],
  ...["dashboard:caller", "dashboard:tasks", "dashboard:workers", "dashboard:beats", "dashboard:queues"],
  "dashboard:failures",
];
// Settings of the deployment, which are of no queue.
const SETTINGS = [
  ...["agents:sync", "agents:list", "endpoints:set", "endpoints:list", "endpoints:remove"],
  ...["limits:set", "limits:pause", "limits:resume", "limits:remove", "limits:list"],
  ...["models:set", "models:clear", "models:list", "budgets:set", "budgets:clear", "budgets:remove"],
  "webhooks:set", // of an event
];

type Entry = Awaited<ReturnType<typeof table>>[number];

/** Every function that others than workers call, with each role that may. */
const calls = (entries: Entry[]) =>
  entries.flatMap(([fn, args, roles]) =>
    roles.filter((role) => role !== "worker").map((role) => ({ fn, args, role, name: getFunctionName(fn) })),
  );

/** The ids among the arguments, and of what hangs on them. */
function idsOf(entries: Entry[]): string[] {
  const found = entries.flatMap(([, args]) =>
    ["task", "other", "run", "group", "approval", "session"].flatMap((name) =>
      typeof args[name] === "string" ? [args[name]] : [],
    ),
  );
  return [...new Set(found)];
}

describe("a key that is bound to a queue", () => {
  beforeEach(async () => {
    for (const role of ["viewer", "submit", "operator"] as const) await bind(role);
  });

  test("sees and changes nothing of another queue, whatever function it calls", async () => {
    const entries = await table(at, { queue: "private" });
    const template = { agent: "echo", input: "null", queue: "private" };
    const target = { kind: "task" as const, template };
    await at.t.mutation(api.webhooks.set, { key: KEYS.operator, webhook: { name: "theirs", target } });
    for (const [fn, args] of entries) {
      const sets = ["schedules:set", "triggers:set"].includes(getFunctionName(fn));
      if (sets) await call(at, fn, args, KEYS.submit);
    }
    const others = [...idsOf(entries), "private"];
    expect(others.length).toBeGreaterThan(6);
    for (const { fn, args, role, name } of calls(entries)) {
      const given = name === "webhooks:remove" ? { name: "theirs" } : args;
      const answer = call(at, fn, given, bound(role));
      if (SETTINGS.includes(name)) await expect(answer, `${role} calls ${name}`).resolves.toBeDefined();
      else if (!NARROWED.includes(name)) {
        await expect(answer, `${role} calls ${name}`).rejects.toThrow("forbidden");
      } else {
        const text = JSON.stringify(await answer);
        for (const id of others) expect(text, `${role} calls ${name}`).not.toContain(id);
      }
    }
  });

  test("may do in its own queue whatever its role may", async () => {
    const entries = await table(at, { queue: "gpu", maker: bound("submit") });
    let done = 0;
    for (const { fn, args, role, name } of calls(entries)) {
      const given = name === "stats:read" ? { ...args, scope: "queue:gpu" } : args;
      const answer = call(at, fn, given, bound(role));
      if (OF_ALL.includes(name)) {
        await expect(answer, `${role} calls ${name}`).rejects.toThrow(
          "use a key that serves all, and not gpu",
        );
      } else {
        // What the calls before it made of the tasks may stand in its way, its queue does not.
        const said = await answer.then(() => "done", String);
        expect(said, `${role} calls ${name}`).not.toMatch(/forbidden|unauthorized/);
        done += Number(said === "done");
      }
    }
    expect(done).toBeGreaterThan(calls(entries).length * 0.9);
  });
});

const ask = (fn: Public, args: Record<string, unknown>, key: string) => call(at, fn, args, key);

test("lists show what is of the key's queues, in pages that hold others' places", async () => {
  const key = await bind("viewer", "gpu", ["gpu", "cpu"]);
  const specs = ["gpu", "default", "cpu", "default", "gpu"];
  const ids = [];
  for (const queue of specs) ids.push(await at.submit({ queue }));
  const mine = ids.filter((_, i) => specs[i] !== "default").reverse();
  const seen: string[] = [];
  const sizes: number[] = [];
  let cursor: string | null = null;
  do {
    const page: { tasks: { task: string }[]; cursor: string | null } = await at.t.query(api.tasks.list, {
      ...{ key, limit: 2, cursor },
    });
    seen.push(...page.tasks.map(({ task }) => task));
    sizes.push(page.tasks.length);
    cursor = page.cursor;
  } while (cursor !== null);
  expect(seen).toEqual(mine);
  expect(sizes.slice(0, 3)).toEqual([1, 1, 1]);

  expect(await ask(api.tasks.backlog, {}, key)).toMatchObject({
    queues: [
      { queue: "cpu", waiting: 1 },
      { queue: "gpu", waiting: 2 },
    ],
  });
  const { queues } = await at.t.query(api.dashboard.queues, { key });
  expect(queues.map(({ queue }) => queue)).toEqual(["cpu", "gpu"]);
  const of = (scope: string) => ask(api.stats.read, { scope, from: 0, to: 1 }, key);
  for (const scope of ["all", "tenant:default", "agent:echo", "stack:s"]) {
    await expect(of(scope), scope).rejects.toThrow("only queue:NAME is of a queue");
  }
  await expect(of("queue:default")).rejects.toThrow("not the queue default");
  expect(await of("queue:cpu")).toEqual([]);
});

test("what hangs together with a task is shown as far as it is of the key's queues", async () => {
  const key = await bind("viewer");
  const first = await at.submit({ queue: "default" });
  const task = await at.submit({ queue: "gpu", after: [{ on: first }] });
  const [mine, other] = [
    await at.submit({ queue: "gpu", after: [{ on: task }] }),
    await at.submit({ queue: "default", after: [{ on: task }] }),
  ];
  const links = await at.t.query(api.tasks.links, { key, task });
  expect(links.after).toEqual([]);
  expect(links.dependents.map((one) => one.task)).toEqual([mine]);
  const all = await at.t.query(api.tasks.links, { key: KEYS.viewer, task });
  expect(all.after.map((one) => one.task)).toEqual([first]);
  expect(all.dependents.map((one) => one.task).sort()).toEqual([mine, other].sort());
});

test("no id of another queue's task is answered to who submits, tells an event or looks at a child", async () => {
  const key = await bind("submit");
  const template = { agent: "echo", input: "1" };
  for (const queue of ["gpu", "default"]) {
    const trigger = { name: queue, event: "mail", template: { ...template, queue } };
    await at.t.mutation(api.triggers.set, { key: KEYS.submit, trigger });
  }
  const { tasks } = await at.t.mutation(api.events.emit, { key, event: { name: "mail", data: "1" } });
  expect(tasks).toHaveLength(1);
  expect((await at.task(tasks[0]!)).queue).toBe("gpu");
  expect((await at.t.query(api.tasks.list, { key: KEYS.submit })).tasks).toHaveLength(2); // the other has begun, too

  const batch = { key: "b", maxItems: 9, maxMs: 9_000 };
  for (const more of [{}, { batch }]) {
    const dedupKey = JSON.stringify(more);
    await at.submit({ dedupKey, ...more });
    const spec = { ...template, queue: "gpu", dedupKey, ...more };
    const [answer] = await at.t.mutation(api.tasks.submit, { key, tasks: [spec] });
    expect(answer).toMatchObject({ ok: false, code: "forbidden" });
  }

  const worker = await at.worker("w", { capacity: 1 });
  await at.pass();
  const { run } = await worker.begin();
  const of = { key: KEYS.worker, session: worker.session, run, step: "s", gather: false };
  const spawned = await at.t.mutation(api.worker.spawn, { ...of, tasks: [{ ...template, queue: "gpu" }] });
  const links = (asked: string) => at.t.query(api.tasks.links, { key: asked, task: spawned.tasks[0]! });
  expect((await links(key)).parent).toBeNull();
  expect((await links(KEYS.viewer)).parent).not.toBeNull();
});

test("workers are shown that serve one of the key's queues", async () => {
  const key = await bind("viewer");
  await at.worker("both", { queues: ["default", "gpu"] });
  await at.worker("elsewhere", { queues: ["default"] });
  const { workers } = await at.t.query(api.dashboard.workers, { key });
  expect(workers.map(({ name }) => name)).toEqual(["both"]);
  expect((await at.t.query(api.dashboard.beats, { key })).map(({ name }) => name)).toEqual(["both"]);
  const drain = ask(api.dashboard.drain, { worker: "both" }, await bind("operator"));
  await expect(drain).rejects.toThrow("not the queue default");
});

describe("a group", () => {
  test("of a bound key takes tasks of its queues alone, and is its to see, seal and cancel", async () => {
    const [key, tenant] = [await bind("submit"), "default"];
    const other = await bind("submit", "cpu");
    const { group } = await at.t.mutation(api.groups.create, { key, tenant, name: "g" });
    const join = (queue: string) => at.submit({ queue, group });
    await join("gpu");
    await expect(join("default")).rejects.toThrow("tasks of gpu join");
    const again = at.t.mutation(api.groups.create, { key: other, tenant, name: "g" });
    await expect(again).rejects.toThrow("may be of gpu");
    for (const fn of [api.groups.get, api.groups.seal, api.groups.cancel]) {
      await expect(ask(fn, { group }, other)).rejects.toThrow("may be of gpu");
    }
    await at.t.mutation(api.groups.cancel, { key, group });
    await at.pass();
    expect(await at.t.query(api.groups.get, { key, group })).toMatchObject({ result: "canceled" });
    expect((await at.t.query(api.groups.list, { key: other })).groups).toEqual([]);
    expect((await at.t.query(api.groups.list, { key })).groups).toHaveLength(1);
  });

  test("of one task is seen with it", async () => {
    const onComplete = { task: { agent: "echo", queue: "gpu" } };
    const task = await at.submit({ queue: "gpu", onComplete });
    const key = await bind("viewer");
    const [group] = (await at.t.query(api.tasks.links, { key, task })).groups;
    expect(await at.t.query(api.groups.get, { key, group: group! })).toMatchObject({ group });
    const other = await bind("viewer", "cpu");
    await expect(ask(api.groups.get, { group }, other)).rejects.toThrow("may be of gpu");
  });
});

test("a key is bound to so many queues and not to more", async () => {
  const queues = Array.from({ length: MAX_QUEUES + 1 }, (_, i) => `q${i}`);
  await expect(bind("viewer", "many", queues)).rejects.toThrow(`${MAX_QUEUES} at most`);
  await expect(bind("viewer", "many", queues.slice(1))).resolves.toBeDefined();
});

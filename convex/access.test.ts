import { getFunctionName } from "convex/server";
import { describe, expect, test, vi } from "vitest";
import { api, internal } from "./_generated/api";
import { sha256 } from "./model/text";
import { KEYS, probe, useDeployment } from "./setup.testing";
import { call, table } from "./table.testing";

const at = useDeployment();

describe("keys", () => {
  test("each public function is open to its roles and to nobody else", async () => {
    for (const [fn, args, roles] of await table(at)) {
      const name = getFunctionName(fn);
      for (const role of ["worker", "viewer", "submit", "operator"] as const) {
        const answer = call(at, fn, args, KEYS[role]);
        if (roles.includes(role)) await expect(answer, `${role} calls ${name}`).resolves.toBeDefined();
        else await expect(answer, `${role} calls ${name}`).rejects.toThrow("forbidden");
      }
      await expect(call(at, fn, args, "sbw_nobody"), name).rejects.toThrow("unauthorized");
      await expect(call(at, fn, args, ""), name).rejects.toThrow("unauthorized");
      await expect(call(at, fn, args, undefined as unknown as string), name).rejects.toThrow();
    }
  });

  test("no public function is left out of that table", async () => {
    const named = new Set((await table(at)).map(([fn]) => getFunctionName(fn)));
    const modules = import.meta.glob<Record<string, unknown>>(["./*.ts", "!./*.test.ts", "!./*.testing.ts"]);
    const found = [];
    for (const [path, load] of Object.entries(modules)) {
      for (const [name, fn] of Object.entries(await load())) {
        if (typeof fn === "function" && "isPublic" in fn) found.push(`${path.slice(2, -3)}:${name}`);
      }
    }
    expect(found.sort()).toEqual([...named].sort());
  });

  test("a user's identity opens nothing", async () => {
    const user = at.t.as({ subject: "root", issuer: "https://id.example" });
    await expect(user.query(api.tasks.list, { key: "" })).rejects.toThrow("unauthorized");
  });

  test("a revoked or expired key is refused from that moment", async () => {
    const hash = await sha256("sbs_short");
    const expiresAt = Date.now() + 1_000;
    const key = await at.t.mutation(internal.operator.createKey, {
      hash,
      role: "submit",
      label: "short",
      expiresAt,
    });
    const list = () => at.t.query(api.tasks.list, { key: "sbs_short" });
    await expect(list()).resolves.toBeDefined();
    vi.advanceTimersByTime(999);
    await expect(list()).resolves.toBeDefined();
    vi.advanceTimersByTime(1);
    await expect(list()).rejects.toThrow('The key \\"short\\" has expired');
    await at.t.mutation(internal.operator.revokeKey, { key });
    await expect(list()).rejects.toThrow("was revoked");
    const [shown] = await at.t.query(internal.operator.listKeys, {});
    expect(shown).not.toHaveProperty("hash");
  });

  test("a key is stored once and only as a hash", async () => {
    const hash = await sha256("sbs_twice");
    const create = () => at.t.mutation(internal.operator.createKey, { hash, role: "submit", label: "twice" });
    expect(await create()).toBe(await create());
    const create2 = at.t.mutation(internal.operator.createKey, {
      hash: "sbs_twice",
      role: "submit",
      label: "oops",
    });
    await expect(create2).rejects.toThrow("SHA-256");
    expect(await at.t.query(probe.keyRows, {})).not.toContain("sbs_twice");
  });

  test("a session answers only to the key that opened it", async () => {
    const worker = await at.worker();
    const hash = await sha256("sbw_other");
    await at.t.mutation(internal.operator.createKey, { hash, role: "worker", label: "other" });
    const { session } = worker;
    const other = { key: "sbw_other", session };
    const calls = [
      at.t.query(api.worker.inbox, other),
      at.t.mutation(api.worker.sync, { ...worker.body(), ...other }),
      at.t.mutation(api.worker.drain, { ...other, final: true }),
      at.t.mutation(api.worker.crashed, { ...other, blamed: null }),
    ];
    for (const call of calls) await expect(call).rejects.toThrow("belongs to another key");
    expect((await worker.inbox()).live).toBe(true);
  });

  test("a submit key serves its queues only", async () => {
    const hash = await sha256("sbs_gpu");
    await at.t.mutation(internal.operator.createKey, { hash, role: "submit", label: "gpu", queues: ["gpu"] });
    const tasks = [
      { agent: "echo", input: "1", queue: "gpu" },
      { agent: "echo", input: "1" },
    ];
    const answers = await at.t.mutation(api.tasks.submit, { key: "sbs_gpu", tasks });
    expect(answers).toMatchObject([{ ok: true }, { ok: false, code: "forbidden" }]);
  });

  test("a schedule's task and its follow-up are of the queues that the key serves", async () => {
    const hash = await sha256("sbs_gpu");
    await at.t.mutation(internal.operator.createKey, { hash, role: "submit", label: "gpu", queues: ["gpu"] });
    const set = (queue: string, next: string) => {
      const template = {
        agent: "echo",
        input: "1",
        queue,
        onComplete: { task: { agent: "echo", queue: next } },
      };
      const schedule = { name: "s", everyMs: 60_000, template };
      return at.t.mutation(api.schedules.set, { key: "sbs_gpu", schedule });
    };
    await expect(set("default", "gpu")).rejects.toThrow("not the queue default");
    await expect(set("gpu", "default")).rejects.toThrow("not the queue default");
    await expect(set("gpu", "gpu")).resolves.toHaveProperty("changed", true);
  });

  test("a worker key serves its queues only", async () => {
    const hash = await sha256("sbw_gpu");
    await at.t.mutation(internal.operator.createKey, { hash, role: "worker", label: "gpu", queues: ["gpu"] });
    const register = (queues: string[]) =>
      at.t.mutation(api.worker.register, {
        key: "sbw_gpu",
        worker: "g",
        incarnation: "1",
        queues,
        agents: [],
        labels: [],
        llm: true,
        capacity: 1,
        version: "1",
      });
    await expect(register(["gpu", "default"])).rejects.toThrow("not the queue default");
    await expect(register(["gpu"])).resolves.toHaveProperty("session");
    await at.worker("g2");
    const takeOver = {
      worker: "g2",
      incarnation: "2",
      queues: ["gpu"],
      agents: [],
      labels: [],
      llm: true,
      capacity: 1,
      version: "1",
    };
    const taken = at.t.mutation(api.worker.register, { key: "sbw_gpu", ...takeOver });
    await expect(taken).rejects.toThrow("not the queue default");
  });
});

describe("bad input", () => {
  const submit = (...tasks: object[]) =>
    at.t.mutation(api.tasks.submit, { key: KEYS.submit, tasks: tasks as { agent: string; input: string }[] });
  const good = { agent: "echo", input: "null" };

  test.each([
    ["an unknown agent", { agent: "ghost" }, "unknown_agent", "Known: echo"],
    ["input that is no JSON", { input: "{" }, "invalid_argument", "not JSON"],
    [
      "input over the limit",
      { input: `"${"x".repeat(8 * 1024 * 1024 - 1)}"` },
      "payload_too_large",
      "8388609 bytes",
    ],
    [
      "input over the limit in bytes",
      { input: `"${"€".repeat(2_796_202)}x"` },
      "payload_too_large",
      "8388609 bytes",
    ],
    ["a queue with a slash", { queue: "a/b" }, "invalid_argument", "queue"],
    ["a long tenant", { tenant: "x".repeat(65) }, "invalid_argument", "tenant"],
    ["priority over its bound", { priority: 1_001 }, "invalid_argument", "-1000 to 1000"],
    ["no number", { priority: NaN }, "invalid_argument", "priority"],
    ["both times", { delayMs: 1, runAt: 1 }, "invalid_argument", "give one"],
    ["a negative delay", { delayMs: -1 }, "invalid_argument", "delayMs"],
    ["no attempts", { retry: { maxAttempts: 0 } }, "invalid_argument", "retry.maxAttempts"],
    ["half an attempt", { retry: { maxAttempts: 1.5 } }, "invalid_argument", "whole"],
    ["too many attempts", { retry: { maxAttempts: 101 } }, "invalid_argument", "1 to 100"],
    ["an empty dedup key", { dedupKey: "" }, "invalid_argument", "dedupKey"],
    ["a long dedup key", { dedupKey: "x".repeat(257) }, "invalid_argument", "257"],
  ])("%s is refused with its field and the others are taken", async (_, bad, code, text) => {
    const answers = await submit(good, { ...good, ...bad }, good);
    expect(answers).toMatchObject([{ ok: true }, { ok: false, code }, { ok: true }]);
    const refused = answers[1] as { message: string };
    expect(refused.message).toContain(text);
    expect(refused.message).not.toContain("\n");
    expect(await at.t.query(probe.countTasks, {})).toBe(2);
  });

  test.each([
    ["the largest input", { input: `"${"x".repeat(8 * 1024 * 1024 - 2)}"` }],
    ["the highest priority", { priority: 1_000 }],
    ["the longest name", { tenant: "x".repeat(64) }],
    ["the longest dedup key", { dedupKey: "x".repeat(256) }],
    ["the most attempts", { retry: { maxAttempts: 100 } }],
  ])("%s is taken", async (_, most) => {
    expect(await submit({ ...good, ...most })).toMatchObject([{ ok: true }]);
  });

  test("200 tasks fit in a call and 201 do not", async () => {
    const many = Array.from({ length: 201 }, () => good);
    await expect(submit(...many)).rejects.toThrow("at most 200");
    expect(await submit(...many.slice(1))).toHaveLength(200);
  });

  test.each([
    ["a name with a space", { worker: "my worker" }, "worker"],
    ["no queues", { queues: [] }, "1 to 50"],
    ["no capacity", { capacity: 0 }, "capacity"],
    ["too much capacity", { capacity: 1_001 }, "1 to 1000"],
    ["an agent's bad name", { agents: [{ name: "a b", description: "", capabilities: [] }] }, "agents.name"],
  ])("a worker with %s is refused", async (_, bad, text) => {
    const register = {
      worker: "w",
      incarnation: "1",
      queues: ["default"],
      agents: [],
      labels: [],
      llm: true,
      capacity: 1,
    };
    const answer = at.t.mutation(api.worker.register, {
      key: KEYS.worker,
      version: "1",
      ...register,
      ...bad,
    });
    await expect(answer).rejects.toThrow(text);
  });

  test("asking for what is not there says so", async () => {
    const task = await at.submit();
    await at.t.mutation(probe.removeTask, { task });
    await expect(at.cancel(task)).rejects.toThrow("not_found");
    expect(await at.t.query(api.tasks.get, { key: KEYS.submit, task })).toBeNull();
    const key = KEYS.submit;
    expect(await at.t.query(api.tasks.get, { key, task: "garbage" })).toBeNull();
    const answers = [
      at.t.mutation(api.tasks.cancel, { key, task: "garbage" }),
      at.t.query(api.tasks.history, { key, task: "garbage" }),
      at.t.mutation(api.runs.watch, { key, task: "garbage", forMs: 1 }),
      at.t.query(api.runs.follow, { key, task: "garbage", run: null, after: -1 }),
    ];
    for (const answer of answers) await expect(answer).rejects.toThrow('No task \\"garbage\\".');
    await expect(at.t.query(api.runs.tail, { key, run: task, after: -1 })).rejects.toThrow("No run");
    await expect(at.t.query(api.tasks.list, { key, limit: NaN })).rejects.toThrow("limit");
    await expect(at.t.query(api.tasks.list, { key, limit: 101 })).rejects.toThrow("1 to 100");
    expect(await at.t.query(api.tasks.list, { key, limit: 100 })).toMatchObject({ tasks: [] });
  });
});

test("a report is cut to what a line needs", async () => {
  const worker = await at.worker();
  const task = await at.submit({ retry: { maxAttempts: 1 } });
  await at.pass();
  const [item] = (await worker.inbox()).assigned;
  const error = { code: "c".repeat(500), message: "m".repeat(100_000) };
  await worker.finish(item!.run, { kind: "failed", error, retryable: true, notBeforeMs: null });
  const kept = (await at.task(task)).error!;
  expect([kept.code.length, kept.message.length]).toEqual([100, 2_000]);
});

describe("agents", () => {
  const spec = {
    name: "writer",
    description: "writes",
    llm: { model: null, prompt: "Write.", temperature: null, maxOutputTokens: null },
  };
  const sync = (...agents: object[]) =>
    at.t.mutation(api.agents.sync, { key: KEYS.operator, agents: agents as (typeof spec)[] });

  test("the same settings again change nothing, others do", async () => {
    expect(await sync(spec)).toEqual([{ name: "writer", changed: true }]);
    expect(await sync(spec)).toEqual([{ name: "writer", changed: false }]);
    expect(await sync({ ...spec, retry: { maxAttempts: 5 } })).toEqual([{ name: "writer", changed: true }]);
    const agents = await at.t.query(api.agents.list, { key: KEYS.operator });
    expect(agents.find((agent) => agent.name === "writer")).toMatchObject({
      kind: "llm",
      retry: { maxAttempts: 5 },
    });
  });

  test("an LLM agent and a worker's own agent do not take each other's name", async () => {
    await expect(sync({ ...spec, name: "echo" })).rejects.toThrow("Python agent");
    await sync({ ...spec, name: "writer" });
    const answer = at.t.mutation(api.worker.register, {
      key: KEYS.worker,
      worker: "w",
      incarnation: "1",
      queues: ["default"],
      agents: [{ name: "writer", description: "", capabilities: [] }],
      labels: [],
      llm: true,
      capacity: 1,
      version: "1",
    });
    await expect(answer).rejects.toThrow("LLM agent");
  });

  test("a prompt or description over its limit is refused, at it taken", async () => {
    const prompt = (length: number) => ({ ...spec, llm: { ...spec.llm, prompt: "x".repeat(length) } });
    await expect(sync(prompt(32 * 1024 + 1))).rejects.toThrow("llm.prompt");
    await expect(sync(prompt(32 * 1024))).resolves.toHaveLength(1);
    await expect(sync({ ...spec, description: "x".repeat(2_001) })).rejects.toThrow("description");
    await expect(sync({ ...spec, description: "x".repeat(2_000) })).resolves.toHaveLength(1);
  });

  const llm = (more: object) => sync({ ...spec, llm: { ...spec.llm, ...more } });
  test.each([
    ["models", { model: "a", models: ["b"] }, { models: Array.from({ length: 20 }, (_, i) => `p/m${i}`) }],
    ["models", { models: [] }, { models: ["p/m"] }],
    ["models", { models: Array.from({ length: 21 }, (_, i) => `p/m${i}`) }, {}],
    ["fallbackOn", { fallbackOn: Array(3).fill("refusal") }, { fallbackOn: ["refusal", "content_filter"] }],
    ["tools", { tools: ["a b"] }, { tools: ["x".repeat(64), "github_*"] }],
    ["tools", { tools: ["x".repeat(65)] }, {}],
    ["tools", { tools: Array(129).fill("t") }, { tools: Array(128).fill("t") }],
    ["outputSchema", { outputSchema: "[]" }, { outputSchema: '{"type":"object"}' }],
    ["outputSchema", { outputSchema: "{" }, {}],
    [
      "outputSchema",
      { outputSchema: `{"x":"${"y".repeat(16_377)}"}` },
      { outputSchema: `{"x":"${"y".repeat(16_376)}"}` },
    ],
    ["limits.maxTurns", { limits: { maxTurns: 5_001 } }, { limits: { maxTurns: 5_000 } }],
    ["limits.maxTokens", { limits: { maxTokens: 0.5 } }, { limits: { maxTokens: 1 } }],
    ["limits.maxMs", { limits: { maxMs: 0 } }, { limits: { maxMs: 1e15 } }],
  ])("%s of an LLM agent beyond its bounds is refused, within them taken", async (field, beyond, within) => {
    await expect(llm(beyond)).rejects.toThrow(field.replace("limits.", ""));
    await expect(llm(within)).resolves.toHaveLength(1);
  });

  test("a worker is told what its LLM agent should be", async () => {
    const outputSchema = '{"type":"string"}';
    const fallbackOn: ("refusal" | "content_filter")[] = ["refusal", "content_filter"];
    const more = {
      models: ["a/b", "c"],
      fallbackOn,
      tools: ["search"],
      outputSchema,
      limits: { maxTurns: 3 },
    };
    Object.assign(spec.llm, more);
    await sync(spec);
    const worker = await at.worker();
    await at.submit({ agent: "writer", input: '"a haiku"' });
    await at.pass();
    expect((await worker.inbox()).assigned).toMatchObject([
      { kind: "llm", llm: spec.llm, input: '"a haiku"' },
    ]);
  });
});

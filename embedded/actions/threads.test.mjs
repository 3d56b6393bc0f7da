import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { bundleFunctions } from "../bundle.mjs";
import { writeFunctions, temporaryFolder } from "../engine/testing.mjs";
import { ofHost } from "../request-context.mjs";
import { ActionsClient } from "./client.mjs";
import { actionSeconds } from "./limits.mjs";
import { Slots } from "./slots.mjs";
import { startTestHost } from "./testing.mjs";

describe("an action over its limit", () => {
  /** @type {Awaited<ReturnType<typeof startTestHost>>} */
  let host;
  beforeAll(async () => void (host = await startTestHost({ seconds: 3 })));
  afterAll(() => host.stop());

  const text = (name) =>
    new RegExp(`Server Error\\nAction \`${name}\` execution timed out \\(maximum duration 3s\\)\n$`);

  test("that waits is answered, and what it calls then has no effect", async () => {
    const answer = await host.reply("action", "acts:sleep", { ms: 4_000 });
    expect(answer.errorMessage).toMatch(text("sleep"));
    expect(await host.act("acts:sleep", { ms: 1 })).toBe("awake");
  });

  test.each(["spin", "spinInMicrotasks"])(
    "that never pauses (%s) loses its thread, and what comes after it runs at once",
    async (name) => {
      let ended = false;
      const spinning = host.reply("action", `acts:${name}`).finally(() => (ended = true));
      await new Promise((resolve) => setTimeout(resolve, 2_000)); // long enough to be seen as busy
      expect(await host.act("acts:sleep", { ms: 1 })).toBe("awake");
      expect(ended).toBe(false);
      expect((await spinning).errorMessage).toMatch(text(name));
      await expect
        .poll(() => host.lines.filter((line) => line.includes("computed for too long")).length)
        .toBeGreaterThan(0);
      host.lines.length = 0;
    },
  );

  test("cuts off what shares its thread, scheduled functions included", async () => {
    const spinning = host.reply("action", "acts:spin");
    const sharing = host.reply("action", "acts:sleep", { ms: 10_000 });
    const answers = await Promise.all([spinning, sharing]);
    const endings = answers.map(({ errorMessage }) => /cut off|timed out/.exec(errorMessage)?.[0]);
    expect(endings).toContain("timed out");
    expect(endings).not.toContain(undefined);
    expect(await host.act("acts:sleep", { ms: 1 })).toBe("awake");
  });
});

describe("places", () => {
  test("are given in order, and the one who waits too long goes without", async () => {
    const slots = new Slots(1, 20);
    expect(slots.take({ patient: false })).toBe(true);
    const [second, patient] = [slots.take({ patient: false }), slots.take({ patient: true })];
    expect(await second).toBe(false);
    slots.release();
    expect(await patient).toBe(true);
    slots.release();
    expect(slots.take({ patient: false })).toBe(true);
  });
});

describe("the client of the threads", () => {
  const root = temporaryFolder();
  const engine = {
    description: { functions: {} },
    calls: { now: 0, most: 0 },
    call(_call, listener) {
      this.calls.most = Math.max(this.calls.most, ++this.calls.now);
      setTimeout(() => {
        this.calls.now -= 1;
        listener({ ok: true, value: "null", logLines: [] });
      }, 5);
    },
    ask: async (/** @type {any} */ { value = "null" }) => ({ ok: true, value, logLines: [] }),
  };
  /** @type {ActionsClient} */
  let actions;
  const functions = {
    "acts.ts": `import { actionGeneric as action, makeFunctionReference } from "convex/server";
      export const sleep = action(async (_ctx, { ms }: { ms: number }) => { await new Promise((wake) => setTimeout(wake, ms)); });
      export const many = action(async (ctx) => {
        const query = makeFunctionReference<"query">("acts:query");
        await Promise.all(Array.from({ length: 30 }, () => ctx.runQuery(query, {})));
      });
      let calls = 0;
      export const count = action(async () => (calls += 1));
      export const eat = action(async () => { const all = []; for (;;) all.push(new Array(1e6).fill({})); });`,
  };
  const act = (name, args = {}, more = {}) =>
    actions.runAction({
      path: `acts:${name}`,
      args: JSON.stringify([args]),
      caller: { admin: false, identity: null },
      request: ofHost(null),
      ...more,
    });
  async function start(limits = {}, strict = false) {
    actions = new ActionsClient({ engine, log: () => {}, limits, strict });
    actions.load(await bundleFunctions(writeFunctions(root, functions)), {});
  }
  afterEach(() => actions.stop());

  test("lets so many run at a time, and says so to those who waited in vain", async () => {
    await start({ running: 2, waitMs: 50 });
    const first = [act("sleep", { ms: 300 }), act("sleep", { ms: 300 })];
    const refused = await act("sleep", { ms: 1 });
    expect(refused).toMatchObject({ ok: false, code: "TooManyConcurrentRequests" });
    expect(refused.message).toContain("limited to 2 concurrent actions");
    const patient = act("sleep", { ms: 1 }, { job: "job1" });
    expect(await Promise.all([...first, patient])).toMatchObject([{ ok: true }, { ok: true }, { ok: true }]);
  });

  test("answers before anything is loaded that there are no HTTP actions", async () => {
    actions = new ActionsClient({ engine, log: () => {} });
    const parts = [];
    const call = { method: "GET", url: "http://site/", headers: [], body: null, request: ofHost(null) };
    const client = { onPart: (part) => parts.push(part), gone: new AbortController().signal };
    const caller = { admin: false, identity: null };
    expect(await actions.runHttp({ ...call, caller }, client)).toMatchObject({ ok: true });
    expect(Buffer.from(parts[0].head.body).toString()).toContain("does not have HTTP actions enabled");
  });

  test("asks eight things of the host at a time for one action", async () => {
    await start();
    expect(await act("many")).toMatchObject({ ok: true });
    expect(engine.calls.most).toBe(8);
  });

  test.each([
    [false, ["1", "2"]],
    [true, ["1", "1"]],
  ])(
    "keeps what modules hold from one action to the next, unless it is strict (%s)",
    async (strict, counts) => {
      await start({}, strict);
      expect([(await act("count")).value, (await act("count")).value]).toEqual(counts);
    },
  );

  test("outlives an action that eats all memory", async () => {
    await start({ heapMb: 32 });
    const answer = await act("eat");
    expect(answer.message).toContain("ran out of memory (maximum memory usage: 32 MB)");
    expect(await act("sleep", { ms: 1 })).toMatchObject({ ok: true });
  });
});

test.each([
  [undefined, 600],
  ["", 600],
  ["2", 2],
  ["0.5", 0.5],
  ["86400", 86_400],
])("a limit of %s is %d seconds", (value, seconds) => {
  expect(actionSeconds({ ACTIONS_USER_TIMEOUT_SECS: value })).toBe(seconds);
});

test.each(["0", "-1", "soon", "86401", "NaN"])("a limit of %s is refused", (value) => {
  expect(() => actionSeconds({ ACTIONS_USER_TIMEOUT_SECS: value })).toThrow(
    /^ACTIONS_USER_TIMEOUT_SECS must be/,
  );
});

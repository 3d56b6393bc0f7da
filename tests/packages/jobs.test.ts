/** Packages that run the app's functions: @convex-dev/action-retrier, crons, migrations and workpool. */

import { describe, expect, test } from "vitest";
import { api, failure, Follower, useHost } from "../conformance/clients";
import { functionsWithApp } from "./packages";

describe("action-retrier", () => {
  const clients = useHost({ functions: functionsWithApp("action-retrier") });

  async function outcome(args: object) {
    const runId: string = await clients.http().mutation(api.app.start, args);
    const status = new Follower<{ type: string; result?: unknown }>(clients.socket(), api.public.status, {
      runId,
    });
    const ended = await status.until((now) => (now as { type: string }).type === "completed");
    return { runId, result: (ended as { result: unknown }).result };
  }

  test("runs an action again until it works", async () => {
    const { runId, result } = await outcome({ name: "flaky", failures: 2, maxFailures: 4 });
    expect(result).toEqual({ type: "success", returnValue: "worked at call 3" });
    expect(await clients.http().query(api.app.completions, { runId })).toEqual(["success"]);
    await clients.http().mutation(api.public.cleanup, { runId });
    expect((await failure(clients.http().query(api.public.status, { runId }))).message).toContain(
      "not found",
    );
  });

  test("gives up after as many failures as it may have", async () => {
    const { runId, result } = await outcome({ name: "hopeless", failures: 100, maxFailures: 2 });
    expect(result).toMatchObject({ type: "failed", error: expect.stringContaining("failure 3") });
    expect(await clients.http().query(api.app.completions, { runId })).toEqual(["failed"]);
  });

  test("a run that has not begun can be canceled", async () => {
    const http = clients.http();
    const args = { name: "later", failures: 0, maxFailures: 1, runAfter: 60_000 };
    const runId: string = await http.mutation(api.app.start, args);
    expect(await http.query(api.public.status, { runId })).toEqual({ type: "inProgress" });
    expect(await http.mutation(api.public.cancel, { runId })).toBe(true);
    expect(await http.query(api.public.status, { runId })).toEqual({
      type: "completed",
      result: { type: "canceled" },
    });
    expect(await http.mutation(api.public.cancel, { runId })).toBe(false);
  });
});

describe("crons", () => {
  const clients = useHost({ functions: functionsWithApp("crons") });

  test("a cron that was registered at run time runs until it is deleted", async () => {
    const http = clients.http();
    const ticks = new Follower<number>(clients.socket(), api.app.ticks, { name: "fast" });
    const id: string = await http.mutation(api.app.register, {
      name: "fast",
      schedule: { kind: "interval", ms: 1000 },
    });
    expect(await http.query(api.public.get, { identifier: { name: "fast" } })).toMatchObject({
      id,
      args: { name: "fast" },
    });
    await ticks.until((count) => count === 1);
    await http.mutation(api.public.del, { identifier: { id } });
    expect(await http.query(api.public.list, {})).toEqual([]);
  });

  test("names are taken once and schedules are checked", async () => {
    const http = clients.http();
    const register = (name: string, schedule: object) => http.mutation(api.app.register, { name, schedule });
    await register("mondays", { kind: "cron", cronspec: "0 9 * * 1", tz: "America/New_York" });
    const again = failure(register("mondays", { kind: "interval", ms: 5000 }));
    expect((await again).message).toContain('Cron with name "mondays" already exists');
    expect((await failure(register("bad", { kind: "cron", cronspec: "61 * * * *" }))).message).toContain(
      "Invalid cronspec",
    );
    expect((await failure(register("bad", { kind: "interval", ms: 10 }))).message).toContain(
      "Interval must be >= 1000ms",
    );
  });
});

describe("migrations", () => {
  const clients = useHost({ functions: functionsWithApp("migrations") });

  test("goes through a table in batches, each a transaction, and says how far it is", async () => {
    const http = clients.http();
    await http.mutation(api.app.seed, { count: 25 });
    const dry = await failure(http.mutation(api.app.migrate, { name: "greet", batchSize: 10, dryRun: true }));
    expect((dry as Error & { data: unknown }).data).toMatchObject({
      kind: "DRY RUN",
      status: { processed: 10, isDone: false },
    });
    expect(await http.query(api.app.greeted, {})).toBe(0);

    const status = new Follower<{ state: string }[]>(clients.socket(), api.lib.getStatus, {
      names: ["greet"],
    });
    await http.mutation(api.app.migrate, { name: "greet", batchSize: 10, dryRun: false });
    const done = await status.until((now) => (now as { state: string }[])[0]?.state === "success");
    expect(done).toMatchObject([{ name: "greet", processed: 25, isDone: true }]);
    expect(await http.query(api.app.greeted, {})).toBe(25);
  });

  test("a batch that fails is undone and the migration stays where it was", async () => {
    const http = clients.http();
    await http.mutation(api.app.spoil, {});
    const status = new Follower<{ state: string }[]>(clients.socket(), api.lib.getStatus, {
      names: ["again"],
    });
    await http.mutation(api.app.migrate, { name: "again", batchSize: 10, dryRun: false });
    const failed = await status.until((now) => (now as { state: string }[])[0]?.state === "failed");
    expect(failed).toMatchObject([
      { processed: 20, isDone: false, error: expect.stringContaining("no greeting") },
    ]);
  });
});

describe("workpool", () => {
  const clients = useHost({ functions: functionsWithApp("workpool") });

  test("runs everything once, never more at a time than it may, and retries actions", async () => {
    const http = clients.http();
    const enqueue = (kind: string, work: object, maxAttempts?: number) =>
      http.mutation(api.app.enqueue, { kind, work, ...(maxAttempts === undefined ? {} : { maxAttempts }) });
    for (let n = 0; n < 4; n++) await enqueue("mutation", { name: `m${n}` });
    for (let n = 0; n < 8; n++) await enqueue("action", { name: `a${n}`, waitMs: 40 });
    await enqueue("action", { name: "flaky", failures: 1 }, 3);
    const hopeless: string = await enqueue("action", { name: "hopeless", failures: 9 });
    const completions = new Follower<[string, string, string][]>(clients.socket(), api.app.completions, {});
    await completions.until((now) => (now as unknown[]).length === 14);
    const byName = Object.fromEntries(
      (completions.last as [string, string, string][]).map(([name, ...rest]) => [name, rest]),
    );
    expect(Object.keys(byName)).toHaveLength(14);
    expect(byName.m3).toEqual(["success", "mutated m3"]);
    expect(byName.a7).toEqual(["success", "acted a7"]);
    expect(byName.flaky).toEqual(["success", "acted flaky"]);
    expect(byName.hopeless).toEqual(["failed", expect.stringContaining("failure 1")]);
    expect(await http.query(api.app.mostAtOnce, {})).toBeLessThanOrEqual(3);
    expect(await http.query(api.lib.status, { id: hopeless })).toEqual({ state: "finished" });
  });
});

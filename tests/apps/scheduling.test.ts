import { expect, test } from "vitest";
import { failure, Follower } from "../conformance/clients";
import { useApp } from "./apps";
import { api } from "./scheduling/convex/_generated/api";
import type { Doc, Id } from "./scheduling/convex/_generated/dataModel";

const clients = useApp("scheduling");

const follow = <Value>(...[query, args]: [never, object?]) =>
  new Follower<Value>(clients.socket(), query, (args ?? {}) as Record<string, unknown>);
type Job = {
  name: string;
  args: unknown[];
  scheduledTime: number;
  completedTime?: number;
  state: { kind: string; error?: string };
};
const jobEnds = async (id: Id<"_scheduled_functions">): Promise<Job> =>
  (await follow<Job>(api.messages.job as never, { id }).until(
    (job) => !["pending", "inProgress"].includes((job as Job).state.kind),
  )) as Job;

test("an expiring message is there, and is gone when its time has come", async () => {
  const messages = follow<string[]>(api.messages.list as never);
  const { destruction } = await clients
    .http()
    .mutation(api.messages.sendExpiring, { body: "burn", afterMs: 150 });
  await messages.until((bodies) => (bodies as string[]).includes("burn"));
  await messages.until((bodies) => !(bodies as string[]).includes("burn"));
  const job = await jobEnds(destruction);
  expect(job).toMatchObject({
    name: "messages.js:destruct",
    args: [{ id: expect.any(String) }],
    state: { kind: "success" },
  });
  expect(job.completedTime).toBeGreaterThanOrEqual(Math.floor(job.scheduledTime));
});

test("a canceled destruction leaves the message", async () => {
  const http = clients.http();
  const { id, destruction } = await http.mutation(api.messages.sendExpiring, {
    body: "stay",
    afterMs: 60_000,
  });
  const job = (await http.query(api.messages.job, { id: destruction })) as Job;
  expect(job.state).toEqual({ kind: "pending" });
  expect(await http.query(api.messages.pending)).toContainEqual({
    name: "messages.js:destruct",
    args: [{ id }],
  });
  await http.mutation(api.messages.keep, { id });
  expect((await jobEnds(destruction)).state).toEqual({ kind: "canceled" });
  expect(await http.query(api.messages.list)).toContain("stay");
});

test("runAt in the past runs at once, and a failed action is not run again", async () => {
  const http = clients.http();
  const good = await http.mutation(api.emails.sendAt, { to: "ada", at: Date.now() - 1_000 });
  const bad = await http.mutation(api.emails.sendAt, { to: "nobody", at: Date.now() });
  expect((await jobEnds(good)).state).toEqual({ kind: "success" });
  expect((await jobEnds(bad)).state).toMatchObject({
    kind: "failed",
    error: expect.stringContaining("no such address"),
  });
  expect(await http.query(api.emails.sent, { to: "ada" })).toBe(1);
});

test("a mutation that fails has scheduled nothing, an action that fails has", async () => {
  const http = clients.http();
  const sent = follow<number>(api.emails.sent as never, { to: "b" });
  await failure(http.mutation(api.messages.sendAndFail, { to: "a" }));
  await failure(http.action(api.emails.sendFromAction, { to: "b" }));
  await sent.until((count) => count === 1);
  expect(await http.query(api.emails.sent, { to: "a" })).toBe(0);
});

test("a function that schedules itself stops when it wants to", async () => {
  const sent = follow<number>(api.emails.sent as never, { to: "chain" });
  await clients.http().mutation(api.emails.remind, { to: "chain", left: 3 });
  await sent.until((count) => count === 3);
});

test("an interval cron runs at once and again", async () => {
  await follow<number>(api.emails.ticks as never).until((count) => (count as number) >= 2);
});

test("what is scheduled must exist, and arguments are checked when it runs", async () => {
  const http = clients.http();
  const id = await http.mutation(api.messages.sendExpiring, { body: "typed", afterMs: 60_000 });
  expect(id.destruction).toMatch(/^[0-9a-z]{31,37}$/);
  const wrong = failure(http.query(api.messages.job, { id: id.id as unknown as Id<"_scheduled_functions"> }));
  expect((await wrong).message).toContain("ArgumentValidationError");
  const message: Doc<"messages">["_id"] = id.id;
  await http.mutation(api.messages.keep, { id: message });
});

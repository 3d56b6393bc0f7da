/**
 * Wake-up calls of an endpoint that works as a worker for a while. The engine runs no actions, so what a call brings is said here;
 * the mock would answer each at once.
 */
import { beforeEach, describe, expect, test } from "vitest";
import { api, internal } from "./_generated/api";
import { WAKE_AGAIN_MS } from "./constants";
import { KEYS, probe, useDeployment } from "./setup.testing";

const ON_HOST = import.meta.env.SIGNALBOX_TEST_BACKEND === "host";
const at = useDeployment();

beforeEach(async () => {
  const url = "https://agents.example.com/";
  const endpoint = { name: "site", url, secretVariable: "SIGNALBOX_PUSH_SECRET", mode: "wake" as const };
  await at.t.mutation(api.endpoints.set, { key: KEYS.operator, ...endpoint, queues: ["default"] });
});

const calls = async () => (await at.t.query(probe.endpoints, {}))[0]!.asked;

/** The call under way is answered. `done`: that a worker has come and gone. */
async function answered(done: boolean): Promise<void> {
  const { endpoint, asked } = (await at.t.query(probe.endpoints, {}))[0]!;
  await at.t.mutation(internal.push.woken, { endpoint, asked, ok: true, error: null, done });
  await at.pass();
}

/** When calls are made for work that nobody takes, in seconds from now; each is answered at once. */
async function callsInVain(count: number, done: boolean): Promise<number[]> {
  const [from, made] = [Date.now(), [] as number[]];
  await at.submit();
  await at.pass();
  for (let asked = await calls(); made.length < count; asked = await calls()) {
    if (asked > made.length) {
      made.push(Math.round((Date.now() - from) / 1_000));
      await answered(done);
    } else await at.pass(100);
  }
  return made;
}

let incarnations = 0;

/** A worker comes because of a call, and does what waits. */
async function comesAndWorks() {
  const worker = await at.worker("woken", { incarnation: `${++incarnations}` });
  await at.pass();
  await worker.finishAll();
  return worker;
}

describe.runIf(ON_HOST)("a wake-up call (on the host: the mock answers each at once)", () => {
  test.each([
    ["soon", WAKE_AGAIN_MS / 5, true],
    ["late", 2 * WAKE_AGAIN_MS, false],
  ])(
    "is made again at once when a worker has gone that was %s leaving when work came",
    async (_, ms, done) => {
      await at.submit();
      await at.pass();
      expect(await calls()).toBe(1);
      const worker = await comesAndWorks();
      await at.pass(ms);
      await worker.drain(false);
      const late = await at.submit();
      await at.pass(500);
      expect(await calls()).toBe(1); // the worker that it has brought is still there
      await worker.drain();
      await at.pass(500);
      expect(await calls()).toBe(1); // and a process answers once it has no worker any more
      await answered(done);
      expect(await calls()).toBe(2);
      await comesAndWorks();
      expect((await at.task(late)).status).toBe("succeeded");
    },
  );

  test("is made at once for work that comes after a worker that did its work soon", async () => {
    for (let call = 1; call <= 4; call++) {
      await at.submit();
      await at.pass();
      expect(await calls()).toBe(call);
      await (await comesAndWorks()).drain();
      await answered(false);
      await at.pass(500);
    }
  });

  test("is made ever more rarely while nobody comes, however soon it is answered", async () => {
    expect(await callsInVain(4, false)).toEqual([0, 5, 15, 35]);
  });

  test("is made ever more rarely while a worker comes and goes in vain, but for the first time", async () => {
    expect(await callsInVain(4, true)).toEqual([0, 0, 10, 30]);
  });
});

import { expect, test } from "vitest";
import { section } from "./checklist";
import { api, failure, failures, Follower, useHost } from "./clients";

const clients = useHost();
const { jobs } = api;

let channels = 0;
const newChannel = () => `channel ${(channels += 1)}`;
const ID = /^[0-9a-z]{31,37}$/;

interface Job {
  _id: string;
  _creationTime: number;
  name: string;
  args: unknown[];
  scheduledTime: number;
  completedTime?: number;
  state: { kind: string; error?: string };
}

/** The job once it is in one of the states; it is followed, not asked for again and again. */
async function jobWhen(id: string, ...kinds: string[]): Promise<Job> {
  const followed = new Follower<Job>(clients.shared("websocket") as never, jobs.job, { id });
  const found = await followed.until((newest) => kinds.includes((newest as Job).state?.kind));
  followed.stop();
  return found as Job;
}

/** The messages of a channel once there are as many as wanted. */
async function messagesWhen(channel: string, count: number): Promise<string[]> {
  const followed = new Follower<string[]>(clients.shared("websocket") as never, api.messages.list, {
    channel,
  });
  const found = await followed.until((newest) => (newest as string[]).length >= count);
  followed.stop();
  return found as string[];
}

const own = async (name: string, channel = newChannel()) => ({
  channel,
  id: (await clients.shared("http").mutation(jobs.scheduleOwn, { name, channel })) as string,
});

section("Scheduler", (line) => {
  line("runAfter/runAt return the id as a string", () => {
    test("of a mutation", async () => {
      const client = clients.shared("http");
      const channel = newChannel();
      const later = Date.now() + 60_000;
      expect(await client.mutation(jobs.schedule, { delay: 60_000, channel, body: "x" })).toMatch(ID);
      expect(await client.mutation(jobs.scheduleAt, { at: later, channel, body: "x" })).toMatch(ID);
      const id = await client.mutation(jobs.scheduleAtDate, { at: later, channel });
      expect(id).toMatch(ID);
      expect(await client.query(jobs.job, { id })).toMatchObject({
        _id: id,
        scheduledTime: later,
        state: { kind: "pending" },
      });
    });

    test("of an action", async () => {
      expect(await clients.shared("http").action(jobs.cancelInAction, { channel: newChannel() })).toMatch(ID);
    });

    test("what a mutation scheduled before it threw is not there", async () => {
      const channel = newChannel();
      await failure(clients.shared("http").mutation(jobs.scheduleThenThrow, { channel }));
      const all = (await clients.shared("http").query(jobs.allJobs, {})) as Job[];
      expect(all.filter(({ args }) => (args[0] as { channel?: string }).channel === channel)).toEqual([]);
    });

    test("a function that is not there cannot be scheduled", async () => {
      const { message } = await failure(own("nowhere"));
      expect(message).toContain(
        "Attempted to schedule function, but no exported function nowhere found in the file: jobs.js.",
      );
    });

    test("times are bounded, and a negative delay is refused", async () => {
      const client = clients.shared("http");
      const channel = newChannel();
      const errors = await failures([
        client.mutation(jobs.schedule, { delay: -1, channel, body: "x" }),
        client.mutation(jobs.schedule, { delay: Infinity, channel, body: "x" }),
        client.mutation(jobs.schedule, { delay: 6 * 365 * 86_400_000, channel, body: "x" }),
      ]);
      expect(errors.map(({ message }) => message)).toEqual([
        expect.stringContaining("`delayMs` must be non-negative"),
        expect.stringContaining("`delayMs` must be a finite number"),
        expect.stringMatching(/years/),
      ]);
    });
  });

  line(
    "The row in _scheduled_functions has name (module.js:export), args as a one-element array, scheduledTime, state kind pending → inProgress → success | failed | canceled, completedTime",
    () => {
      test("success", async () => {
        const channel = newChannel();
        const before = Date.now();
        const id = await clients.shared("http").mutation(jobs.schedule, { delay: 300, channel, body: "x" });
        const pending = await jobWhen(id, "pending");
        expect(pending).toEqual({
          _id: id,
          _creationTime: expect.any(Number),
          name: "messages.js:send",
          args: [{ channel, body: "x" }],
          scheduledTime: expect.any(Number),
          state: { kind: "pending" },
        });
        expect(pending.scheduledTime - before).toBeGreaterThanOrEqual(300);
        const done = await jobWhen(id, "success");
        expect(done).toEqual({ ...pending, state: { kind: "success" }, completedTime: expect.any(Number) });
        expect(done.completedTime).toBeGreaterThanOrEqual(pending.scheduledTime);
        expect(await messagesWhen(channel, 1)).toEqual(["x"]);
      });

      test("failed, with the error's text, and with nothing written", async () => {
        const client = clients.shared("http");
        const plain = await client.mutation(jobs.scheduleFailing, { kind: "plain" });
        const failed = await jobWhen(plain, "failed");
        expect(failed).toMatchObject({
          name: "errors.js:innerMutation",
          args: [{ kind: "plain" }],
          completedTime: expect.any(Number),
        });
        expect(failed.state.error).toMatch(/^Uncaught Error: plain words\n/);
        const data = await client.mutation(jobs.scheduleFailing, { kind: "data", data: { code: "x" } });
        expect((await jobWhen(data, "failed")).state.error).toMatch(/^Uncaught ConvexError: \{"code":"x"\}/);
        expect(await client.query(api.messages.list, { channel: "inner" })).toEqual([]);
      });

      test("canceled, and it never runs", async () => {
        const client = clients.shared("http");
        const channel = newChannel();
        const id = await client.mutation(jobs.schedule, { delay: 200, channel, body: "canceled" });
        await client.mutation(jobs.cancel, { id });
        expect(await client.query(jobs.job, { id })).toMatchObject({
          state: { kind: "canceled" },
          completedTime: expect.any(Number),
        });
        const later = await client.mutation(jobs.schedule, { delay: 300, channel, body: "after it" });
        await jobWhen(later, "success");
        expect(await client.query(api.messages.list, { channel })).toEqual(["after it"]);
      });

      test("canceled by an action", async () => {
        const id = await clients.shared("http").action(jobs.cancelInAction, { channel: newChannel() });
        expect(await clients.shared("http").query(jobs.job, { id })).toMatchObject({
          state: { kind: "canceled" },
        });
      });

      test("to cancel what has run changes nothing", async () => {
        const client = clients.shared("http");
        const id = await client.mutation(jobs.schedule, { delay: 0, channel: newChannel(), body: "x" });
        const done = await jobWhen(id, "success");
        await client.mutation(jobs.cancel, { id });
        expect(await client.query(jobs.job, { id })).toEqual(done);
      });
    },
  );

  line('The job is visible and in state "inProgress" while it runs; a function may cancel itself', () => {
    test.each(["noteOwnState", "noteStateOfAction"])("%s", async (name) => {
      const { id, channel } = await own(name);
      expect((await messagesWhen(channel, 1))[0]).toBe("inProgress");
      await jobWhen(id, "success");
    });

    test("an action that cancels itself runs to its end and stays canceled", async () => {
      const { id, channel } = await own("cancelsItself");
      expect(await messagesWhen(channel, 1)).toEqual(["ran to its end"]);
      expect((await jobWhen(id, "canceled", "success")).state).toEqual({ kind: "canceled" });
    });
  });

  line("Identity is NOT passed to scheduled functions", () => {
    test.each([
      ["notesIdentity", 1],
      ["notesIdentityInAction", 2],
    ])("%s", async (name, count) => {
      const channel = newChannel();
      const client = clients.admin("websocket", { subject: "u", issuer: "https://i" });
      await client.mutation(jobs.scheduleOwn, { name, channel });
      expect(new Set(await messagesWhen(channel, count))).toEqual(new Set(["nobody"]));
    });
  });

  line("A scheduled action may fail and handle ConvexError of its mutation", () => {
    test("it handles", async () => {
      const { id, channel } = await own("handlesConvexError");
      expect(await messagesWhen(channel, 1)).toEqual([channel]);
      await jobWhen(id, "success");
    });

    test("it fails, and what its mutations wrote stays", async () => {
      const { id, channel } = await own("failsWithConvexError");
      const { state } = await jobWhen(id, "failed");
      expect(state.error).toMatch(/^Uncaught ConvexError: \{"code":"failed"\}/);
      expect(await messagesWhen(channel, 1)).toEqual(["before it failed"]);
    });
  });

  line("db.system reads system tables only, db reads user tables only, by table name and by id", () => {
    const refused: [string, "job" | "message" | "none"][] = [
      ["db.query of a system table", "none"],
      ["db.query of _storage", "none"],
      ["db.get of a system id", "job"],
      ["db.get of a system id by name", "job"],
      ["db.system.query of a user table", "none"],
      ["db.system.get of a user id", "message"],
      ["db.system.get of a user id by name", "message"],
    ];
    const ids = async () => {
      const client = clients.shared("http");
      const channel = newChannel();
      return {
        job: (await client.mutation(jobs.schedule, { delay: 60_000, channel, body: "x" })) as string,
        message: (await client.mutation(api.messages.send, { channel, body: "x" })) as string,
        none: undefined,
      };
    };
    test.each(refused)("%s is refused", async (kind, which) => {
      const id = (await ids())[which];
      const { message } = await failure(clients.shared("http").query(jobs.readsSystemByDb, { kind, id }));
      expect(message).toMatch(/system|user/i);
    });

    test("a system id by its table's name, and the ids of a table", async () => {
      const client = clients.shared("http");
      const { job, message } = await ids();
      const byName = { kind: "db.system.get of a system id by name", id: job };
      expect(await client.query(jobs.readsSystemByDb, byName)).toMatchObject({ _id: job });
      const normalize = (id: string) =>
        client.query(jobs.readsSystemByDb, { kind: "db.system.normalizeId", id });
      expect(await normalize(job)).toBe(job);
      expect(await normalize(message)).toBeNull();
    });
  });

  line("No writes to system tables; db.system has no writer methods", () => {
    test.each(["insert", "insert into _storage", "patch", "replace", "delete"])("%s", async (kind) => {
      const client = clients.shared("http");
      const id = await client.mutation(jobs.schedule, { delay: 60_000, channel: newChannel(), body: "x" });
      const before = await client.query(jobs.job, { id });
      const { message } = await failure(client.mutation(jobs.writesSystem, { kind, id }));
      expect(message).toMatch(/system|_scheduled_functions|_storage/i);
      expect(await client.query(jobs.job, { id })).toEqual(before);
    });

    test("writer methods", async () => {
      expect(await clients.shared("http").mutation(jobs.writersOfSystem, {})).toEqual(
        Array(4).fill("undefined"),
      );
    });
  });

  line("An id of a system table may be a foreign key (v.id) in a schema", () => {
    test("_scheduled_functions", async () => {
      const client = clients.shared("http");
      const job = await client.mutation(jobs.schedule, { delay: 60_000, channel: newChannel(), body: "x" });
      const id = await client.mutation(jobs.keepReceipt, { job });
      expect(await client.query(jobs.readReceipt, { id })).toMatchObject({
        _id: job,
        state: { kind: "pending" },
      });
      const { message } = await failure(client.mutation(jobs.keepReceipt, { job: id }));
      expect(message).toContain('does not match the table name in validator `v.id("_scheduled_functions")`');
    });
  });

  line("_storage can be listed even if unused", () => {
    test("it is empty", async () => {
      expect(await clients.shared("http").query(jobs.files, {})).toEqual([]);
    });
  });

  line("What scheduled functions write is pushed to subscribers", () => {
    test("jobs of one mutation run each once", async () => {
      const channel = newChannel();
      const followed = new Follower<string[]>(clients.socket(), api.messages.list, { channel });
      await followed.until((newest) => (newest as string[]).length === 0);
      await clients.shared("http").mutation(jobs.scheduleMany, { count: 50, channel });
      const bodies = (await followed.until((newest) => (newest as string[]).length === 50)) as string[];
      expect(new Set(bodies).size).toBe(50);
    });
  });

  line("Crons from the crons module: interval jobs run at start and then each period", () => {
    test("every second", async () => {
      const ticks = (await messagesWhen("ticks", 3)).slice(-3).map(Number) as [number, number, number];
      for (const gap of [ticks[1] - ticks[0], ticks[2] - ticks[1]]) {
        expect(gap).toBeGreaterThan(400);
        expect(gap % 1000 < 400 || gap % 1000 > 600).toBe(true);
      }
    });
  });

  line(
    "After SIGKILL and restart: acknowledged rows, ids, pending jobs are there; a job that fell due meanwhile runs exactly once",
    () => {
      test("all of it", async () => {
        const client = clients.http();
        const channel = newChannel();
        const message = await client.mutation(api.messages.send, { channel, body: "acknowledged" });
        const due = await client.mutation(jobs.schedule, { delay: 100, channel, body: "fell due" });
        const pending = await client.mutation(jobs.schedule, { delay: 60_000, channel, body: "later" });
        await clients.host.end("SIGKILL");
        await new Promise((resolve) => setTimeout(resolve, 150)); // the job falls due while no host runs
        await clients.host.start();
        await jobWhen(due, "success");
        expect(await client.query(api.messages.list, { channel })).toEqual(["acknowledged", "fell due"]);
        expect(await client.query(jobs.job, { id: pending })).toMatchObject({
          _id: pending,
          state: { kind: "pending" },
        });
        await client.mutation(api.messages.edit, { id: message, body: "the same id" });
        await clients.host.end("SIGKILL");
        await clients.host.start();
        expect(await client.query(api.messages.list, { channel })).toEqual(["the same id", "fell due"]);
      });
    },
  );
});

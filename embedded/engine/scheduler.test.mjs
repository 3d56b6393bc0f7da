import { describe, expect, test } from "vitest";
import { Scheduler, SchedulerError } from "./scheduler.mjs";

const NOW = 1_700_000_000_000;
const DAY_MS = 24 * 3600 * 1000;
const FIVE_YEARS_MS = 5 * 366 * DAY_MS;
const KINDS = { "m:work": "mutation", "dir/m:default": "mutation", "a:call": "action", "q:read": "query" };
const EVERY_10_S = { type: "interval", seconds: 10 };

/** A deployment in memory: its tables survive `restart`, and a mutation that fails leaves nothing in them. */
class Deployment {
  kinds = { ...KINDS };
  tables = { jobs: new Map(), crons: new Map() };
  ran = [];
  now = NOW;
  /** Of the next mutation that succeeds: it is undone after all, and to be run again. */
  conflict = false;
  /** What each mutation does, by path: returns, or throws to fail. */
  functions = { "m:work": () => undefined, "dir/m:default": () => undefined };
  #ids = 0;

  constructor() {
    this.restart();
  }

  restart() {
    this.scheduler = new Scheduler({
      storage: this.#storage(),
      kindOf: (path) => this.kinds[path] ?? null,
      hasModule: (module) => Object.keys(this.kinds).some((path) => path.startsWith(`${module}:`)),
      runMutation: (work, before, after) => this.#runMutation(work, before, after),
      now: () => this.now,
    });
    return this.scheduler;
  }

  #runMutation(work, before, after) {
    const saved = structuredClone(this.tables);
    this.ran.push(work);
    try {
      before();
      this.functions[work.path](work);
      after();
      if (!this.conflict) return { ok: true };
      this.conflict = false;
      this.tables = saved;
      return { ok: false, message: "conflict", retry: "conflict" };
    } catch (error) {
      this.tables = saved;
      return { ok: false, message: `Uncaught Error: ${error.message}` };
    }
  }

  #storage() {
    const insert = (table, prefix, fields) => {
      const id = `${prefix}${++this.#ids}`;
      this.tables[table].set(id, structuredClone(fields));
      return id;
    };
    const jobs = () => [...this.tables.jobs];
    const pending = () =>
      jobs()
        .filter(([, job]) => job.state.kind === "pending")
        .sort(([, a], [, b]) => a.scheduledTime - b.scheduledTime);
    const withId = (id, fields) => (fields === undefined ? null : { _id: id, ...structuredClone(fields) });
    return {
      insertJob: (fields) => insert("jobs", "job", fields),
      isJobId: (id) => id.startsWith("job"),
      getJob: (id) => withId(id, this.tables.jobs.get(id)),
      replaceJob: (id, fields) => this.tables.jobs.set(id, structuredClone(fields)),
      deleteJob: (id) => this.tables.jobs.delete(id),
      dueJobs: (now, limit) =>
        pending()
          .filter(([, job]) => job.scheduledTime <= now)
          .slice(0, limit)
          .map(([id]) => id),
      nextDue: () => pending()[0]?.[1].scheduledTime ?? null,
      jobsInProgress: (limit) =>
        jobs()
          .filter(([, job]) => job.state.kind === "inProgress")
          .slice(0, limit)
          .map(([id]) => id),
      jobsCompletedBefore: (before, limit) =>
        jobs()
          .filter(([, job]) => job.completedTime < before)
          .slice(0, limit)
          .map(([id]) => id),
      crons: () => [...this.tables.crons].map(([id, fields]) => withId(id, fields)),
      insertCron: (fields) => insert("crons", "cron", fields),
      replaceCron: (id, fields) => this.tables.crons.set(id, structuredClone(fields)),
      deleteCron: (id) => this.tables.crons.delete(id),
    };
  }

  job(id) {
    return this.tables.jobs.get(id);
  }

  state(id) {
    return this.job(id).state;
  }

  /** The only cron. */
  get cron() {
    return [...this.tables.crons.values()][0];
  }
}

function scheduled(path, at = NOW, more = {}) {
  const deployment = new Deployment();
  const id = deployment.scheduler.schedule({ path, args: [{ n: 1 }], at, ...more }, NOW);
  return { deployment, id };
}

function withCron(path, schedule = EVERY_10_S) {
  const deployment = new Deployment();
  deployment.scheduler.setCrons([{ name: "c", path, args: "[{}]", schedule }], NOW);
  return deployment;
}

describe("scheduling", () => {
  test("stores the job as users read it, and runs it no earlier than asked", () => {
    const { deployment, id } = scheduled("dir/m:default", NOW + 500);
    expect(deployment.job(id)).toEqual({
      name: "dir/m.js:default",
      args: [{ n: 1 }],
      scheduledTime: NOW + 500,
      state: { kind: "pending" },
    });
    expect(deployment.scheduler.nextWake()).toBe(NOW + 500);
    deployment.scheduler.runDue(NOW + 499, 10);
    expect(deployment.ran).toEqual([]);
    deployment.scheduler.runDue(NOW + 500, 10);
    expect(deployment.ran).toEqual([{ job: id, path: "dir/m:default", args: '[{"n":1}]' }]);
    expect(deployment.scheduler.nextWake()).toBeNull();
  });

  test("reaches five years into the future and the past, and no further", () => {
    const { scheduler } = new Deployment();
    const at = (ms) => () => scheduler.schedule({ path: "m:work", args: [{}], at: ms }, NOW);
    expect(at(NOW + FIVE_YEARS_MS)).not.toThrow();
    expect(at(NOW - FIVE_YEARS_MS)).not.toThrow();
    expect(at(NOW + FIVE_YEARS_MS + 1)).toThrow(
      "UnixTimestamp(1858112000.001s) is more than 5 years in the future",
    );
    expect(at(NOW - FIVE_YEARS_MS - 1)).toThrow(
      "UnixTimestamp(1541887999.999s) is more than 5 years in the past",
    );
    expect(at(NaN)).toThrow(SchedulerError);
    expect(at(1e300)).toThrow(" is more than 5 years in the future");
  });

  test("of a function that does not exist is refused", () => {
    expect(() => scheduled("none:work")).toThrow(
      new SchedulerError("Attempted to schedule function at nonexistent path: none.js"),
    );
    expect(() => scheduled("dir/m:none")).toThrow(
      new SchedulerError(
        "Attempted to schedule function, but no exported function none found in the file: dir/m.js. Did you forget to export it?",
      ),
    );
  });

  test("runs jobs by their time, at most `limit` at once", () => {
    const { scheduler, ran } = new Deployment();
    const ids = [30, 10, 20].map((late) =>
      scheduler.schedule({ path: "m:work", args: [{}], at: NOW - late }, NOW),
    );
    scheduler.runDue(NOW, 2);
    expect(ran.map(({ job }) => job)).toEqual([ids[0], ids[2]]);
    scheduler.runDue(NOW, 2);
    expect(ran.map(({ job }) => job)).toEqual([ids[0], ids[2], ids[1]]);
  });
});

describe("a scheduled mutation", () => {
  test("sees itself in progress, and has succeeded when its writes are there", () => {
    const { deployment, id } = scheduled("m:work");
    deployment.functions["m:work"] = () => expect(deployment.state(id)).toEqual({ kind: "inProgress" });
    expect(deployment.scheduler.runDue(NOW + 7, 10)).toEqual([]);
    expect(deployment.job(id)).toMatchObject({ completedTime: NOW + 7, state: { kind: "success" } });
    deployment.scheduler.runDue(NOW + 8, 10);
    expect(deployment.ran).toHaveLength(1);
  });

  test("that fails is undone with all it scheduled, and is not tried again", () => {
    const { deployment, id } = scheduled("m:work");
    deployment.functions["m:work"] = () => {
      deployment.scheduler.schedule({ path: "m:work", args: [{}], at: NOW, parent: id }, NOW);
      throw new Error("boom");
    };
    deployment.scheduler.runDue(NOW + 7, 10);
    expect(deployment.job(id)).toMatchObject({
      completedTime: NOW + 7,
      state: { kind: "failed", error: "Uncaught Error: boom" },
    });
    expect(deployment.tables.jobs.size).toBe(1);
    deployment.scheduler.runDue(NOW + 8, 10);
    expect(deployment.ran).toHaveLength(1);
  });

  test("that was pending over a restart runs once", () => {
    const { deployment, id } = scheduled("m:work", NOW + 5);
    const scheduler = deployment.restart();
    scheduler.recover(null, NOW + 1000);
    scheduler.runDue(NOW + 1000, 10);
    scheduler.runDue(NOW + 1000, 10);
    expect(deployment.ran).toHaveLength(1);
    expect(deployment.state(id)).toEqual({ kind: "success" });
  });

  test("that took the thread down has failed with that message", () => {
    const { deployment, id } = scheduled("m:work");
    const scheduler = deployment.restart();
    scheduler.recover({ job: id, message: "Function execution timed out (maximum duration: 1s)" }, NOW + 9);
    scheduler.runDue(NOW + 9, 10);
    expect(deployment.ran).toEqual([]);
    expect(deployment.job(id)).toMatchObject({
      completedTime: NOW + 9,
      state: { kind: "failed", error: "Function execution timed out (maximum duration: 1s)" },
    });
  });

  test("may cancel itself and keeps its writes; what it schedules from then on is canceled", () => {
    const { deployment, id } = scheduled("m:work");
    let child;
    deployment.functions["m:work"] = () => {
      deployment.scheduler.cancel(id, NOW + 2);
      child = deployment.scheduler.schedule(
        { path: "m:work", args: [{}], at: NOW + 50, parent: id },
        NOW + 2,
      );
    };
    deployment.scheduler.runDue(NOW + 2, 10);
    expect(deployment.state(id)).toEqual({ kind: "canceled" });
    expect(deployment.job(child)).toMatchObject({
      scheduledTime: NOW + 2,
      completedTime: NOW + 2,
      state: { kind: "canceled" },
    });
  });

  test("that another one of the same batch canceled does not run", () => {
    const deployment = new Deployment();
    const { scheduler } = deployment;
    const ids = [0, 1].map((i) => scheduler.schedule({ path: "m:work", args: [{}], at: NOW + i }, NOW));
    deployment.functions["m:work"] = () => scheduler.cancel(ids[1], NOW + 5);
    scheduler.runDue(NOW + 5, 10);
    expect(deployment.ran).toHaveLength(1);
    expect(deployment.state(ids[1])).toEqual({ kind: "canceled" });
  });
});

describe("a scheduled action", () => {
  test("is in progress before it is handed out, and ends once", () => {
    const { deployment, id } = scheduled("a:call");
    const { scheduler } = deployment;
    expect(scheduler.runDue(NOW + 1, 10)).toEqual([{ job: id, path: "a:call", args: '[{"n":1}]' }]);
    expect(deployment.state(id)).toEqual({ kind: "inProgress" });
    expect(scheduler.runDue(NOW + 2, 10)).toEqual([]);
    scheduler.finishAction(id, { ok: true }, NOW + 3);
    scheduler.finishAction(id, { ok: false, message: "late" }, NOW + 4);
    expect(deployment.job(id)).toMatchObject({ completedTime: NOW + 3, state: { kind: "success" } });
  });

  test("that fails keeps the message", () => {
    const { deployment, id } = scheduled("a:call");
    deployment.scheduler.runDue(NOW, 10);
    deployment.scheduler.finishAction(id, { ok: false, message: "Uncaught Error: no" }, NOW + 3);
    expect(deployment.state(id)).toEqual({ kind: "failed", error: "Uncaught Error: no" });
  });

  test("that was lost with the process has failed and never runs again, while one that lives on may end", () => {
    const deployment = new Deployment();
    const schedule = () => deployment.scheduler.schedule({ path: "a:call", args: [{}], at: NOW }, NOW);
    const ids = Array.from({ length: 250 }, schedule);
    for (const id of ids) deployment.job(id).state = { kind: "inProgress" };
    const scheduler = deployment.restart();
    const [alive, ...lost] = ids;
    scheduler.recover(null, NOW + 5, [alive]);
    for (const id of lost) {
      expect(deployment.state(id)).toEqual({
        kind: "failed",
        error: "Transient error while executing action",
      });
    }
    expect(scheduler.runDue(NOW + 6, 1000)).toEqual([]);
    scheduler.finishAction(alive, { ok: true }, NOW + 7);
    expect(deployment.state(alive)).toEqual({ kind: "success" });
  });

  test("runs with seven others at most, and the jobs behind them wait for an end, which a restart remembers", () => {
    const deployment = new Deployment();
    const schedule = (path) => deployment.scheduler.schedule({ path, args: [{}], at: NOW }, NOW);
    const ids = Array.from({ length: 9 }, () => schedule("a:call"));
    const mutation = schedule("m:work");
    expect(deployment.scheduler.runDue(NOW, 100).map(({ job }) => job)).toEqual(ids.slice(0, 8));
    expect(deployment.scheduler.nextWake()).toBeNull();
    expect(deployment.scheduler.runDue(NOW + 1, 100)).toEqual([]);
    deployment.restart().recover(null, NOW + 2, ids.slice(0, 8));
    expect(deployment.scheduler.runDue(NOW + 2, 100)).toEqual([]);
    deployment.scheduler.cancel(ids[0], NOW + 3); // its action goes on, and keeps its place
    expect(deployment.scheduler.runDue(NOW + 3, 100)).toEqual([]);
    deployment.scheduler.finishAction(ids[0], { ok: true }, NOW + 4);
    expect(deployment.scheduler.nextWake()).toBe(NOW);
    expect(deployment.scheduler.runDue(NOW + 4, 100).map(({ job }) => job)).toEqual([ids[8]]);
    expect(deployment.state(mutation)).toEqual({ kind: "pending" });
    deployment.scheduler.finishAction(ids[1], { ok: true }, NOW + 5);
    deployment.scheduler.runDue(NOW + 5, 100);
    expect(deployment.state(mutation)).toEqual({ kind: "success" });
  });

  test("that is canceled while it runs stays canceled when it ends", () => {
    const { deployment, id } = scheduled("a:call");
    deployment.scheduler.runDue(NOW, 10);
    deployment.scheduler.cancel(id, NOW + 1);
    deployment.scheduler.finishAction(id, { ok: true }, NOW + 2);
    expect(deployment.job(id)).toMatchObject({ completedTime: NOW + 1, state: { kind: "canceled" } });
  });
});

describe("a job whose function has changed since", () => {
  test.each([
    [
      undefined,
      "Could not find function for 'm:work'. Did you forget to run `npx convex dev` or `npx convex deploy`?",
    ],
    [
      "query",
      'Unsupported function type. "work" in module "m.js" is defined as a Query. Only Mutation and Action can be scheduled.',
    ],
  ])("to %s has failed", (kind, error) => {
    const { deployment, id } = scheduled("m:work");
    deployment.kinds["m:work"] = kind;
    expect(deployment.scheduler.runDue(NOW, 10)).toEqual([]);
    expect(deployment.state(id)).toEqual({ kind: "failed", error });
  });
});

describe("canceling", () => {
  test("a pending job keeps it from running", () => {
    const { deployment, id } = scheduled("m:work", NOW + 5);
    deployment.scheduler.cancel(id, NOW + 1);
    expect(deployment.job(id)).toMatchObject({ completedTime: NOW + 1, state: { kind: "canceled" } });
    expect(deployment.scheduler.nextWake()).toBeNull();
    deployment.scheduler.runDue(NOW + 10, 10);
    expect(deployment.ran).toEqual([]);
  });

  test("a job that has ended or is gone changes nothing, and what is no job's id is refused", () => {
    const { deployment, id } = scheduled("m:work");
    deployment.scheduler.runDue(NOW, 10);
    deployment.scheduler.cancel(id, NOW + 1);
    deployment.scheduler.cancel("job999", NOW + 1);
    expect(deployment.job(id)).toMatchObject({ completedTime: NOW, state: { kind: "success" } });
    expect(() => deployment.scheduler.cancel("task1", NOW)).toThrow(
      "Invalid scheduled function ID. The ID must be an ID on the '_scheduled_functions' table.",
    );
  });
});

describe("results", () => {
  test("are kept for 7 days and then deleted in pages", () => {
    const { scheduler, tables } = new Deployment();
    for (let i = 0; i < 150; i++) scheduler.schedule({ path: "m:work", args: [{}], at: NOW }, NOW);
    scheduler.runDue(NOW, 1000);
    scheduler.schedule({ path: "m:work", args: [{}], at: NOW }, NOW);
    expect(scheduler.prune(NOW + 7 * DAY_MS)).toBe(false);
    expect(tables.jobs.size).toBe(151);
    expect(scheduler.prune(NOW + 7 * DAY_MS + 1)).toBe(true);
    expect(tables.jobs.size).toBe(51);
    expect(scheduler.prune(NOW + 7 * DAY_MS + 1)).toBe(false);
    expect([...tables.jobs.values()].map((job) => job.state.kind)).toEqual(["pending"]);
  });
});

describe("a cron", () => {
  test("whose setting was undone with the rest of its functions is forgotten", () => {
    const deployment = withCron("m:work");
    const saved = structuredClone(deployment.tables);
    deployment.scheduler.setCrons([{ name: "d", path: "m:work", args: "[{}]", schedule: EVERY_10_S }], NOW);
    deployment.tables = saved;
    deployment.scheduler.runDue(NOW, 10);
    expect(deployment.ran.map(({ job }) => job)).toEqual(["cron1"]);
  });

  test("of a mutation runs at once and then at its beat, also when it fails", () => {
    const deployment = withCron("m:work");
    const { scheduler } = deployment;
    expect(scheduler.nextWake()).toBe(NOW);
    scheduler.runDue(NOW + 3, 10);
    expect(deployment.ran).toEqual([{ job: "cron1", path: "m:work", args: "[{}]", isCron: true }]);
    expect(scheduler.nextWake()).toBe(NOW + 10_000);
    deployment.functions["m:work"] = () => {
      throw new Error("boom");
    };
    scheduler.runDue(NOW + 10_000, 10);
    expect(deployment.ran).toHaveLength(2);
    expect(scheduler.nextWake()).toBe(NOW + 20_000);
    expect(deployment.tables.jobs.size).toBe(0);
  });

  test("of a mutation that ends at or after its next time skips that", () => {
    const deployment = withCron("m:work");
    deployment.functions["m:work"] = () => (deployment.now = NOW + 10_000);
    deployment.scheduler.runDue(NOW + 9_999, 10);
    expect(deployment.cron.nextRun).toBe(NOW + 20_000);
  });

  test("of a mutation that meets a conflict is still due", () => {
    const deployment = withCron("m:work");
    deployment.conflict = true;
    deployment.scheduler.runDue(NOW, 10);
    const again = deployment.scheduler.nextWake();
    expect(again).toBeLessThan(NOW + 10_000);
    deployment.scheduler.runDue(again, 10);
    expect(deployment.ran).toHaveLength(2);
    expect(deployment.cron.nextRun).toBe(NOW + 10_000);
  });

  test("of an action does not overlap itself, and skips what fell due meanwhile", () => {
    const { scheduler, cron } = withCron("a:call");
    expect(scheduler.runDue(NOW, 10)).toEqual([{ job: "cron1", path: "a:call", args: "[{}]", isCron: true }]);
    expect(scheduler.nextWake()).toBeNull();
    expect(scheduler.runDue(NOW + 25_000, 10)).toEqual([]);
    scheduler.finishAction("cron1", { ok: false, message: "x" }, NOW + 25_000);
    expect(scheduler.nextWake()).toBe(NOW + 30_000);
    scheduler.finishAction("cron1", { ok: true }, NOW + 26_000);
    expect(scheduler.nextWake()).toBe(NOW + 30_000);
    expect(cron.name).toBe("c");
  });

  test("that fell due several times while the host was down runs once", () => {
    const deployment = withCron("m:work");
    deployment.scheduler.runDue(NOW, 10);
    const scheduler = deployment.restart();
    const later = NOW + 95_000;
    scheduler.recover(null, later);
    scheduler.setCrons([{ name: "c", path: "m:work", args: "[{}]", schedule: EVERY_10_S }], later);
    scheduler.runDue(later, 10);
    scheduler.runDue(later, 10);
    expect(deployment.ran).toHaveLength(2);
    expect(scheduler.nextWake()).toBe(NOW + 100_000);
  });

  test("whose action was lost with the process waits for its next time, and one that lives on goes on", () => {
    const deployment = withCron("a:call");
    deployment.scheduler.runDue(NOW, 10);
    const survived = deployment.restart();
    survived.recover(null, NOW + 1000, ["cron1"]);
    expect(survived.nextWake()).toBeNull();
    const restarted = deployment.restart();
    restarted.recover(null, NOW + 2000);
    expect(restarted.nextWake()).toBe(NOW + 10_000);
  });

  test("that took the thread down is not run again at once", () => {
    const deployment = withCron("m:work");
    const scheduler = deployment.restart();
    scheduler.recover({ job: "cron1", message: "timed out" }, NOW + 1500);
    expect(scheduler.nextWake()).toBe(NOW + 10_000);
  });

  test("starts anew with a new schedule, and keeps its beat when only its function or arguments change", () => {
    const deployment = withCron("m:work");
    const { scheduler } = deployment;
    scheduler.runDue(NOW, 10);
    scheduler.setCrons([{ name: "c", path: "a:call", args: '[{"n":1}]', schedule: EVERY_10_S }], NOW + 5000);
    expect(deployment.cron).toMatchObject({ path: "a:call", args: '[{"n":1}]', nextRun: NOW + 10_000 });
    scheduler.setCrons(
      [{ name: "c", path: "m:work", args: "[{}]", schedule: { type: "interval", hours: 1 } }],
      NOW + 6000,
    );
    expect(scheduler.nextWake()).toBe(NOW + 6000);
  });

  test("that gets a new schedule while its action runs follows it from the next run on", () => {
    const { scheduler } = withCron("a:call");
    scheduler.runDue(NOW, 10);
    scheduler.setCrons(
      [{ name: "c", path: "a:call", args: "[{}]", schedule: { type: "interval", minutes: 1 } }],
      NOW + 1,
    );
    expect(scheduler.runDue(NOW + 2, 10)).toEqual([]);
    scheduler.finishAction("cron1", { ok: true }, NOW + 3);
    expect(scheduler.nextWake()).toBe(NOW + 60_000);
  });

  test("that is no longer declared is forgotten, also while its action runs", () => {
    const deployment = withCron("a:call");
    deployment.scheduler.runDue(NOW, 10);
    deployment.scheduler.setCrons([], NOW + 1);
    deployment.scheduler.finishAction("cron1", { ok: true }, NOW + 2);
    expect(deployment.tables.crons.size).toBe(0);
    expect(deployment.scheduler.nextWake()).toBeNull();
  });

  test("whose function is gone passes its time without a run", () => {
    const deployment = withCron("m:work");
    deployment.kinds["m:work"] = undefined;
    expect(deployment.scheduler.runDue(NOW, 10)).toEqual([]);
    expect(deployment.ran).toEqual([]);
    expect(deployment.scheduler.nextWake()).toBe(NOW + 10_000);
  });

  test("counts against the limit of functions of one batch", () => {
    const deployment = withCron("m:work");
    deployment.scheduler.schedule({ path: "m:work", args: [{}], at: NOW }, NOW);
    deployment.scheduler.runDue(NOW, 0);
    expect(deployment.ran).toHaveLength(0);
    deployment.scheduler.runDue(NOW, 1);
    expect(deployment.ran).toHaveLength(1);
    deployment.scheduler.runDue(NOW, 1);
    expect(deployment.ran).toHaveLength(2);
  });
});

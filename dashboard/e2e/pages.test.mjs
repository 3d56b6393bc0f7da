/** Every page and every action, with an operator's key, against a live host. */
import { beforeAll, describe, expect, test } from "vitest";
import { useStage } from "./stage.mjs";
import { until } from "./visit.mjs";

const stage = useStage();

beforeAll(async () => {
  await stage.worker({ worker: "brings-echo", queues: ["none"] }); // so that each test can be run by itself
});

const statusOf = async (task) => (await stage.query("tasks:get", { task })).status;
const row = (page, task) => page.locator(`tr[data-task="${task}"]`);

describe("tasks", () => {
  test("a task is submitted by the form, and its page follows it to its end", async () => {
    const worker = await stage.worker();
    await using visitor = await stage.open("/tasks");
    const { page } = visitor;
    await page.getByRole("button", { name: "Submit a task" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Agent").fill("echo");
    await dialog.getByLabel("Input, as JSON").fill("not json");
    await dialog.getByRole("button", { name: "Submit", exact: true }).click();
    await dialog.getByText("The input is not JSON").waitFor();
    await dialog.getByLabel("Input, as JSON").fill('{"say": "hello"}');
    await dialog.getByLabel("Agent").fill("nobody");
    await dialog.getByRole("button", { name: "Submit", exact: true }).click();
    await dialog.getByRole("alert").getByText("nobody").waitFor();
    await dialog.getByLabel("Agent").fill("echo");
    await dialog.getByRole("button", { name: "Submit", exact: true }).click();
    await page.getByRole("heading", { name: "Task of echo" }).waitFor();
    const [{ run }] = await worker.take();
    await page.locator(".heading .badge", { hasText: "running" }).waitFor();
    await page.getByRole("region", { name: "Input" }).getByText('"say": "hello"').first().waitFor();
    await worker.sync({
      progress: [{ run, progress: { done: 2, total: 5, message: "reading" }, state: null }],
      steps: [{ run, key: "look up", kind: "step", result: '{"found": 3}', signal: null }],
    });
    await page.getByText("reading").waitFor();
    await page.getByText("look up").waitFor();
    await page.getByText("Its result").click();
    await page.getByRole("region", { name: "Result of look up" }).getByText('"found": 3').waitFor();
    await worker.finish(run, { kind: "succeeded", output: '"all of it"' });
    await page.locator(".heading .badge", { hasText: "succeeded" }).waitFor();
    await page.getByText("all of it").waitFor();
    expect(await page.getByRole("button", { name: "Cancel" }).count()).toBe(0);
    await stage.mutate("dashboard:drain", { worker: worker.name });
  });

  test("cancel, pause, resume and retry show at once and hold", async () => {
    const task = await stage.submit({ queue: "nobody" });
    await using visitor = await stage.open(`/tasks/${task}`);
    const { page } = visitor;
    await page.getByRole("heading", { name: "Why it waits" }).waitFor();
    await page.getByRole("region", { name: "Why it waits" }).getByText("nobody").first().waitFor();
    for (const [verb, status] of [
      ["Pause", "paused"],
      ["Resume", "pending"],
      ["Cancel", "cancelled"],
      ["Retry", "pending"],
    ]) {
      await page.getByRole("button", { name: verb, exact: true }).click();
      await page.locator(".heading .badge", { hasText: status }).waitFor();
      await until(
        () => statusOf(task),
        (found) => found === status,
      );
    }
    await page.getByText("retry requested").waitFor(); // the history goes on by itself
  });

  test("a running task is cancelled through its worker", async () => {
    const worker = await stage.worker({ queues: ["running"] });
    const task = await stage.submit({ queue: "running" });
    const [{ run }] = await worker.take();
    await using visitor = await stage.open(`/tasks/${task}`);
    const { page } = visitor;
    await page.getByRole("button", { name: "Cancel", exact: true }).click();
    await page.getByRole("button", { name: "Cancelling…" }).waitFor();
    await until(
      async () => (await worker.sync()).controls,
      (controls) => controls.some(({ kind }) => kind === "cancel"),
    );
    await worker.finish(run, { kind: "cancelled" });
    await page.locator(".heading .badge", { hasText: "cancelled" }).waitFor();
  });

  test("what went wrong is told with its causes, attempt by attempt", async () => {
    const worker = await stage.worker({ queues: ["failing"] });
    const task = await stage.submit({ queue: "failing", retry: { initialMs: 0, maxAttempts: 2 } });
    const [first] = await worker.take();
    await worker.write(first.run, "the first try");
    await worker.fail(first.run, "overloaded", true, "The provider said 529");
    const [second] = await worker.take();
    await worker.fail(second.run, "refused", true, "The provider said no");
    await using visitor = await stage.open(`/tasks/${task}`);
    const { page } = visitor;
    const wrong = page.getByRole("region", { name: "What went wrong" });
    await wrong.getByText("The provider said no").first().waitFor();
    await wrong.getByText("The provider said 529").waitFor();
    const timeline = page.getByRole("region", { name: "Timeline" });
    await timeline.getByText("Attempt 2").waitFor();
    await timeline.getByText("What it wrote").click();
    await page.getByRole("region", { name: "What attempt 1 wrote" }).getByText("the first try").waitFor();
    await using overview = await stage.open("/");
    await overview.page.getByRole("link", { name: "refused" }).click();
    await overview.page.getByText("refused: The provider said no").waitFor();
    expect(overview.page.url()).toContain("#/tasks?status=failed&code=refused");
  });

  test("what a task asks people is shown with its arguments, and decided by an operator alone", async () => {
    const worker = await stage.worker({ queues: ["asking"] });
    const task = await stage.submit({ queue: "asking" });
    const [{ run }] = await worker.take();
    const ask = { tool: "pay", args: '{"amount":12}', why: "tool", about: null, timeoutMs: null };
    const until = { approvals: [{ step: "pay#1", ...ask }] };
    await worker.finish(run, { kind: "suspended", step: "pay#1", until });
    const looks = await stage.newKey("viewer", { label: "looks-on" });
    await using viewer = await stage.open(`/tasks/${task}`, { key: looks });
    await viewer.page.getByText("An operator decides.").waitFor();
    await using visitor = await stage.open(`/tasks/${task}`);
    const { page } = visitor;
    await page.locator(".heading .badge", { hasText: "waiting approval" }).waitFor();
    await page.getByRole("region", { name: "Arguments of pay" }).getByText('"amount": 12').waitFor();
    await page.getByLabel("Note").fill("as agreed");
    await page.getByRole("button", { name: "Approve" }).click();
    const asks = viewer.page.getByRole("region", { name: "What it asks people" });
    await asks.getByText("approved").waitFor();
    await asks.getByText("as agreed").waitFor();
    await worker.finish((await worker.take())[0].run);
    await page.locator(".heading .badge", { hasText: "succeeded" }).waitFor();
  });

  test("filters stand in the address, and a link with them shows the same", async () => {
    await stage.submitMany(3, { queue: "filtered" });
    await stage.submit({ queue: "filtered", delayMs: 3_600_000 });
    await using visitor = await stage.open("/tasks?queue=filtered");
    const { page } = visitor;
    await until(
      () => page.locator("tr[data-task]").count(),
      (found) => found === 4,
    );
    await page.getByLabel("Status").selectOption("delayed");
    await until(
      () => page.locator("tr[data-task]").count(),
      (found) => found === 1,
    );
    expect(page.url()).toContain("queue=filtered");
    expect(page.url()).toContain("status=delayed");
    await page.getByRole("button", { name: "Why does it wait?" }).click();
    await page.getByRole("dialog").getByRole("listitem").first().waitFor();
    await page.keyboard.press("Escape");
    await page.getByLabel("Queue").fill("no such queue");
    await page.getByText("No task is as the filter says.").waitFor();
    await page.reload();
    await page.getByText("No task is as the filter says.").waitFor();
    expect(await page.getByLabel("Queue").inputValue()).toBe("no such queue");
  });

  test("what is chosen, and all that a filter names, is cancelled and retried", async () => {
    const [one, two] = [await stage.submit({ queue: "bulk" }), await stage.submit({ queue: "bulk" })];
    await stage.submitMany(120, { queue: "bulk" });
    await using visitor = await stage.open("/tasks?queue=bulk");
    const { page } = visitor;
    for (const task of [one, two]) {
      const box = row(page, task).getByRole("checkbox");
      await until(
        async () => {
          if ((await box.count()) === 0) await page.mouse.wheel(0, 20_000);
          return box.count();
        },
        (found) => found === 1,
      );
      await box.check();
    }
    await page.getByRole("button", { name: "Cancel 2 chosen" }).click();
    for (const task of [one, two])
      await row(page, task).locator(".badge", { hasText: "cancelled" }).waitFor();
    await page.getByRole("button", { name: "Cancel all of these…" }).click();
    const dialog = page.getByRole("alertdialog");
    await dialog.getByText("That is 120 tasks now.").waitFor();
    await dialog.getByRole("button", { name: "Cancel them" }).click();
    await page.getByText("Cancelled: 120 tasks").waitFor();
    await page.getByLabel("Status").selectOption("cancelled");
    await page.getByRole("button", { name: "Retry all of these…" }).click();
    await dialog.getByRole("button", { name: "Retry them" }).click();
    await page.getByText("Retried: 122 tasks").waitFor();
    expect(await statusOf(one)).toBe("pending");
  });

  test("the list goes on by itself until there are no more tasks", async () => {
    await stage.submitMany(260, { queue: "long" });
    await using visitor = await stage.open("/tasks?queue=long");
    const { page } = visitor;
    const shown = () => page.locator("tr[data-task]").count();
    await until(
      async () => {
        await page.mouse.wheel(0, 20_000);
        return [
          await shown(),
          await page.locator(".more").evaluate((at) => at.textContent + at.getBoundingClientRect().top),
        ];
      },
      ([found]) => found >= 260,
    );
    expect(await shown()).toBe(260);
  });

  test("the list goes on though a busy page tells late, and of two moments at once, that its end is seen", async () => {
    await stage.submitMany(120, { queue: "late" });
    await using visitor = await stage.open("/tasks");
    const { page } = visitor;
    await page.addInitScript(() => {
      window.IntersectionObserver = class extends IntersectionObserver {
        constructor(tell) {
          const moments = [];
          const tellAll = () => {
            if (moments.length > 0 && moments.at(-1).isIntersecting) tell(moments.splice(0));
          };
          super((some) => {
            moments.push(...some);
            window.unseen = moments.some(({ isIntersecting }) => !isIntersecting);
            setTimeout(tellAll, 100);
          });
        }
      };
    });
    await visitor.go("/tasks?queue=late");
    await page.reload();
    const shown = () => page.locator("tr[data-task]").count();
    for (const count of [50, 100]) {
      await until(shown, (found) => found === count);
      await page.waitForFunction(() => window.unseen);
      await page.evaluate(() => {
        window.unseen = false;
        window.scrollTo(0, document.body.scrollHeight); // once: nobody scrolls again for a list that stands still
      });
    }
    await until(shown, (found) => found === 120);
  });
});

describe("the other pages", () => {
  test("the overview tells of queues, failures and workers as they change", async () => {
    await using visitor = await stage.open("/");
    const { page } = visitor;
    await page.getByText("Tasks that ended, each minute").waitFor();
    await stage.submitMany(2, { queue: "deep" });
    await page.locator('tr[data-queue="deep"]').getByText("2", { exact: true }).waitFor();
    await stage.submit({ queue: "deep" });
    await page.locator('tr[data-queue="deep"]').getByText("3", { exact: true }).waitFor();
    const worker = await stage.worker({ worker: "clocked", queues: ["clocked"] });
    const shown = page.locator('tr[data-worker="clocked"]');
    await shown.getByText("idle").waitFor();
    await stage.submit({ queue: "clocked" });
    const [{ run }] = await worker.take();
    worker.clocks = { inboxAgeMs: 250, silent: [{ run, ms: 9_000, on: "model", name: "m", attempt: 1 }] };
    await worker.sync();
    await page.reload(); // clocks are asked for every 10 s: a page that opens has them at once
    await shown.getByText("at work").waitFor();
    await shown.getByText("250 ms ago").waitFor();
    await shown.getByText("1", { exact: true }).waitFor();
    await worker.finish(run);
  });

  test("an open overview costs no call for what a worker says of itself, however often", async () => {
    await using visitor = await stage.open("/");
    await visitor.page.locator("tr[data-worker]").first().waitFor();
    const worker = await stage.worker({ worker: "talkative", queues: ["talkative"] });
    await visitor.page.locator('tr[data-worker="talkative"]').waitFor();
    const before = await stage.calls();
    const began = Date.now();
    for (let i = 0; i < 40; i++) await worker.sync({ clocks: { inboxAgeMs: i, silent: [] } });
    await stage.submit({ queue: "afterwards" }); // what the page is told of this, it is told after all of the above
    await visitor.page.locator('tr[data-queue="afterwards"]').waitFor();
    const after = await stage.calls();
    expect(after["dashboard:workers"]).toBe(before["dashboard:workers"]);
    const asked = after["dashboard:beats"] - before["dashboard:beats"];
    expect(asked).toBeLessThanOrEqual(2 + (Date.now() - began) / 10_000);
  });

  test("agents: the registry, and one of them", async () => {
    await stage.mutate("agents:sync", {
      agents: [
        {
          ...{ name: "writer", description: "writes", retry: { maxAttempts: 4 } },
          llm: { model: "scripted-writer", prompt: "You write.", temperature: null, maxOutputTokens: null },
        },
      ],
    });
    await using visitor = await stage.open("/agents");
    const { page } = visitor;
    await page.locator('tr[data-agent="writer"]').getByText("a model").waitFor();
    await page.getByRole("link", { name: "writer" }).click();
    await page.getByRole("region", { name: "Prompt" }).getByText("You write.").first().waitFor();
    await page.getByRole("button", { name: "Submit a task" }).click();
    expect(await page.getByRole("dialog").getByLabel("Agent").inputValue()).toBe("writer");
    await page.keyboard.press("Escape");
    await visitor.go("/agents/nobody");
    await page.getByText("No agent of this name").waitFor();
  });

  test("schedules: pause, resume, run now, what comes next", async () => {
    await stage.mutate("schedules:set", {
      schedule: {
        name: "nightly",
        cron: "0 3 * * *",
        template: { agent: "echo", input: "1", queue: "scheduled" },
      },
    });
    const isEnabled = async () => (await stage.query("schedules:get", { name: "nightly" })).enabled;
    await using visitor = await stage.open("/schedules");
    const { page } = visitor;
    const shown = page.locator('tr[data-schedule="nightly"]');
    await shown.getByText(/^in /).waitFor();
    await page.getByRole("button", { name: "Pause: nightly" }).click();
    await shown.getByText("paused").waitFor();
    await until(isEnabled, (enabled) => !enabled);
    await page.getByRole("button", { name: "Resume: nightly" }).click();
    await shown.getByText(/^in /).waitFor();
    await until(isEnabled, (enabled) => enabled);
    await page.getByRole("button", { name: "Run now: nightly" }).click();
    await page.getByText("nightly runs now").waitFor();
    await page.getByRole("link", { name: "nightly" }).click();
    await until(
      () => page.getByRole("region", { name: "The next runs" }).getByRole("listitem").count(),
      (n) => n === 10,
    );
    await visitor.go("/schedules/none");
    await page.getByText("No schedule of this name").waitFor();
  });

  test("workers: one is asked to leave", async () => {
    const worker = await stage.worker({ worker: "leaving" });
    await using visitor = await stage.open("/workers");
    const { page } = visitor;
    const shown = page.locator('tr[data-worker="leaving"]');
    await shown.getByRole("button", { name: "Drain…" }).click();
    await page.getByRole("alertdialog").getByRole("button", { name: "Drain it" }).click();
    await shown.getByText("draining").waitFor();
    const { controls } = await worker.sync();
    expect(controls).toMatchObject([{ kind: "drain" }]);
    await page.getByRole("link", { name: "leaving" }).click();
    await page.getByRole("heading", { name: "leaving" }).waitFor();
    await visitor.go("/workers/nobody");
    await page.getByText("No worker of this name").waitFor();
  });

  test("live: what runs shows side by side, and goes when it ends", async () => {
    const worker = await stage.worker({ queues: ["panes"] });
    await stage.submitMany(3, { queue: "panes" });
    const runs = await worker.take(3);
    await using visitor = await stage.open("/live");
    const { page } = visitor;
    const panes = page.locator(".pane");
    await until(
      () => panes.count(),
      (found) => found === 3,
    );
    await worker.sync({ chunks: runs.map(({ run }, at) => worker.chunk(run, `words of ${at}`)) });
    for (const at of [0, 1, 2]) await panes.getByText(`words of ${at}`).waitFor();
    for (const { run } of runs) await worker.finish(run);
    await page.getByText("Nothing runs now.").waitFor();
  });
});

/** What goes wrong around a page: it says what to do, and is never blank. */
import AxeBuilder from "axe-core";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { HostProcess } from "../../tests/host_process.mjs";
import { useStage } from "./stage.mjs";
import { NARROW, until, visit, WIDE } from "./visit.mjs";

const DIST = fileURLToPath(new URL("../dist", import.meta.url));
const SHOTS = process.env.SCREENSHOTS; // a folder to which they are written

const stage = useStage();
let worker;

beforeAll(async () => {
  worker = await stage.worker();
});

async function signIn(page, key) {
  await page.getByLabel("Key").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
}

describe("signing in", () => {
  test("a key lets in, survives a reload, and is gone after signing out", async () => {
    await using visitor = await visit(stage.browser, stage.url, { path: "/workers" });
    const { page } = visitor;
    await page.getByText(`Deployment: ${stage.url}`).waitFor(); // served by the host: nothing to ask
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("Give a key.").waitFor();
    await signIn(page, stage.key.operator);
    await page.getByRole("heading", { name: "Workers" }).waitFor(); // where the link led
    await page.reload();
    await page.getByRole("heading", { name: "Workers" }).waitFor();
    expect(await page.evaluate(() => [localStorage.length, document.cookie])).toEqual([1, ""]); // the theme
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Key").waitFor();
    expect(await page.evaluate(() => sessionStorage.getItem("signalbox.session"))).toBeNull();
  });

  test("a wrong key, and one without the role, are told what to do", async () => {
    await using visitor = await visit(stage.browser, stage.url);
    const { page } = visitor;
    await signIn(page, "sbv_wrong");
    await page
      .getByRole("alert")
      .getByText("This key is not known. Make one: signalbox keys create")
      .waitFor();
    await signIn(page, stage.key.worker);
    await page.getByRole("alert").getByText("has the role worker").waitFor();
    await page.getByRole("alert").getByText("--role viewer").waitFor();
  });

  test("a link to a task leads there once the key is right, also when the task is gone", async () => {
    await using visitor = await visit(stage.browser, stage.url, {
      path: "/tasks/jh7000000000000000000000000000000",
    });
    const { page } = visitor;
    await signIn(page, `${stage.key.operator}x`);
    await page.getByRole("alert").getByText("This key is not known").waitFor();
    await signIn(page, stage.key.operator);
    await page.getByRole("heading", { name: "This task is gone" }).waitFor();
    await page.getByRole("link", { name: "Go to the tasks" }).waitFor();
  });

  test("a deployment that answers and has no Signalbox is told from one that does not answer", async () => {
    const functions = await mkdtemp(path.join(tmpdir(), "functions-"));
    await writeFile(path.join(functions, "other.js"), "export {};\n");
    try {
      await using other = await new HostProcess({ functions, flags: ["--no-watch"] }).start();
      await using visitor = await visit(stage.browser, other.url);
      await signIn(visitor.page, stage.key.operator);
      await visitor.page.getByRole("alert").getByText("Signalbox is not on it: serve or deploy").waitFor();
    } finally {
      await rm(functions, { recursive: true });
    }
  });

  test("a key that is revoked under an open page ends it with a sentence", async () => {
    const key = await stage.newKey("viewer", { label: "short-lived" });
    await using visitor = await stage.open("/tasks", { key });
    const { page } = visitor;
    await page.getByRole("heading", { name: "Tasks" }).waitFor();
    await stage.revokeKey("short-lived");
    await page
      .getByRole("alert")
      .getByText('The key "short-lived" was revoked. Sign in with another key.')
      .waitFor();
    await signIn(page, stage.key.operator);
    await page.getByRole("heading", { name: "Tasks" }).waitFor();
  });

  test("without a backend it says so, goes on trying, and comes in when there is one", async () => {
    await stage.host.end("SIGTERM");
    // The same files on a server that knows nothing of Convex; the page asks for the address.
    const files = createServer(async (request, response) => {
      const name = request.url === "/sub/" ? "index.html" : (request.url ?? "").replace(/^\/sub\//, "");
      const body = await readFile(path.join(DIST, path.normalize(name))).catch(() => null);
      const type = { ".js": "text/javascript", ".css": "text/css", ".html": "text/html" }[path.extname(name)];
      response
        .writeHead(body === null ? 404 : 200, { "content-type": type ?? "text/plain" })
        .end(body ?? "none");
    });
    await new Promise((resolve) => files.listen(0, "127.0.0.1", resolve));
    try {
      await using visitor = await visit(stage.browser, `http://127.0.0.1:${files.address().port}/sub`);
      const { page } = visitor;
      await page.getByLabel("Deployment").fill("nonsense");
      await signIn(page, stage.key.operator);
      await page.getByRole("alert").getByText("Give an address as").waitFor();
      await page.getByLabel("Deployment").fill(stage.url);
      await signIn(page, stage.key.operator);
      await page.getByText(`Nothing answers at ${stage.url}.`).waitFor();
      await stage.host.start();
      await page.getByRole("heading", { name: "Overview" }).waitFor({ timeout: 40_000 });
    } finally {
      if (!stage.host.isRunning) await stage.host.start(); // for the other tests
      files.close();
      files.closeAllConnections();
    }
  });
});

describe("on a page", () => {
  test("a task that is gone, and an address that is none, lead on", async () => {
    await using visitor = await stage.open("/tasks/jh7000000000000000000000000000000");
    const { page } = visitor;
    await page.getByRole("heading", { name: "This task is gone" }).waitFor();
    await page.getByRole("link", { name: "Go to the tasks" }).click();
    await page.getByRole("heading", { name: "Tasks", exact: true }).waitFor();
    await visitor.go("/tasks/%3Cscript%3E");
    await page.getByRole("heading", { name: "This task is gone" }).waitFor();
    await visitor.go("/nowhere");
    await page.getByRole("link", { name: "Go to the overview" }).click();
    await page.getByRole("heading", { name: "Overview" }).waitFor();
  });

  test("a click that is refused shows at once what it would have done, and takes it back", async () => {
    const key = await stage.newKey("submit", { label: "sees it" });
    const bound = await stage.newKey("submit", { queues: ["mine"], label: "bound" });
    const task = await stage.submit({ queue: "theirs" });
    await using visitor = await stage.open(`/tasks/${task}`, { key });
    const { page } = visitor;
    // A key that may not act on a task does not see it either: the page's own sees it, and what it does arrives with the other.
    await page.routeWebSocket(/./, (socket) => {
      const host = socket.connectToServer();
      socket.onMessage((text) =>
        host.send(JSON.parse(text).type === "Mutation" ? text.replace(key, bound) : text),
      );
    });
    await page.reload();
    const badge = page.locator(".heading .badge");
    await badge.getByText("pending").waitFor();
    await page.evaluate(() => {
      const badge = document.querySelector(".heading .badge");
      window.shown = [badge.textContent];
      new MutationObserver(() => window.shown.push(badge.textContent)).observe(badge, {
        ...{ subtree: true, characterData: true, childList: true },
      });
    });
    await page.getByRole("button", { name: "Cancel", exact: true }).click();
    await page.getByText("This key serves mine and not the queue theirs.").first().waitFor();
    await badge.getByText("pending").waitFor();
    expect(await page.evaluate(() => window.shown)).toEqual(["pending", "cancelled", "pending"]);
  });

  test("a viewer is shown everything and offered nothing", async () => {
    const task = await stage.submit();
    const [{ run }] = await worker.take();
    await using visitor = await stage.open(`/tasks/${task}`, {
      key: await stage.newKey("viewer", { label: "looks" }),
    });
    const { page } = visitor;
    await worker.write(run, "what it writes");
    await page.getByText("what it writes", { exact: true }).waitFor();
    for (const at of [`/tasks/${task}`, "/tasks", "/schedules", "/workers", "/agents/echo"]) {
      await visitor.go(at);
      await page.locator("h1").waitFor();
      expect(await page.getByRole("button", { name: /cancel|retry|pause|drain|submit/i }).count()).toBe(0);
    }
    await worker.finish(run);
  });

  test("everything can be done with the keyboard alone", async () => {
    const task = await stage.submit({ queue: "typed" });
    await using visitor = await visit(stage.browser, stage.url, { path: "/tasks?queue=typed" });
    const { page } = visitor;
    const focused = () =>
      page.evaluate(() => {
        const at = document.activeElement;
        return at?.getAttribute("aria-label") ?? at?.textContent?.trim() ?? "";
      });
    const tabTo = async (name, most = 40) => {
      for (let presses = 0; presses < most; presses++) {
        if ((await focused()) === name) return;
        await page.keyboard.press("Tab");
      }
      throw new Error(`${name} is not reached; at ${await focused()}`);
    };
    await page.getByLabel("Key").waitFor();
    await page.keyboard.type(stage.key.operator); // the field has the focus
    await page.keyboard.press("Enter");
    await page.locator(`tr[data-task="${task}"]`).waitFor();
    await page.keyboard.press("Tab");
    expect(await focused()).toBe("Skip to the page");
    await page.keyboard.press("Enter");
    expect(await page.evaluate(() => document.activeElement?.tagName)).toBe("MAIN");
    await tabTo("Cancel all of these…");
    await page.keyboard.press("Enter");
    await page.getByRole("alertdialog").waitFor();
    await page.keyboard.press("Escape");
    await until(focused, (name) => name === "Cancel all of these…"); // where it came from
    await tabTo(task.slice(0, 12));
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Task of echo" }).waitFor();
    await tabTo("Cancel");
    await page.keyboard.press("Space");
    await page.locator(".heading .badge", { hasText: "cancelled" }).waitFor();
    await tabTo("Retry");
    await page.keyboard.press("Enter");
    await page.locator(".heading .badge", { hasText: "pending" }).waitFor();
  });
});

describe("for everybody", () => {
  /** What axe finds that is serious or worse. */
  async function findings(page) {
    await page.evaluate(AxeBuilder.source);
    const { violations } = await page.evaluate(() =>
      window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }),
    );
    return violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 200)).join(" | ")}`);
  }

  test.each([
    ["light", "wide"],
    ["dark", "wide"],
    ["light", "narrow"],
    ["dark", "narrow"],
  ])("%s and %s, no page has a serious finding or is wider than its window", async (colorScheme, width) => {
    const task = await stage.submit({ retry: { initialMs: 0 } });
    const [first] = await worker.take();
    await worker.write(first.run, "The first attempt");
    await worker.fail(first.run, "overloaded", true, "The provider said 529: come back later, it is busy");
    const [{ run }] = await worker.take();
    const error = { code: "overloaded", message: "The provider said 529: come back later, it is busy" };
    const tool = { run, kind: "tool", argsHash: "a".repeat(64), signal: null };
    const call = { run, call: 1, provider: "p", startedMs: 0, ms: 9, estimated: false };
    const nothing = { usage: null, costMicros: null };
    await worker.sync({
      chunks: [
        worker.chunk(run, "I think about it. ", { kind: "reasoning" }),
        worker.chunk(run, "What is a lease? A promise for a time.\n\nIt ends unless it is renewed."),
      ],
      steps: [
        { run, key: "search#1", kind: "step", result: '{"hits":["a","b"]}', signal: null },
        {
          ...tool,
          ...{ key: "turn#1/0:look_up", tool: "look_up", effect: "pure", state: "done", result: '"b"' },
        },
        { ...tool, key: "turn#1/1:pay", tool: "pay", effect: "unsafe", state: "in_doubt", result: null },
      ],
      calls: [
        { ...call, ...nothing, attempt: 1, model: "a-provider/a-model-20250929", state: "superseded", error },
        { ...call, ...nothing, attempt: 2, model: "p/m", state: "succeeded", error: null, costMicros: 5_120 },
      ],
      progress: [{ run, progress: { done: 2, total: 5, message: "reading sources" }, state: null }],
      clocks: { inboxAgeMs: 120, silent: [] },
    });
    await stage.submit({ queue: "elsewhere" });
    const asking = await stage.submit();
    const [{ run: asks }] = await worker.take();
    const ask = { tool: "pay", args: '{"amount":12,"to":"somebody"}', why: "in_doubt", timeoutMs: null };
    const step = "pay#1.in_doubt";
    await worker.finish(asks, {
      kind: "suspended",
      ...{ step, until: { approvals: [{ step, about: null, ...ask }] } },
    });
    const { task: fork } = await stage.mutate("tasks:fork", {
      task: asking,
      change: { prompt: "Be short." },
    });
    const schedule = { name: "nightly", cron: "0 3 * * *", template: { agent: "echo", input: "1" } };
    await stage.mutate("schedules:set", { schedule });
    await using visitor = await stage.open("/", { colorScheme, viewport: width === "wide" ? WIDE : NARROW });
    const { page } = visitor;
    const look = async (name) => {
      if ((width === "wide") === (colorScheme === "light")) expect(await findings(page), name).toEqual([]);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      expect(wide, `${name} is too wide`).toBeLessThanOrEqual(0);
      if (SHOTS === undefined) return;
      await mkdir(SHOTS, { recursive: true });
      await page.screenshot({
        path: path.join(SHOTS, `${name}-${width}-${colorScheme}.png`),
        fullPage: true,
      });
    };
    for (const [name, at, sign] of [
      ["overview", "/", ".chart canvas"],
      ["live", "/live", ".pane .stream"],
      ["tasks", "/tasks", `tr[data-task="${task}"]`],
      ["task", `/tasks/${task}`, '[data-call="1.2"]'],
      ["in-doubt", `/tasks/${asking}`, "textarea"],
      ["compare", `/tasks/${asking}/compare/${fork}`, "td.half"],
      ["agents", "/agents", 'tr[data-agent="echo"]'],
      ["agent", "/agents/echo", ".chart canvas"],
      ["schedules", "/schedules", 'tr[data-schedule="nightly"]'],
      ["schedule", "/schedules/nightly", ".code"],
      ["workers", "/workers", "tr[data-worker]"],
      ["gone", "/tasks/gone", "h1"],
    ]) {
      await visitor.go(at);
      await page.locator(sign).first().waitFor();
      await look(name);
    }
    await visitor.go("/tasks");
    await page.getByRole("button", { name: "Submit a task" }).click();
    await page.getByRole("dialog").waitFor();
    await look("submit");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Key").waitFor();
    await look("sign-in");
    await worker.finish(run);
  });
});

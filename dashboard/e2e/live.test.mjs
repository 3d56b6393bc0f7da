/**
 * The main path with a real `signalbox worker` process: from the form to the last token, through cancel, approval, fallback and
 * drain. One part is SIMULATED: the model is the scripted model server, over real HTTP, with real server-sent events.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startModel, startWorker } from "./processes.mjs";
import { useStage } from "./stage.mjs";
import { until } from "./visit.mjs";

const EXAMPLE = fileURLToPath(new URL("../example", import.meta.url));
const AGENTS = [
  ["writer", { models: ["scripted-writer"], prompt: "You write." }],
  ["payer", { models: ["scripted-agent"], prompt: "You pay.", tools: ["pay"] }],
  ["wirer", { models: ["scripted-agent"], prompt: "You wire.", tools: ["wire"] }],
  ["careful", { models: ["scripted-truncate", "scripted-instant"], prompt: "You write in any case." }],
];

const stage = useStage();
let model;
let worker;

beforeAll(async () => {
  model = await startModel();
  expect(model.server).toBe("scripted-model-server");
  await stage.mutate("agents:sync", {
    agents: AGENTS.map(([name, llm]) => ({
      ...{ name, description: `${name}, by a simulated model` },
      llm: { model: null, temperature: null, maxOutputTokens: null, ...llm },
    })),
  });
  worker = start();
});
afterAll(async () => {
  for (const each of [worker, model]) await each?.[Symbol.asyncDispose]();
});

const start = () =>
  startWorker(stage, model, { name: "live-1", queues: ["default"], modules: ["tests.paying_tools"] });
const badge = (page, status) => page.locator(".heading .badge", { hasText: status }).waitFor();
const textOf = (page) =>
  page.getByRole("region", { name: "What the run writes" }).evaluate((at) => at.textContent);
const longer = (page, than) =>
  until(
    () => textOf(page).catch(() => ""),
    (text) => text.length > than,
  );

/** What the model's last answer was, as the task's output has it. */
const outputOf = async (task) => JSON.parse((await stage.query("tasks:get", { task })).output).text;

/** Submit by the form, which leads to the task's page. @returns {Promise<string>} the task */
async function submitByForm(page, agent, input) {
  await page.getByRole("button", { name: "Submit a task" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Agent").fill(agent);
  await dialog.getByLabel("Input, as JSON").fill(JSON.stringify(input));
  await dialog.getByRole("button", { name: "Submit", exact: true }).click();
  await page.getByRole("heading", { name: `Task of ${agent}` }).waitFor();
  return page.url().split("/tasks/")[1];
}

describe("with a worker process and a simulated model", () => {
  test("a task goes from the form to its last token, whole after a reload in mid-stream", async () => {
    await using visitor = await stage.open("/tasks");
    const { page } = visitor;
    const task = await submitByForm(page, "writer", "Count. [[script: chunks n=120 bytes=8 every=25]]");
    const before = await longer(page, 40);
    model.child.kill("SIGSTOP"); // however long the reload takes, it is in mid-stream
    await badge(page, "running");
    await page.reload();
    await badge(page, "running");
    model.child.kill("SIGCONT");
    const after = await longer(page, before.length);
    expect(after.startsWith(before)).toBe(true);
    await badge(page, "succeeded");
    expect(await textOf(page)).toBe(await outputOf(task));
    expect(await outputOf(task)).toHaveLength(120 * 8);
    const timeline = page.getByRole("region", { name: "Timeline" });
    await timeline.getByRole("link", { name: "live-1" }).waitFor();
    await timeline.locator('[data-call="1.1"]').getByText("scripted-writer").waitFor();
  });

  test("cancel ends it in the worker, and the worker leaves the model", async () => {
    const task = await stage.submit({
      agent: "writer",
      input: JSON.stringify("On and on. [[script: chunks n=4000 every=25 bytes=6]]"),
    });
    await using visitor = await stage.open(`/tasks/${task}`);
    const { page } = visitor;
    await longer(page, 20);
    await page.getByRole("button", { name: "Cancel", exact: true }).click();
    await badge(page, "cancelled");
    await until(
      async () => (await (await fetch(`${model.url}/requests`)).json()).requests.at(-1),
      (request) => request.aborted === true,
    );
  });

  test("a fallback in mid-stream is seen as one: the attempt that is superseded, and the one that holds", async () => {
    await using visitor = await stage.open(
      `/tasks/${await stage.submit({ agent: "careful", input: '"Leases"' })}`,
    );
    const { page } = visitor;
    await badge(page, "succeeded");
    const timeline = page.getByRole("region", { name: "Timeline" });
    const first = timeline.locator('[data-call="1.1"]');
    await first.getByText("scripted-truncate").waitFor();
    await first.getByText("superseded").waitFor();
    const last = timeline.locator("[data-call]", { hasText: "scripted-instant" });
    await last.getByText("succeeded").waitFor();
  });

  test("a call of a tool waits for a person, who approves it in the page, and is made", async () => {
    const input = JSON.stringify("Pay. [[script: agent turns=2 calls=1]]");
    await using visitor = await stage.open(`/tasks/${await stage.submit({ agent: "payer", input })}`);
    const { page } = visitor;
    await badge(page, "waiting approval");
    await page.getByRole("region", { name: "Arguments of pay" }).getByText('"amount": 1').waitFor();
    await page.getByRole("button", { name: "Approve" }).click();
    await badge(page, "succeeded");
    const paid = page.locator('[data-step="turn#1/0:pay"]');
    await paid.getByText("unsafe").waitFor();
    await paid.getByText("done", { exact: true }).waitFor();
    await paid.getByText("Its result").click();
    await page.getByText("paid 1, simulated").waitFor();
  });

  test("the example of the hooks, built, shows the text of a task as it is written", async () => {
    const folder = await mkdtemp(path.join(tmpdir(), "example-"));
    const types = { ".js": "text/javascript", ".html": "text/html" };
    const files = createServer(async (request, response) => {
      const { pathname } = new URL(request.url ?? "", "http://example");
      const name = pathname === "/" ? "index.html" : pathname.slice(1);
      const body = await readFile(path.join(folder, path.normalize(name))).catch(() => null);
      const type = types[path.extname(name)] ?? "text/plain";
      response.writeHead(body === null ? 404 : 200, { "content-type": type }).end(body ?? "none");
    });
    try {
      await build({
        ...{ root: EXAMPLE, configFile: false, logLevel: "error" },
        define: { "import.meta.env.VITE_CONVEX_URL": JSON.stringify(stage.url) },
        build: { outDir: folder, emptyOutDir: true },
      });
      await new Promise((resolve) => files.listen(0, "127.0.0.1", resolve));
      model.child.kill("SIGSTOP"); // the page is there before the first token
      const input = JSON.stringify("Explain. [[script: chunks n=60 bytes=8 every=25]]");
      const task = await stage.submit({ agent: "writer", input });
      const context = await stage.browser.newContext();
      const page = await context.newPage();
      page.setDefaultTimeout(20_000);
      const show = (id, key) =>
        page.goto(`http://127.0.0.1:${files.address().port}/?${new URLSearchParams({ task: id, key })}`);
      await show(task, await stage.newKey("viewer", { label: "app" }));
      await page.getByRole("heading", { name: "writer: running" }).waitFor();
      model.child.kill("SIGCONT");
      const written = () => page.locator("article p").textContent();
      const some = await until(written, (text) => text.length > 0);
      await page.getByRole("heading", { name: "writer: succeeded" }).waitFor();
      expect(await written()).toBe(await outputOf(task));
      expect((await outputOf(task)).startsWith(some)).toBe(true);
      await show("gone", stage.key.operator);
      await page.getByText("There is no such task.").waitFor();
      await show(task, "sbv_wrong");
      await page.getByRole("alert").getByText("This key is not known").waitFor();
      await context.close();
    } finally {
      files.close();
      files.closeAllConnections();
      await rm(folder, { recursive: true });
    }
  });

  test("of a call that its worker died in, a person says that it happened, and what came of it", async () => {
    const input = JSON.stringify("Wire. [[script: agent turns=2 calls=1]]");
    const task = await stage.submit({ agent: "wirer", input });
    await using visitor = await stage.open(`/tasks/${task}`);
    const { page } = visitor;
    const wired = page.locator('[data-step="turn#1/0:wire"]');
    await wired.getByText("intended", { exact: true }).waitFor();
    await worker[Symbol.asyncDispose](); // it is killed
    worker = start();
    await badge(page, "waiting approval");
    await wired.getByText("in doubt", { exact: true }).waitFor();
    await page.getByRole("region", { name: "Arguments of wire" }).getByText('"amount": 1').waitFor();
    await page.getByLabel("If it happened").fill('"receipt 7"');
    await page.getByRole("button", { name: "It happened: go on with this" }).click();
    await badge(page, "succeeded");
    await wired.getByText("done", { exact: true }).waitFor();
    await wired.getByText("Its result").click();
    await wired.getByText("receipt 7").waitFor();
  });

  test("drained from the Workers page, the process finishes what it holds and ends", async () => {
    model.child.kill("SIGSTOP"); // the worker holds a run until it is seen to be draining
    const input = JSON.stringify("Finish. [[script: chunks n=20 bytes=8 every=25]]");
    const task = await stage.submit({ agent: "writer", input });
    await until(
      async () => (await stage.query("tasks:get", { task })).status,
      (status) => status === "running",
    );
    await using visitor = await stage.open("/workers");
    const { page } = visitor;
    const shown = page.locator('tr[data-worker="live-1"]');
    await shown.getByRole("button", { name: "Drain…" }).click();
    await page.getByRole("alertdialog").getByRole("button", { name: "Drain it" }).click();
    await shown.getByText("draining").waitFor();
    expect(worker.ended).toBeNull();
    model.child.kill("SIGCONT");
    await until(
      async () => worker.ended,
      (ended) => ended !== null,
    );
    expect(worker.ended, worker.said.slice(-2_000)).toBe(0);
    expect((await stage.query("tasks:get", { task })).status).toBe("succeeded");
    await shown.getByText("gone").waitFor();
  });
});

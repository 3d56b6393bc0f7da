/**
 * What the dashboard costs and how fast it is, measured in a real Chromium on a host of its own; a JSON line for each figure.
 *
 *   node dashboard/e2e/figures.mjs [--seconds 600]     how long the calls are counted, quiet and then busy
 */
import { parseArgs } from "node:util";
import { Stage } from "./stage.mjs";
import { until, WIDE } from "./visit.mjs";

const CHANGES = 60;
const TOKENS = 60;
const PANES = 20;
const FRAMES_MS = 5_000;
const BUSY_RUNS = 70;

const { values } = parseArgs({ options: { seconds: { type: "string", default: "600" } } });
const seconds = Number(values.seconds);
if (!(seconds > 0)) throw new Error("--seconds takes a number above 0");

const tell = (figure, value) => console.log(JSON.stringify({ figure, ...value }));
const at = (sorted, share) =>
  Math.round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]);
function latencies(figure, found) {
  const sorted = [...found].sort((a, b) => a - b);
  tell(figure, { unit: "ms", samples: sorted.length, p50: at(sorted, 0.5), p99: at(sorted, 0.99) });
}
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** When a condition of the page came true, in milliseconds since the epoch. Looked at with each frame. */
const when = (page, condition, given) =>
  page.evaluate(
    ([source, value]) =>
      new Promise((resolve) => {
        const holds = new Function("value", `return ${source}`);
        const look = () => (holds(value) ? resolve(Date.now()) : requestAnimationFrame(look));
        look();
      }),
    [condition, given],
  );

async function firstLoad(stage) {
  let bytes = 0;
  const context = await stage.browser.newContext({ locale: "en-US" });
  const page = await context.newPage();
  page.on("response", async (response) => {
    if (/\.js$/.test(new URL(response.url()).pathname))
      bytes += Number(response.headers()["content-length"] ?? 0);
  });
  await page.goto(stage.url);
  await page.getByLabel("Key").fill(stage.key.operator);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.locator(".chart canvas").first().waitFor();
  tell("first load, compressed JavaScript with the charts", { unit: "bytes", value: bytes, most: 250_000 });
  await context.close();
}

async function changes(stage) {
  const task = await stage.submit({ queue: "figures" });
  await using visitor = await stage.open(`/tasks/${task}`);
  await visitor.page.locator(".heading .badge").waitFor();
  const found = [];
  for (let i = 0; i < CHANGES; i++) {
    const [verb, word] = i % 2 === 0 ? ["tasks:pause", "paused"] : ["tasks:resume", "pending"];
    const seen = when(visitor.page, `document.querySelector(".heading .badge").textContent === value`, word);
    const began = Date.now();
    await stage.mutate(verb, { task });
    found.push((await seen) - began);
  }
  latencies("a task's change, from its call to the DOM", found);
}

async function tokens(stage, worker) {
  await stage.submit();
  const [{ task, run }] = await worker.take();
  await using visitor = await stage.open(`/tasks/${task}`);
  await worker.write(run, "0 ");
  await visitor.page.locator(".stream").waitFor();
  const found = [];
  for (let i = 1; i <= TOKENS; i++) {
    const seen = when(
      visitor.page,
      `document.querySelector(".stream").textContent.includes(value)`,
      `token${i};`,
    );
    const began = Date.now();
    await worker.write(run, `token${i};`);
    found.push((await seen) - began);
  }
  latencies("a flushed token, from the worker's sync to the DOM", found);
  await worker.finish(run);
}

/** How many frames a second a page draws, and how long its own thread is at work for them. */
async function frames(page) {
  const tools = await page.context().newCDPSession(page);
  await tools.send("Performance.enable", { timeDomain: "threadTicks" });
  const worked = async () => {
    const { metrics } = await tools.send("Performance.getMetrics");
    return metrics.find(({ name }) => name === "TaskDuration").value * 1_000;
  };
  const before = await worked();
  const { count, ms } = await page.evaluate(
    (most) =>
      new Promise((resolve) => {
        let count = 0;
        const began = performance.now();
        const frame = () => {
          count += 1;
          const ms = performance.now() - began;
          if (ms < most) requestAnimationFrame(frame);
          else resolve({ count, ms });
        };
        requestAnimationFrame(frame);
      }),
    FRAMES_MS,
  );
  const seconds = ms / 1_000;
  const perSecond = (value) => Math.round(value / seconds);
  return { value: perSecond(count), mainThreadMsPerSecond: perSecond((await worked()) - before) };
}

const WRITTEN = "token ".repeat(25); // 100 tokens a second
const WRITTEN_MS = 250;

async function panes(stage, worker) {
  await stage.submitMany(PANES);
  const runs = await worker.take(PANES);
  for (const { run } of runs) await worker.write(run, WRITTEN.repeat(160)); // as if for 40 seconds before
  await using visitor = await stage.open("/live");
  await until(
    () => visitor.page.locator(".pane .stream").count(),
    (count) => count === PANES,
  );
  let writing = true;
  const writer = (async () => {
    for (let next = Date.now(); writing; next += WRITTEN_MS) {
      await worker.sync({ chunks: runs.map(({ run }) => worker.chunk(run, WRITTEN)) });
      await pause(Math.max(0, next + WRITTEN_MS - Date.now()));
    }
  })();
  await pause(1_000);
  const found = await frames(visitor.page);
  writing = false;
  await writer;
  tell(`${PANES} panes at 100 tokens a second each`, { unit: "frames a second", ...found, least: 50 });
  for (const { run } of runs) await worker.finish(run);
}

/** What the machine has to give: boxes of a page without anything else, as large and as full as the panes' text. */
async function boxes(stage) {
  const context = await stage.browser.newContext({ viewport: WIDE });
  const page = await context.newPage();
  await page.setContent(
    `<style>body { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px }
      div { height: 176px; overflow: auto; contain: strict; white-space: pre-wrap; font: 14px/1.5 system-ui }</style>
      ${"<div></div>".repeat(PANES)}`,
  );
  await page.evaluate(
    ([text, ms]) => {
      const nodes = [...document.querySelectorAll("div")].map((box) => {
        box.append(text.repeat(10));
        return box.firstChild;
      });
      setInterval(() => {
        for (const node of nodes) {
          node.appendData(text);
          node.deleteData(0, text.length);
        }
        for (const { parentNode: box } of nodes) box.scrollTop = box.scrollHeight;
      }, ms);
    },
    [WRITTEN, WRITTEN_MS],
  );
  await pause(1_000);
  tell(`${PANES} boxes of an empty page at 100 tokens a second each`, {
    unit: "frames a second",
    ...(await frames(page)),
  });
  await context.close();
}

async function calls(stage, worker, busy) {
  await using visitor = await stage.open("/");
  await visitor.page.locator(".chart canvas").first().waitFor();
  const before = await stage.calls();
  const end = Date.now() + seconds * 1_000;
  let runs = 0;
  for (let next = Date.now(); busy && Date.now() < end; next += (seconds * 1_000) / BUSY_RUNS) {
    await stage.submit();
    const [{ run }] = await worker.take();
    await worker.write(run, "text");
    await worker.finish(run);
    runs += 1;
    await pause(Math.max(0, Math.min(next + (seconds * 1_000) / BUSY_RUNS, end) - Date.now()));
  }
  await pause(Math.max(0, end - Date.now()));
  const after = await stage.calls();
  const shown = ["dashboard:", "stats:", "agents:list", "tasks:get", "tasks:list", "runs:"];
  const each = Object.fromEntries(
    Object.entries(after)
      .map(([path, count]) => [path, count - (before[path] ?? 0)])
      .filter(([path, count]) => count > 0 && shown.some((start) => path.startsWith(start))),
  );
  const value = Object.values(each).reduce((sum, count) => sum + count, 0);
  tell(`calls of an open overview in ${seconds} s, ${busy ? `${runs} runs` : "quiet"}`, {
    unit: "calls",
    value,
    each,
  });
}

await using stage = new Stage();
await stage.start();
const worker = await stage.worker();
await firstLoad(stage);
await changes(stage);
await tokens(stage, worker);
await boxes(stage);
await panes(stage, worker);
await calls(stage, worker, false);
await calls(stage, worker, true);

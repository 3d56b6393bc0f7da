/** The text of runs: whole, once, in order, and as text, whatever happens between the worker and the page. */
import { beforeAll, describe, expect, test } from "vitest";
import { useStage } from "./stage.mjs";
import { until } from "./visit.mjs";

const stage = useStage();
let worker;

beforeAll(async () => {
  worker = await stage.worker();
});

async function running(queue = "default") {
  await stage.submit({ queue });
  const [taken] = await worker.take();
  return taken;
}
const open = (task) => stage.open(`/tasks/${task}`);
const pane = (page) => page.getByRole("region", { name: "What the run writes" });
const textOf = (page) => pane(page).evaluate((at) => at.textContent);
const shows = (page, text) =>
  until(
    () => textOf(page).catch(() => null),
    (found) => found === text,
  );

/** Note every text that the pane shows from now on. */
async function record(page) {
  await page.evaluate(() => {
    window.seen = [];
    const note = () => {
      const text = document.querySelector(".stream")?.textContent ?? "";
      if (text !== window.seen.at(-1)) window.seen.push(text);
    };
    new MutationObserver(note).observe(document.body, {
      subtree: true,
      childList: true,
      characterData: true,
    });
    note();
  });
  return () => page.evaluate(() => window.seen);
}

/** That no text was taken back, and none was empty once there was one. */
function onlyGrows(texts) {
  for (let at = 1; at < texts.length; at++) expect(texts[at].startsWith(texts[at - 1])).toBe(true);
}

describe("a stream", () => {
  test("grows without a flicker over the border of a page, and is the same after a reload in its middle", async () => {
    const { task, run } = await running();
    await using visitor = await open(task);
    const { page } = visitor;
    await worker.write(run, "0 ");
    await shows(page, "0 ");
    const seen = await record(page);
    let whole = "0 ";
    for (let at = 1; at < 150; at += 10) {
      const chunks = Array.from({ length: 10 }, (_, i) => worker.chunk(run, `${at + i} `));
      whole += chunks.map((chunk) => chunk.text).join("");
      await worker.sync({ chunks });
    }
    await shows(page, whole);
    onlyGrows(await seen());
    await page.reload();
    await shows(page, whole);
    await worker.write(run, "and on");
    await shows(page, `${whole}and on`);
    await worker.finish(run);
    await page.locator(".heading .badge", { hasText: "succeeded" }).waitFor();
    await shows(page, `${whole}and on`);
  });

  test("the attempts that a fallback supersedes go", async () => {
    const { task, run } = await running();
    await using visitor = await open(task);
    const { page } = visitor;
    await worker.write(run, "Question: ", { call: 0 });
    await worker.write(run, "half an ans", { call: 1 });
    await shows(page, "Question: half an ans");
    await worker.write(run, "The whole", { call: 1, attempt: 2 });
    await shows(page, "Question: The whole");
    await worker.write(run, "wer", { call: 1, attempt: 1 }); // late, from the attempt that was given up
    await worker.write(run, " answer", { call: 1, attempt: 2 });
    await shows(page, "Question: The whole answer");
    await page.reload();
    await shows(page, "Question: The whole answer");
    await worker.finish(run);
  });

  test("another run of the task begins with an empty pane, and the first one's text stays with its attempt", async () => {
    const task = await stage.submit({ retry: { initialMs: 0 } });
    const [first] = await worker.take();
    await using visitor = await open(task);
    const { page } = visitor;
    await worker.write(first.run, "the first run");
    await shows(page, "the first run");
    await worker.fail(first.run, "flaky", true);
    const [second] = await worker.take();
    await worker.write(second.run, "the second run");
    await shows(page, "the second run");
    await page.getByText("What it wrote").click();
    await page.getByRole("region", { name: "What attempt 1 wrote" }).getByText("the first run").waitFor();
    await worker.finish(second.run);
  });

  test("a page that is open tells the worker so, and a page that nobody has does not", async () => {
    const { task, run } = await running();
    expect((await worker.sync()).watched).not.toContain(run);
    await using visitor = await open(task);
    await visitor.page.getByRole("heading", { name: "What it writes" }).waitFor();
    await until(
      async () => (await worker.sync()).watched,
      (watched) => watched.includes(run),
    );
    await worker.finish(run);
  });

  test("a restart of the host under an open page loses nothing and doubles nothing", async () => {
    const { task, run } = await running();
    await using visitor = await open(task);
    const { page } = visitor;
    await worker.write(run, "before, ");
    await shows(page, "before, ");
    const seen = await record(page);
    await stage.host.end("SIGKILL");
    await page.getByText(/^The connection to .* is lost/).waitFor();
    expect(await textOf(page)).toBe("before, ");
    await stage.host.start();
    await worker.write(run, "after");
    await shows(page, "before, after");
    await until(
      () => page.getByText(/^The connection to/).count(),
      (found) => found === 0,
    );
    onlyGrows(await seen());
    await worker.finish(run);
    await page.locator(".heading .badge", { hasText: "succeeded" }).waitFor();
  });
});

describe("hostile text", () => {
  const HOSTILE = [
    "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>",
    "[click](javascript:window.pwned=3) &lt;b&gt;",
    "\u001b[31mred\u001b[0m\u0007\u0000 and \u009b1m",
    "\u202Etxet desrever\u202C \u2066isolated\u2069 \u200bhidden\ufeff",
  ].join("\n");
  const SHOWN = [
    "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>",
    "[click](javascript:window.pwned=3) &lt;b&gt;",
    "␛[31mred␛[0m␇␀ and ⟨U+009B⟩1m",
    "⟨U+202E⟩txet desrever⟨U+202C⟩ ⟨U+2066⟩isolated⟨U+2069⟩ ⟨U+200B⟩hidden⟨U+FEFF⟩",
  ].join("\n");

  test("is shown as text wherever it comes from", async () => {
    const task = await stage.submit({ input: JSON.stringify(HOSTILE) });
    const [{ run }] = await worker.take();
    await using visitor = await open(task);
    const { page } = visitor;
    await worker.write(run, HOSTILE);
    await shows(page, SHOWN);
    await worker.sync({
      progress: [{ run, progress: { done: 1, total: null, message: HOSTILE }, state: null }],
      steps: [{ run, key: "<b>step</b>", kind: "step", result: JSON.stringify(HOSTILE), signal: null }],
    });
    await page.getByText("<b>step</b>").waitFor();
    await page.getByText("Its result").click();
    await worker.fail(run, "<i>code</i>", false, HOSTILE);
    await page.getByText("<i>code</i>").first().waitFor();
    const found = await page.evaluate(() => ({
      pwned: window.pwned,
      made: document.querySelectorAll("main img, main script, main i:not(.key), main b > b").length,
      // eslint-disable-next-line no-control-regex -- these are what it looks for
      raw: /[\u0000-\u0008\u001b\u009b\u202a-\u202e\u2066-\u2069]/.test(document.body.textContent),
    }));
    expect(found).toEqual({ made: 0, raw: false });
    await visitor.go("/tasks?status=failed");
    await page.getByText("<i>code</i>: <script>").first().waitFor();
    expect(await page.evaluate(() => window.pwned)).toBeUndefined();
  });

  test("a line of a megabyte leaves the page alive and inside its width", async () => {
    const { task, run } = await running();
    await using visitor = await open(task);
    const { page } = visitor;
    const part = "0123456789abcdef".repeat(3_900); // 62,400: a chunk holds 64 KiB
    for (let at = 0; at < 17; at++) await worker.write(run, part);
    const more = page.getByRole("button", { name: /^Show more of the .* characters before this/ });
    await more.waitFor();
    const length = async () => (await textOf(page)).length;
    await until(length, (found) => found > 15_000);
    const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);
    expect(await fits()).toBe(true);
    await worker.write(run, " the end");
    await until(
      () => textOf(page),
      (found) => found.endsWith(" the end"),
    );
    await more.click();
    await until(length, (found) => found > 170_000);
    expect(await fits()).toBe(true);
    await worker.finish(run);
    await page.locator(".heading .badge", { hasText: "succeeded" }).waitFor();
  });
});

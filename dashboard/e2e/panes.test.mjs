/** Many texts side by side: each shows its end, and stays where somebody reads. */
import { beforeAll, expect, test } from "vitest";
import { useStage } from "./stage.mjs";
import { until } from "./visit.mjs";

const stage = useStage();
let worker;

beforeAll(async () => {
  worker = await stage.worker();
});

const lineOf = (at) => `line ${at} 😀 of what is written\r\n`;
const linesOf = (from, to) => Array.from({ length: to - from }, (_, i) => lineOf(from + i)).join("");
const seen = (text) => text.replaceAll("\r\n", "\n");

/** What stands in each pane, in the order of the page, without the button above it; and how far it is from its end. */
const panesOf = (page) =>
  page.locator(".stream").evaluateAll((panes) =>
    panes.map((pane) => ({
      text: [...pane.querySelectorAll(":scope > span")].map((span) => span.textContent).join(""),
      fromEnd: pane.scrollHeight - pane.scrollTop - pane.clientHeight,
      at: pane.scrollTop,
    })),
  );

test("each pane follows its own text and holds only the end of it; what somebody reads stays", async () => {
  await stage.submitMany(3);
  const runs = await worker.take(3);
  await using visitor = await stage.open("/live");
  const { page } = visitor;
  const write = (from, to) =>
    worker.sync({ chunks: runs.map(({ run }) => worker.chunk(run, linesOf(from, to))) });
  const showEnd = (to) =>
    until(
      () => panesOf(page),
      (panes) => panes.length === 3 && panes.every(({ text }) => text.endsWith(seen(lineOf(to - 1)))),
    );
  const whole = (to) => seen(linesOf(0, to));

  for (let at = 0; at < 400; at += 50) await write(at, at + 50);
  for (const { text, fromEnd } of await showEnd(400)) {
    expect(whole(400).endsWith(text)).toBe(true);
    expect(text.length).toBeLessThanOrEqual(2_000);
    expect(text.length).toBeGreaterThan(1_000);
    expect(fromEnd).toBeLessThan(2);
  }

  // Somebody scrolls up in the second pane.
  const second = page.locator(".stream").nth(1);
  await second.hover();
  await page.mouse.wheel(0, -200);
  const [, before] = await until(
    () => panesOf(page),
    ([, pane]) => pane.fromEnd > 150,
  );
  for (let at = 400; at < 600; at += 50) await write(at, at + 50);
  const [first, held, third] = await showEnd(600);
  expect(held.at).toBe(before.at);
  expect(held.text).toBe(before.text + seen(linesOf(400, 600)));
  for (const { text, fromEnd } of [first, third]) {
    expect(text.length).toBeLessThanOrEqual(2_000);
    expect(fromEnd).toBeLessThan(2);
  }

  // Back at the end it follows again.
  await second.focus();
  await page.keyboard.press("End");
  await until(
    () => panesOf(page),
    ([, { text, fromEnd }]) => text.length <= 2_000 && fromEnd < 2,
  );
  await write(600, 610);
  for (const { text, fromEnd } of await showEnd(610)) {
    expect(whole(610).endsWith(text)).toBe(true);
    expect(fromEnd).toBeLessThan(2);
  }

  // All of it, when it is asked for.
  await second.getByRole("button", { name: /^Show more of the/ }).click();
  const [, all] = await until(
    () => panesOf(page),
    ([, { text }]) => text.length > 2_000,
  );
  expect(all.text).toBe(whole(610));
  for (const { run } of runs) await worker.finish(run);
});

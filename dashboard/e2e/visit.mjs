/** A visitor: a page of the dashboard in a browser context of its own, signed in with a key. */
import { expect } from "vitest";

export const WIDE = { width: 1440, height: 900 };
export const NARROW = { width: 390, height: 844 };

/**
 * Open a page of the dashboard.
 *
 * @param {import("playwright-core").Browser} browser
 * @param {string} url  of the host
 * @param {object} [options]
 * @param {string} [options.path]  behind the #
 * @param {string} [options.key]  signs in with it; default: shows the sign-in page
 * @param {{ width: number, height: number }} [options.viewport]
 * @param {"light" | "dark"} [options.colorScheme]
 */
export async function visit(browser, url, { path = "/", key, viewport = WIDE, colorScheme = "light" } = {}) {
  const context = await browser.newContext({ viewport, colorScheme, locale: "en-US", timezoneId: "UTC" });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" && /Content Security Policy|Minified React|Uncaught/.test(message.text()))
      faults.push(message.text());
  });
  if (key !== undefined) {
    const stored = JSON.stringify({ url, key });
    await context.addInitScript(
      ([name, value]) => {
        if (sessionStorage.getItem("e2e") === null) sessionStorage.setItem(name, value);
        sessionStorage.setItem("e2e", "1"); // once: whoever signs out stays so
      },
      ["signalbox.session", stored],
    );
  }
  await page.goto(`${url}/#${path}`);
  return {
    page,
    /** What a page threw, or its policy refused. */
    faults,
    /** @param {string} to */
    go: (to) => page.goto(`${url}/#${to}`),
    async [Symbol.asyncDispose]() {
      await context.close();
      expect(faults).toEqual([]);
    },
  };
}

/**
 * Wait until `look` gives what is expected.
 *
 * @template T
 * @param {() => Promise<T>} look
 * @param {(found: T) => boolean} isRight
 */
export async function until(look, isRight, ms = 20_000) {
  const end = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (isRight(found)) return found;
    if (Date.now() > end) throw new Error(`it stays ${JSON.stringify(found)?.slice(0, 500)}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

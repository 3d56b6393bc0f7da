/** A real Chromium: the one that is named, else the one that npm brought. */
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";
import packed from "@sparticuz/chromium";

// Not the package's own arguments: these switch off what a page is held to.
const ARGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--font-render-hinting=none"];

/** @returns {Promise<import("playwright-core").Browser>} */
export async function openBrowser() {
  const named = process.env.CHROMIUM;
  if (named !== undefined && !existsSync(named)) throw new Error(`CHROMIUM: there is no ${named}`);
  return chromium.launch({ executablePath: named ?? (await packed.executablePath()), args: ARGS });
}

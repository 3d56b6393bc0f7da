import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { temporaryFolder } from "../engine/testing.mjs";
import { ADMIN_KEY } from "./testing.mjs";

const MAIN = fileURLToPath(new URL("../main.mjs", import.meta.url));
const data = temporaryFolder();
/** @type {import("node:child_process").ChildProcess} */
let child;
afterEach(() => {
  child.kill("SIGKILL");
  rmSync(data, { recursive: true });
});

async function start() {
  const flags = ["--data", data, "--port", "0", "--site-port", "0", "--admin-key", ADMIN_KEY];
  child = spawn(process.execPath, [MAIN, ...flags], { cwd: data });
  const [line] = await once(child.stdout, "data");
  return JSON.parse(line);
}

test("code that was pushed is served after a kill, and no folder is", async () => {
  const { url, functions } = await start();
  expect(functions).toBeNull();
  const post = async (route, body) =>
    (
      await fetch(url + route, { method: "POST", body: JSON.stringify({ adminKey: ADMIN_KEY, ...body }) })
    ).json();
  const source = `import { f } from "./_deps/ABC.js"; export { f as word };`;
  const shared = `export const f = Object.assign(() => {}, { isQuery: true, isPublic: true, exportArgs: () => '{"type":"any"}', exportReturns: () => "null", invokeQuery: async () => '"pushed"' });`;
  const changedModules = [
    { path: "deep/words.js", source: source.replace("./", "../"), environment: "isolate" },
    { path: "_deps/ABC.js", source: shared, environment: "isolate" },
  ];
  const startPush = await post("/api/deploy2/start_push", { appDefinition: { changedModules } });
  expect(await post("/api/deploy2/finish_push", { startPush, dryRun: false })).toHaveProperty(
    "componentDiffs",
  );
  child.kill("SIGKILL");
  await once(child, "exit");
  const { url: again } = await start();
  const body = JSON.stringify({ path: "deep/words:word", args: {} });
  const answer = await fetch(`${again}/api/query`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });
  expect(await answer.json()).toMatchObject({ status: "success", value: "pushed" });
});

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { DEVELOPMENT_ADMIN_KEY } from "./admin-key.mjs";

const MAIN = fileURLToPath(new URL("./main.mjs", import.meta.url));
const FUNCTIONS = fileURLToPath(new URL("../tests/host_functions", import.meta.url));

let folder = "";
/** @type {import("node:child_process").ChildProcess[]} */
let children = [];

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "host main-")); // with a space, as a user's folder may have
  children = [];
});
afterEach(async () => {
  for (const child of children) child.kill("SIGKILL");
  await rm(folder, { recursive: true });
});

function launch(...flags) {
  const child = spawn(process.execPath, [
    MAIN,
    "--port",
    "0",
    "--site-port",
    "0",
    "--data",
    folder,
    ...flags,
  ]);
  children.push(child);
  return child;
}

/** Run a host that must not start. */
async function refused(...flags) {
  const child = launch(...flags);
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "exit"),
  ]);
  return { stdout, stderr, code };
}

async function started(...flags) {
  const child = launch(...flags);
  const ended = once(child, "exit").then(async () => Promise.reject(new Error(await text(child.stderr))));
  const [line] = await Promise.race([once(child.stdout, "data"), ended]);
  return { child, ready: JSON.parse(line) };
}

test("the readiness line says where everything is and not what the key is", async () => {
  const { ready } = await started("--functions", FUNCTIONS, "--admin-key", "own-secret");
  expect(ready).toEqual({
    ready: true,
    url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
    siteUrl: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
    developmentKey: false,
    pid: children[0].pid,
    functions: FUNCTIONS,
    data: folder,
    version: expect.any(String),
  });
});

test("SIGTERM ends the host with code 0 and an empty stderr", async () => {
  const { child, ready } = await started("--functions", FUNCTIONS);
  expect(ready.developmentKey).toBe(true);
  const headers = {
    authorization: `Convex ${DEVELOPMENT_ADMIN_KEY}`,
    "content-type": "application/json",
  };
  const body = JSON.stringify({ path: "basics:noop", args: {} });
  expect((await fetch(`${ready.url}/api/function`, { method: "POST", headers, body })).status).toBe(200);
  child.kill("SIGTERM");
  const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, "exit")]);
  expect([code, stderr]).toEqual([0, ""]);
});

const ONE_LINE = /^signalbox host: [^\n]+\n$/;

test("a port that is in use is one line", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const { port } = taken.address();
  const { stderr, stdout, code } = await refused("--functions", FUNCTIONS, "--port", String(port));
  taken.close();
  expect([code, stdout]).toEqual([1, ""]);
  expect(stderr).toMatch(ONE_LINE);
  expect(stderr).toContain(`port ${port} is in use`);
});

test("broken TypeScript is one line with file and line number", async () => {
  const functions = path.join(folder, "functions");
  await mkdir(functions);
  await writeFile(path.join(functions, "broken.ts"), "export const a = 1;\nexport const = 2;\n");
  const { stderr, code } = await refused("--functions", functions);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^signalbox host: broken\.ts:2:\d+: [^\n]+\n$/);
});

test("a module that throws while it is loaded is one line", async () => {
  const functions = path.join(folder, "functions");
  await mkdir(functions);
  await writeFile(path.join(functions, "throws.ts"), "export {};\nthrow new Error('at load');\n");
  const { stderr, code } = await refused("--functions", functions);
  expect(code).toBe(1);
  expect(stderr).toMatch(ONE_LINE);
  expect(stderr).toContain("at load");
});

test('a "use node" module is one line that names it', async () => {
  const functions = path.join(folder, "functions");
  await mkdir(functions);
  await writeFile(path.join(functions, "mailer.ts"), '"use node";\nexport const a = 1;\n');
  const { stderr, code } = await refused("--functions", functions);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^signalbox host: mailer\.ts: "use node"[^\n]+\n$/);
});

test("data of another running host are left alone with one line", async () => {
  await started("--functions", FUNCTIONS);
  const { stderr, code } = await refused("--functions", FUNCTIONS);
  expect(code).toBe(1);
  expect(stderr).toMatch(ONE_LINE);
  expect(stderr).toMatch(/lock|in use/);
});

test("a data folder that is a file is one line", async () => {
  await writeFile(path.join(folder, "file"), "");
  const { stderr, code } = await refused("--functions", FUNCTIONS, "--data", path.join(folder, "file"));
  expect(code).toBe(1);
  expect(stderr).toMatch(/^signalbox host: cannot write to the data folder [^\n]+\n$/);
});

test("a data folder that cannot be made is one line", async () => {
  const file = path.join(folder, "a file");
  await writeFile(file, "");
  const { stderr, code } = await refused("--functions", FUNCTIONS, "--data", path.join(file, "data"));
  expect(code).toBe(1);
  expect(stderr).toMatch(/^signalbox host: cannot write to the data folder [^\n]+\n$/);
});

test("a usage error is one line and exit code 2", async () => {
  const { stderr, code } = await refused("--host", "0.0.0.0");
  expect(code).toBe(2);
  expect(stderr).toMatch(ONE_LINE);
});

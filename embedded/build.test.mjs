import { execFile } from "node:child_process";
import { appendFile, cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { ConvexHttpClient } from "convex/browser";
import { afterEach, beforeEach, expect, test } from "vitest";
import { SOURCES_FILE } from "./built.mjs";
import { REPOSITORY, SOURCES } from "./host-files.mjs";
import { HostProcess } from "../tests/host_process.mjs";

const run = promisify(execFile);

let root = "";

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), "host #build ")); // as a user may name a folder
  await cp(SOURCES, path.join(root, "embedded"), {
    recursive: true,
    filter: (file) => !/fixtures|\.test\.mjs$/.test(file),
  });
  await symlink(path.join(REPOSITORY, "node_modules"), path.join(root, "node_modules"));
});
afterEach(() => rm(root, { recursive: true }));

const build = () => run(process.execPath, [path.join(root, "embedded/build.mjs")]);

/** @returns {Promise<string>} what a host says that may not start, with the line of the start file that was run */
async function refusal() {
  const command = [path.join(root, "embedded/main.mjs"), "--host", "0.0.0.0"];
  const failed = await run(process.execPath, command).catch((error) => error);
  expect(failed.code).toBe(2);
  return failed.stderr;
}

/** Have both ways of starting tell which they are. */
const tell = (/** @type {string} */ file) =>
  appendFile(path.join(root, file), `\nconsole.error("${file}");\n`);

test("what was built is started, until a source of it is another one", async () => {
  await tell("embedded/start.mjs");
  expect(await refusal()).toContain("embedded/start.mjs");

  await build();
  await tell("build/start.cjs");
  expect(await refusal()).toContain("build/start.cjs");

  await appendFile(path.join(root, "embedded/engine/values.mjs"), "\n// edited\n");
  expect(await refusal()).not.toContain("build/start.cjs");

  await build();
  await tell("build/start.cjs");
  expect(await refusal()).toContain("build/start.cjs");

  await rm(path.join(root, "embedded/build.mjs")); // no part of it
  expect(await refusal()).toContain("build/start.cjs");
});

test("a build that was cut off is not started", async () => {
  await build();
  await tell("build/start.cjs");
  const sources = path.join(root, "build", SOURCES_FILE);
  const text = await readFile(sources, "utf8");
  await writeFile(sources, text.slice(0, -10));
  expect(await refusal()).not.toContain("build/start.cjs");
  await rm(sources);
  expect(await refusal()).not.toContain("build/start.cjs");
});

test("what was built serves by itself: mutations, queries and actions", async () => {
  await build();
  for (const file of ["engine-thread.mjs", "actions-thread.mjs"]) await rm(path.join(root, "embedded", file));
  const functions = path.join(REPOSITORY, "tests/host_functions");
  await using host = new HostProcess({ functions, main: path.join(root, "build/start.cjs") });
  await host.start();
  const client = new ConvexHttpClient(host.url);
  expect(await client.mutation("basics:noop", {})).toBe(null);
  expect(await client.query("basics:echo", { value: 2 })).toBe(2);
  expect(await client.action("acts:outer", {})).toEqual({ inner: expect.anything() });
});

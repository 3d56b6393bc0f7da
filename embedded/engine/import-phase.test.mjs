import { rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { ConvexHttpClient } from "convex/browser";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ADMIN_KEY, startTestHost } from "../actions/testing.mjs";
import { temporaryFolder, writeFunctions } from "./testing.mjs";

const MODULE = `import { actionGeneric as action, mutationGeneric as mutation, queryGeneric as query } from "convex/server";
  const told = { now: Date.now(), date: new Date().getTime(), random: Math.random() };
  export const inQuery = query({ args: {}, handler: async () => told });
  export const inMutation = mutation({ args: {}, handler: async () => told });
  export const inAction = action({ args: {}, handler: async () => told });
  export const later = action({ args: {}, handler: async () => ({ now: Date.now(), random: Math.random() }) });`;

/** @type {string} */
let root;
/** @type {string} */
let functions;
/** @type {Awaited<ReturnType<typeof startTestHost>>} */
let host;
const start = async () => void (host = await startTestHost({ functions, data: root }));
beforeEach(async () => {
  root = temporaryFolder();
  functions = writeFunctions(root, { "told.ts": MODULE });
  await start();
});
afterEach(async () => {
  await host.stop(true);
  rmSync(root, { recursive: true });
});

const restart = async () => {
  await host.stop(true);
  await start();
};
const client = () => new ConvexHttpClient(host.url, { logger: false });
const told = () =>
  Promise.all([
    client().query("told:inQuery", {}),
    client().mutation("told:inMutation", {}),
    client().action("told:inAction", {}),
  ]);

test("modules see one time and the same chance in functions of every kind, for as long as their code is served", async () => {
  const [first, ...others] = await told();
  expect(first.date).toBe(first.now);
  expect(others).toEqual([first, first]);

  const body = JSON.stringify({ changes: [{ name: "MODE", value: "x" }] });
  const headers = { authorization: `Convex ${ADMIN_KEY}`, "content-type": "application/json" };
  const url = `${host.url}/api/update_environment_variables`;
  expect((await fetch(url, { method: "POST", headers, body })).status).toBe(200);
  expect(await told()).toEqual([first, first, first]);

  await restart();
  expect(await told()).toEqual([first, first, first]);

  writeFileSync(path.join(functions, "told.ts"), `${MODULE}\nexport const more = 1;`);
  await restart();
  const [changed] = await told();
  expect(changed.now).toBeGreaterThan(first.now);
  expect(changed.random).not.toBe(first.random);
});

test("an action itself sees the time that it is, and other chance each time", async () => {
  const before = Date.now();
  const seen = [await client().action("told:later", {}), await client().action("told:later", {})];
  expect(seen[0].now).toBeGreaterThanOrEqual(before);
  expect(seen[0].random).not.toBe(seen[1].random);
});

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";

const PATIENTLY = { timeout: 10_000 }; // on a loaded machine

const MAIN = fileURLToPath(new URL("../main.mjs", import.meta.url));
const FIXTURE = fileURLToPath(new URL("../fixtures/actions/convex", import.meta.url));
const KEY = "signalbox|test-admin-key";

const hosts = [];
afterEach(() => hosts.forEach((host) => host.kill("SIGKILL"))); // of a test that failed

/** A host process on a data folder, and how to call it. @param {string} data */
async function start(data) {
  const flags = [
    "--functions",
    FIXTURE,
    "--data",
    data,
    "--admin-key",
    KEY,
    "--port",
    "0",
    "--site-port",
    "0",
  ];
  const host = spawn(process.execPath, [MAIN, ...flags], { stdio: ["ignore", "pipe", "ignore"] });
  hosts.push(host);
  const [line] = await once(createInterface({ input: host.stdout }), "line");
  const { url } = JSON.parse(line);
  const call = async (kind, name, args = {}) => {
    const response = await fetch(`${url}/api/${kind}`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Convex ${KEY}` },
      body: JSON.stringify({ path: name, args }),
    });
    return (await response.json()).value;
  };
  const kill = async (signal) => {
    host.kill(signal);
    await once(host, "exit");
  };
  return { call, kill };
}

test("after SIGKILL a scheduled action that ran has failed, and what fell due meanwhile runs once", async () => {
  const data = await mkdtemp(path.join(tmpdir(), "actions-crash-"));
  const first = await start(data);
  const running = await first.call("action", "acts:scheduleSleep", { afterMs: 0, sleepMs: 60_000 });
  const due = await first.call("action", "acts:scheduleAdd", { afterMs: 2_000, text: "overdue" });
  const later = await first.call("action", "acts:scheduleSleep", { afterMs: 2_000, sleepMs: 1 });
  const state = async (host, id) => (await host.call("query", "acts:job", { id })).state;
  await expect.poll(() => state(first, running), PATIENTLY).toEqual({ kind: "inProgress" });
  expect(await state(first, due)).toEqual({ kind: "pending" });
  await first.kill("SIGKILL");
  await new Promise((resolve) => setTimeout(resolve, 2_000)); // both fall due while nobody is there

  const second = await start(data);
  await expect.poll(() => state(second, due), PATIENTLY).toEqual({ kind: "success" });
  await expect.poll(() => state(second, later), PATIENTLY).toEqual({ kind: "success" });
  expect(await state(second, running)).toEqual({
    kind: "failed",
    error: "Transient error while executing action",
  });
  await second.kill("SIGKILL");

  const third = await start(data);
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(await third.call("query", "acts:rows")).toEqual(["overdue"]);
  await third.kill("SIGTERM");
  await rm(data, { recursive: true });
});

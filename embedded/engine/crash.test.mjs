import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { FIXTURE, TestEngine, temporaryFolder } from "./testing.mjs";
import { decodeInt64 } from "./values.mjs";

const WRITER = fileURLToPath(new URL("../fixtures/engine/writer.mjs", import.meta.url));
const ROUNDS = 6;

/**
 * Let a writer work and kill it in the middle.
 *
 * @param {string} file
 * @param {number} start  number of its first write
 * @param {number} batches  after how many answered batches it is killed
 * @returns {Promise<number>} the last acknowledged number
 */
async function writeUntilKilled(file, start, batches) {
  const writer = spawn(process.execPath, [WRITER, file, FIXTURE, String(start)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(writer, "exit");
  let last = start - 1;
  let seen = 0;
  for await (const line of createInterface({ input: writer.stdout })) {
    last = Number(line.split(" ")[1]);
    if (++seen === batches) writer.kill("SIGKILL"); // what it still manages to say is acknowledged as well
  }
  expect((await exited)[1]).toBe("SIGKILL");
  return last;
}

test("SIGKILL in the middle of the load loses nothing that was acknowledged and runs each job once", async () => {
  const root = temporaryFolder();
  const file = `${root}/host.sqlite`;
  const acknowledged = new Set();
  let start = 1;
  for (let round = 0; round < ROUNDS; round++) {
    const last = await writeUntilKilled(file, start, 5 + 17 * round);
    for (let n = start; n <= last; n++) acknowledged.add(n);
    start = last + 1000; // a batch that was written and not acknowledged may be there too
  }

  const engine = new TestEngine({ root });
  await engine.load();
  while ((engine.engine.nextWake() ?? Infinity) <= Date.now() + 10) engine.serve([]);
  const { items, marks, commits } = engine.call("load:written");

  const numbers = items.map((/** @type {any} */ item) => item.rank);
  expect([...acknowledged].filter((n) => !numbers.includes(n))).toEqual([]);
  expect(new Set(numbers).size).toBe(numbers.length);
  expect(marks).toEqual(numbers.toSorted((/** @type {number} */ a, /** @type {number} */ b) => a - b));
  expect(commits.map((/** @type {any} */ commit) => Number(commit.text))).toEqual(numbers);

  const created = items.map((/** @type {any} */ item) => item._creationTime);
  expect(created).toEqual([...new Set(created)].sort((a, b) => a - b));
  const times = commits.map((/** @type {any} */ commit) => decodeInt64(commit.at));
  expect(new Set(times).size).toBe(times.length);

  engine.engine.close();
  const database = new DatabaseSync(file);
  expect(database.prepare("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
  database.close();
}, 60_000);

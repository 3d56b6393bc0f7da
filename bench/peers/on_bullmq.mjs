/**
 * BullMQ on its PostgreSQL backend: a pool as wide as its worker, LISTEN/NOTIFY, finished jobs and their events kept.
 *
 *     node bench/peers/on_bullmq.mjs install|work|latency|waiting|live DATABASE_URL
 *
 * The same program as `bench/peers/program.py`. PEERS_MODULES is the folder whose node_modules has bullmq and pg.
 */

import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

const CONCURRENCY = 50;
const TASKS = 5_000;
const SAMPLES = 400;
const PAUSE_MS = 50;
const PAGE = 500;
const LIVE_PAGE = 50;
const WARM_UP = 20;
const LOOK_MS = 20;

const require = createRequire(`${process.env.PEERS_MODULES}/`);
const { Queue, Worker, createPostgresBackend, runMigrations } = require("bullmq");
const { Pool } = require("pg");

const [what = "", database = ""] = process.argv.slice(2);
const connection = { connectionString: database, max: CONCURRENCY };
/** Nanoseconds of the monotonic clock that all processes of a machine share, to some 100 ns. */
const now = () => Number(process.hrtime.bigint());
/** @param {object} fact */
const say = (fact) => process.stdout.write(`${JSON.stringify(fact)}\n`);

async function install() {
  const pool = new Pool(connection);
  const client = await pool.connect();
  await runMigrations(client);
  client.release();
  await pool.end();
}

async function work() {
  let first = 0;
  /** @type {number[]} */
  const waits = [];
  const worker = new Worker(
    "noops",
    async (/** @type {{ data: { start: number } }} */ { data: { start } }) => {
      const began = now();
      first ||= began;
      if (start) waits.push((began - start) / 1e6);
    },
    { connection, concurrency: CONCURRENCY },
    createPostgresBackend,
  );
  await new Promise((stop) => process.once("SIGTERM", stop));
  await worker.close();
  say({ first, waits });
}

async function produce() {
  const queue = new Queue("noops", { connection }, createPostgresBackend);
  const pool = new Pool({ ...connection, max: 1 });
  const submit = async (/** @type {number[]} */ starts) => {
    if (starts.length === 1) await queue.add("noop", { start: starts[0] });
    else await queue.addBulk(starts.map((start) => ({ name: "noop", data: { start } })));
  };
  const allEnded = async () => {
    const query = "SELECT EXISTS (SELECT FROM bullmq.job WHERE state IN ('waiting', 'active')) AS any";
    while ((await pool.query(query)).rows[0].any) await sleep(LOOK_MS);
  };
  const many = (/** @type {number} */ count) => submit(Array(count).fill(0));
  if (what === "waiting") {
    for (let i = 0; i < TASKS; i += PAGE) await many(PAGE);
    say({ submitted: TASKS });
    await allEnded();
    say({ ended: now() });
  } else {
    await many(WARM_UP);
    await allEnded();
    const start = now();
    if (what === "live") {
      for (let i = 0; i < TASKS; i += LIVE_PAGE) await many(LIVE_PAGE);
      await allEnded();
      say({ seconds: (now() - start) / 1e9 });
    } else {
      for (let i = 0; i < SAMPLES; i++) {
        const called = now();
        await submit([called]);
        await sleep(Math.max(0, PAUSE_MS - (now() - called) / 1e6));
      }
      await allEnded();
      say({ ended: now() });
    }
  }
  await queue.close();
  await pool.end();
}

await (what === "install" ? install() : what === "work" ? work() : produce());

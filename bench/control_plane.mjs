/**
 * Times what the control plane itself costs the engine, in this process, without threads, sockets and workers: no-ops are
 * submitted, and a worker that takes no time reports each wave of its slots as succeeded. Of all calls of submit and of all waves
 * the fastest tenth counts, since others use the machine too.
 *
 *     node bench/control_plane.mjs [--tasks N] [--slots N]
 */

import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { bundleFunctions } from "../embedded/bundle.mjs";
import { Engine } from "../embedded/engine/engine.mjs";

const FUNCTIONS = fileURLToPath(new URL("../convex", import.meta.url));
const KEY = "bench-key";
const SUBMIT_BATCH = 100;
const ROUNDS = 12;
const COUNTED = 0.1; // the share of the measurements, the fastest first, at whose end the figure stands
const WAVES_WITHOUT_WORK = 1_000; // then the control plane has stopped giving work

const { values: options } = parseArgs({
  options: { tasks: { type: "string", default: "1000" }, slots: { type: "string", default: "50" } },
});
const tasks = Number(options.tasks);
const slots = Number(options.slots);

/** One key with both roles would be none that a deployment has. */
const keys = Object.fromEntries(["operator", "worker"].map((role) => [role, `${role}-${KEY}`]));

class Bench {
  /** @param {string} file */
  constructor(file) {
    this.engine = new Engine({ file, synchronous: "normal", guard: new SharedArrayBuffer(64) });
  }

  #lastId = 0;

  /** @param {object} message @returns {any} its reply */
  serve(message) {
    const { replies } = this.engine.serve([{ id: ++this.#lastId, ...message }]);
    const [reply] = replies;
    if (!reply.ok) throw new Error(reply.message);
    return reply;
  }

  /** @param {string} name @param {object} args @param {"mutation" | "query"} [kind] @returns {any} */
  call(name, args, kind = "mutation") {
    const caller = { admin: true, identity: null };
    return JSON.parse(
      this.serve({ op: "call", kind, path: name, args: JSON.stringify([args]), caller }).value,
    );
  }
}

const root = mkdtempSync(path.join(tmpdir(), "signalbox-bench-"));
try {
  const bench = new Bench(path.join(root, "host.sqlite"));
  bench.serve({ op: "load", bundle: await bundleFunctions(FUNCTIONS), env: {} });
  for (const [role, key] of Object.entries(keys)) {
    const hash = createHash("sha256").update(key).digest("hex");
    bench.call("operator:createKey", { hash, role, label: role });
  }
  const { session } = bench.call("worker:register", {
    ...{ key: keys.worker, worker: "w", incarnation: "1", queues: ["default"], labels: [], llm: false },
    ...{ agents: [{ name: "noop", description: "", capabilities: [] }], capacity: slots, version: "bench" },
  });
  const inbox = { path: "worker:inbox", args: JSON.stringify([{ key: keys.worker, session }]) };
  bench.serve({
    ...{ op: "subscribe", sub: 1, journal: null, caller: { admin: false, identity: null } },
    ...inbox,
  });

  let seq = 0;
  /** @param {string[]} ended */
  const sync = (ended) => {
    const usage = { model: null, calls: 0, inputTokens: null, outputTokens: null };
    const finished = ended.map((run) => ({ run, usage, outcome: { kind: "succeeded", output: "null" } }));
    const rest = { accepted: [], chunks: [], acknowledged: [] };
    return bench.call("worker:sync", { key: keys.worker, session, seq: ++seq, finished, ...rest });
  };

  /** @type {number[]} microseconds of each call, for a task */
  const submits = [];
  /** @type {number[]} microseconds of each wave, for a task */
  const waves = [];

  /** Submit `count` no-ops and work them off. @param {number} count */
  const round = (count) => {
    for (let left = count; left > 0; left -= SUBMIT_BATCH) {
      const specs = Array.from({ length: Math.min(left, SUBMIT_BATCH) }, () => ({
        agent: "noop",
        input: "null",
      }));
      const began = performance.now();
      bench.call("tasks:submit", { key: keys.operator, tasks: specs });
      submits.push(((performance.now() - began) * 1000) / specs.length);
    }
    let began = performance.now();
    let done = 0;
    for (let idle = 0; done < count;) {
      if (++idle > WAVES_WITHOUT_WORK) throw new Error(`only ${done} of ${count} tasks were given out`);
      const held = bench.call("worker:inbox", { key: keys.worker, session }, "query").assigned;
      if (held.length === 0) {
        bench.engine.serve([]); // time for the loops
        continue;
      }
      sync(held.map((/** @type {{ run: string }} */ { run }) => run));
      if (held.length === slots) waves.push(((performance.now() - began) * 1000) / slots);
      began = performance.now();
      done += held.length;
      idle = 0;
    }
  };

  round(tasks); // both get warm
  submits.length = waves.length = 0;
  for (let rounds = 0; rounds < ROUNDS; rounds++) round(tasks);
  const fastest = (/** @type {number[]} */ all) =>
    Math.round(all.sort((a, b) => a - b)[Math.floor(all.length * COUNTED)] ?? NaN);
  const figure = { submit_us: fastest(submits), work_us: fastest(waves) };
  process.stdout.write(
    `${JSON.stringify({ bench: "control plane, for each no-op", tasks, slots, ...figure })}\n`,
  );
  bench.engine.close();
} finally {
  rmSync(root, { recursive: true, force: true });
}

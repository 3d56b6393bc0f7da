/**
 * Times the engine in this process, without threads and sockets; one JSON line for each figure.
 *
 *     node bench/host_engine.mjs [--calls N] [--documents N,N]
 *
 * claim: the first waiting document of an index range is patched, and a document is inserted in another table.
 * writes: documents written each second by mutations of ten inserts, in batches of sixteen.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { bundleFunctions } from "../embedded/bundle.mjs";
import { Engine } from "../embedded/engine/engine.mjs";
import { percentiles } from "./percentiles.mjs";

const FUNCTIONS = fileURLToPath(new URL("./functions", import.meta.url));
const FILL_PER_CALL = 500;

const { values: options } = parseArgs({
  options: {
    calls: { type: "string", default: "3000" },
    documents: { type: "string", default: "10000,100000" },
  },
});

/** @param {Record<string, unknown>} figure */
function print(figure) {
  process.stdout.write(`${JSON.stringify(figure)}\n`);
}

class Bench {
  /**
   * @param {string} file
   * @param {"full" | "normal"} synchronous
   */
  constructor(file, synchronous) {
    this.engine = new Engine({ file, synchronous, guard: new SharedArrayBuffer(64) });
  }

  #lastId = 0;

  /** @param {object[]} messages */
  serve(messages) {
    const { replies } = this.engine.serve(messages.map((message) => ({ id: ++this.#lastId, ...message })));
    const failed = replies.find((reply) => !reply.ok);
    if (failed !== undefined) throw new Error(failed.message);
  }

  /** @param {string} name @param {object} args */
  message(name, args) {
    const caller = { admin: true, identity: null };
    return { op: "call", kind: "mutation", path: `bench:${name}`, args: JSON.stringify([args]), caller };
  }

  /** @param {string} name @param {object} args @param {number} count @returns {number[]} ms of each */
  time(name, args, count) {
    const times = [];
    for (let i = 0; i < count; i++) {
      const start = performance.now();
      this.serve([this.message(name, args)]);
      times.push(performance.now() - start);
    }
    return times;
  }
}

const root = mkdtempSync(path.join(tmpdir(), "signalbox-bench-"));
try {
  const bundle = await bundleFunctions(FUNCTIONS);
  const calls = Number(options.calls);

  for (const synchronous of /** @type {const} */ (["normal", "full"])) {
    for (const documents of options.documents.split(",").map(Number)) {
      const file = path.join(root, `${synchronous}-${documents}.sqlite`);
      const bench = new Bench(file, synchronous);
      bench.serve([{ op: "load", bundle, env: {} }]);
      const filled = performance.now();
      for (let i = 0; i < documents; i += FILL_PER_CALL) {
        bench.serve([bench.message("fill", { count: Math.min(FILL_PER_CALL, documents - i) })]);
      }
      const fill_us = ((performance.now() - filled) * 1000) / documents;
      bench.time("noop", {}, 500);
      print({ bench: "noop", synchronous, documents, ...percentiles(bench.time("noop", {}, calls)) });
      bench.time("claim", { worker: "w" }, 200);
      print({
        bench: "claim",
        synchronous,
        documents,
        ...percentiles(bench.time("claim", { worker: "w" }, calls)),
      });

      const grouped = performance.now();
      const group = Array.from({ length: 50 }, () => bench.message("claim", { worker: "w" }));
      for (let i = 0; i < 40; i++) bench.serve(group);
      print({
        bench: "claims, 50 in a batch",
        synchronous,
        documents,
        per_s: Math.round(2_000_000 / (performance.now() - grouped)),
      });

      const writing = performance.now();
      const writes = Array.from({ length: 16 }, () => bench.message("fill", { count: 10 }));
      for (let i = 0; i < 50; i++) bench.serve(writes);
      print({
        bench: "writes",
        synchronous,
        documents,
        per_s: Math.round(8_000_000 / (performance.now() - writing)),
        fill_us: Number(fill_us.toFixed(1)),
      });
      bench.engine.close();
      const opened = performance.now();
      const again = new Bench(file, synchronous);
      again.serve([{ op: "load", bundle, env: {} }]);
      print({
        bench: "open and load",
        synchronous,
        documents,
        ms: Number((performance.now() - opened).toFixed(1)),
      });
      again.engine.close();
    }
  }
  print({ bench: "memory", rss_mb: Math.round(process.memoryUsage.rss() / 2 ** 20) });
} finally {
  rmSync(root, { recursive: true, force: true });
}

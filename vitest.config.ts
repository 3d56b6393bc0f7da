import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const TIMEOUT_MS = 20_000; // ends what hangs; the longest tests take 4 s alone, and several times that on a loaded machine
// One more than the cores, where Vitest takes one less: most tests wait for a host, a thread or a time limit for a third of their time.
const WORKERS = availableParallelism() + 1;
// The files of `convex/` keep nothing in their modules, so that a worker loads the functions once and not for each file.
const isolate = false;

export default defineConfig({
  test: {
    projects: [
      {
        // Convex functions in the official mock, in the runtime's own globals.
        test: {
          name: "convex",
          include: ["convex/**/*.test.ts"],
          environment: "edge-runtime",
          isolate,
          alias: { "../callbacks": fileURLToPath(new URL("convex/callbacks.testing.ts", import.meta.url)) },
          testTimeout: TIMEOUT_MS,
          maxWorkers: WORKERS,
        },
      },
      {
        // The same files on the embedded host's engine: nothing leans on a quirk of either.
        test: {
          name: "convex-on-host",
          include: ["convex/*.test.ts"],
          environment: "node",
          env: { SIGNALBOX_TEST_BACKEND: "host" },
          isolate,
          testTimeout: TIMEOUT_MS,
          maxWorkers: WORKERS,
        },
      },
      {
        // The embedded host: real threads, real sockets, real files.
        test: {
          name: "embedded",
          include: ["embedded/**/*.test.mjs", "scripted_model/**/*.test.mjs"],
          environment: "node",
          testTimeout: TIMEOUT_MS,
          maxWorkers: WORKERS,
        },
      },
      {
        // What the dashboard decides without a browser.
        test: {
          name: "dashboard",
          include: ["dashboard/**/*.test.ts"],
          environment: "node",
          maxWorkers: WORKERS,
        },
      },
      {
        // The built dashboard in a real Chromium, on a host process: `make e2e`. `make test` runs it beside the Python tests.
        test: {
          name: "e2e",
          include: ["dashboard/e2e/*.test.mjs"],
          environment: "node",
          testTimeout: 60_000, // a browser on a loaded machine
          hookTimeout: 120_000, // the browser is unpacked first
          maxWorkers: 1, // two browsers at once are slower than one after the other
          sequence: { groupOrder: 1 },
        },
      },
      {
        // The official clients against a host process: a line of tests/conformance/checklist.md for each group of tests.
        test: {
          name: "clients",
          include: ["tests/conformance/*.test.{ts,tsx}"],
          environment: "node",
          testTimeout: TIMEOUT_MS,
          maxWorkers: WORKERS,
        },
      },
      {
        // Small apps written from Convex's documentation, and published packages, each on a host process of its own.
        test: {
          name: "apps",
          include: ["tests/apps/*.test.ts", "tests/packages/*.test.ts"],
          environment: "node",
          testTimeout: TIMEOUT_MS,
          maxWorkers: WORKERS,
        },
      },
      {
        // A host process that is killed under load; `make soak` for longer.
        test: { name: "soak", include: ["tests/soak/*.test.mjs"], environment: "node", maxWorkers: WORKERS },
      },
    ],
  },
});

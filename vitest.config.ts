import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: [
      {
        // Convex functions in the official mock, in the runtime's own globals.
        test: { name: "convex", include: ["convex/**/*.test.ts"], environment: "edge-runtime" },
      },
      {
        // The embedded host: real threads, real sockets, real files.
        test: { name: "embedded", include: ["embedded/**/*.test.mjs", "scripted_model/**/*.test.mjs"], environment: "node", testTimeout: 20_000 },
      },
    ],
  },
});

/** Builds the dashboard to static files, and the example of the hooks beside them. */
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  root: import.meta.dirname,
  base: "./", // the files may lie in any folder of any server
  plugins: [react()],
  build: {
    outDir: "dist",
    emptyOutDir: true,
    target: "es2023",
    modulePreload: { polyfill: false }, // it would be an inline script, which the host's policy refuses
    assetsInlineLimit: 0,
  },
});

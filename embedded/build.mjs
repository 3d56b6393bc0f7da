/**
 * Makes one file of each thread of the host: `node embedded/build.mjs`.
 *
 * Node loads the host's hundred modules, and what they import of its own, in twice the time of these files: each ECMAScript
 * module costs a good part of a millisecond, and one that imports a module of Node reads all its exports, which loads more
 * of them. So these are CommonJS. `main.mjs` takes them while they are what the sources say, and else the sources.
 */

import { readdirSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";
import { SOURCES_FILE, stateOf } from "./built.mjs";
import { BUILD, SOURCES } from "./host-files.mjs";

const before = new Map(
  readdirSync(SOURCES, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".mjs"))
    .map((file) => [file, stateOf(path.join(SOURCES, file))]),
);
await rm(path.join(BUILD, SOURCES_FILE), { force: true });
const { metafile } = await build({
  absWorkingDir: SOURCES,
  entryPoints: ["start.mjs", "engine-thread.mjs", "actions-thread.mjs"],
  outdir: BUILD,
  outExtension: { ".js": ".cjs" },
  bundle: true,
  format: "cjs",
  platform: "node",
  packages: "external",
  define: { "import.meta.dirname": "__dirname", "import.meta.filename": "__filename" },
  metafile: true,
  logLevel: "warning",
});
const built = Object.fromEntries(Object.keys(metafile.inputs).map((file) => [file, before.get(file)]));
await writeFile(path.join(BUILD, SOURCES_FILE), JSON.stringify(built)); // at the end, as it vouches for the rest

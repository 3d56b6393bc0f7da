/**
 * Writes tests/contract.json: the validators of every public function as Convex exports them. The worker's tests compare
 * their models with it. `--check` changes nothing and exits 1 when the file is out of date.
 */
import { build } from "esbuild";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const functions = fileURLToPath(new URL("../convex/", import.meta.url));
const target = fileURLToPath(new URL("contract.json", import.meta.url));

async function load(file) {
  const { outputFiles } = await build({
    entryPoints: [functions + file],
    bundle: true,
    format: "esm",
    platform: "node",
    conditions: ["convex", "module"],
    write: false,
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
}

const contract = {};
for (const file of (await readdir(functions)).sort()) {
  if (!/^[a-z]\w*\.ts$/.test(file)) continue;
  for (const [name, fn] of Object.entries(await load(file))) {
    if (typeof fn !== "function" || !fn.isPublic) continue;
    contract[`${file.slice(0, -3)}:${name}`] = {
      kind: fn.isQuery ? "query" : "mutation",
      args: JSON.parse(fn.exportArgs()),
      returns: JSON.parse(fn.exportReturns()),
    };
  }
}

const text = `${JSON.stringify(contract, null, 1)}\n`;
if (!process.argv.includes("--check")) {
  await writeFile(target, text);
} else if ((await readFile(target, "utf8").catch(() => "")) !== text) {
  console.error("tests/contract.json is out of date: run make generate");
  process.exit(1);
}

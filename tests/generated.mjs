/**
 * Writes what is generated and committed: `convex/_generated` by Convex's own code generation without a deployment, and
 * tests/contract.json, the validators of every public function as Convex exports them, to which the worker's tests hold
 * their models. `--check` changes nothing and exits 1 when something is out of date.
 */
import { build } from "esbuild";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const functions = join(root, "convex");
const contractFile = join(root, "tests", "contract.json");

/** Run Convex's code generation over the project in `folder`. */
function codegen(folder) {
  const cli = join(root, "node_modules/convex/bin/main.js");
  execFileSync(process.execPath, [cli, "codegen", "--system-udfs", "--typecheck", "disable"], {
    cwd: folder,
    stdio: ["ignore", "ignore", "inherit"],
  });
}

/** The same in a copy, so that a check changes nothing. */
function codegenInCopy() {
  const copy = mkdtempSync(join(tmpdir(), "codegen-"));
  try {
    cpSync(functions, join(copy, "convex"), { recursive: true });
    cpSync(join(root, "package.json"), join(copy, "package.json"));
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
    codegen(copy);
    return readFolder(join(copy, "convex/_generated"));
  } finally {
    rmSync(copy, { recursive: true });
  }
}

function readFolder(folder) {
  return Object.fromEntries(
    readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), "utf8")]),
  );
}

async function contract() {
  const files = readdirSync(functions).filter((file) => /^[a-z]\w*\.ts$/.test(file));
  const out = mkdtempSync(join(root, "node_modules", ".contract-"));
  try {
    await build({
      entryPoints: files.map((file) => join(functions, file)),
      bundle: true,
      format: "esm",
      platform: "node",
      conditions: ["convex", "module"],
      outdir: out,
      outExtension: { ".js": ".mjs" },
    });
    const found = {};
    for (const file of files.sort()) {
      const name = file.slice(0, -3);
      for (const [member, fn] of Object.entries(await import(join(out, `${name}.mjs`)))) {
        if (typeof fn !== "function" || !fn.isPublic) continue;
        found[`${name}:${member}`] = {
          kind: fn.isQuery ? "query" : "mutation",
          args: JSON.parse(fn.exportArgs()),
          returns: JSON.parse(fn.exportReturns()),
        };
      }
    }
    return `${JSON.stringify(found, null, 1)}\n`;
  } finally {
    rmSync(out, { recursive: true });
  }
}

if (process.argv.includes("--check")) {
  const outdated = [];
  const [is, should] = [readFolder(join(functions, "_generated")), codegenInCopy()];
  for (const name of new Set([...Object.keys(is), ...Object.keys(should)])) {
    if (is[name] !== should[name]) outdated.push(`convex/_generated/${name}`);
  }
  if (readFileSync(contractFile, "utf8") !== (await contract())) outdated.push("tests/contract.json");
  if (outdated.length > 0) {
    console.error(`${outdated.join(", ")}: out of date; run make generate`);
    process.exit(1);
  }
} else {
  codegen(root);
  writeFileSync(contractFile, await contract());
}

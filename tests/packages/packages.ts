/** Function folders of published packages, as they are installed: components that need no other component, served as apps. */

import { cpSync, mkdirSync, mkdtempSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const REPOSITORY = fileURLToPath(new URL("../..", import.meta.url));
const INSTALLED = path.join(REPOSITORY, "node_modules/@convex-dev");
const ADDITIONS = fileURLToPath(new URL("additions", import.meta.url));

/** The folder of a package's functions, where npm has put it. */
export function functionsOf(name: string): string {
  return path.join(INSTALLED, name, "src/component");
}

/**
 * A copy of a package's functions and, beside them, one module of ours: for packages that run functions of the app around them.
 * The module is called `app`.
 */
export function functionsWithApp(name: string): string {
  const root = mkdtempSync(path.join(tmpdir(), "package-"));
  const copy = path.join(root, name);
  mkdirSync(copy);
  cpSync(path.join(INSTALLED, name, "src"), path.join(copy, "src"), { recursive: true });
  cpSync(path.join(INSTALLED, name, "package.json"), path.join(copy, "package.json"));
  cpSync(path.join(ADDITIONS, `${name}.ts`), path.join(copy, "src/component/app.ts"));
  symlinkSync(path.join(REPOSITORY, "node_modules"), path.join(root, "node_modules"));
  return path.join(copy, "src/component");
}

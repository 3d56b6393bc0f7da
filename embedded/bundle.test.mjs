import { readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { bundleFunctions } from "./bundle.mjs";
import { temporaryFolder, writeFunctions } from "./engine/testing.mjs";

/** @type {string} */
let root;
beforeEach(() => (root = temporaryFolder()));
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** @param {Record<string, string>} files */
const bundle = (files) => bundleFunctions(writeFunctions(root, files));

test("every module is there under its path, and no other file", async () => {
  const { modules } = await bundle({
    "tasks.ts": "export const a = 1",
    "model/deep/er.tsx": "export const b = 1",
    "old.mjs": "export const c = 1",
    "convex.config.ts": "export default 1",
    "auth.config.ts": "export default 1",
    "_generated/api.ts": "throw 1",
    "node_modules/x/index.ts": "throw 1",
    "tasks.test.ts": "throw 1",
    "types.d.ts": "export type A = 1",
    "data.json": "{}",
    "README.md": "text",
  });
  expect(modules).toEqual(["auth.config", "convex.config", "model/deep/er", "old", "tasks"]);
});

test("a .wasm file is imported as the compiled module", async () => {
  const folder = writeFunctions(root, {
    "a.ts":
      'import module from "./lib/empty.wasm"; export const isModule = module instanceof WebAssembly.Module;',
    "lib/other.ts": "export {}",
  });
  writeFileSync(path.join(folder, "lib/empty.wasm"), Buffer.from([0, 97, 115, 109, 1, 0, 0, 0]));
  const { code, modules } = await bundleFunctions(folder);
  new Function(code)();
  expect(/** @type {any} */ (globalThis).__modules.a.isModule).toBe(true);
  delete (/** @type {any} */ (globalThis).__modules);
  expect(modules).toContain("a");
  rmSync(path.join(folder, "lib/empty.wasm"));
  await expect(bundleFunctions(folder)).rejects.toThrow(/ENOENT[^\n]*empty\.wasm[^\n]*$/);
});

test("the script leaves the modules' exports behind", async () => {
  const { code, map } = await bundle({
    "a.ts": "export const x: number = 41 + 1;",
    "b/c.ts": "export default 'd';",
  });
  new Function(code)();
  const modules = /** @type {any} */ (globalThis).__modules;
  delete (/** @type {any} */ (globalThis).__modules);
  expect([modules.a.x, modules["b/c"].default]).toEqual([42, "d"]);
  expect(JSON.parse(map).sources).toEqual(expect.arrayContaining(["a.ts", "b/c.ts"]));
});

test("what several modules call alike keeps its name, and so do its frames", async () => {
  const module = (/** @type {string} */ own) => `
    class NotFound extends Error { static first = new NotFound("0"); constructor(m: string) { super(m); this.name = this.constructor.name; } }
    class Gone extends Error {}
    function check() { throw new NotFound(${own}); }
    const find = async () => check();
    function step2() {}
    export const sealed = Object.freeze(function sealed() {});
    function frozen() {}
    Object.freeze(frozen);
    export const tries = { check, find, late: () => [NotFound.name, check.name, find.name, step2.name, Gone.name] };`;
  const { code } = await bundle({
    "a.ts": module("1"),
    "b.ts": module("2"),
    "c.ts": "export function step() {}",
  });
  new Function(code)();
  const { a, b } = /** @type {any} */ (globalThis).__modules;
  delete (/** @type {any} */ (globalThis).__modules);
  for (const { tries } of [a, b]) {
    expect(tries.late()).toEqual(["NotFound", "check", "find", "step2", "Gone"]);
    const { check, find } = tries;
    expect(check).toThrow(
      expect.objectContaining({ name: "NotFound", stack: expect.stringMatching(/at check /) }),
    );
    await expect(find()).rejects.toThrow(
      expect.objectContaining({ stack: expect.stringMatching(/at find /) }),
    );
  }
});

test("packages of the folder's own, paths of its tsconfig and JSON files are found", async () => {
  const { code } = await bundle({
    "a.ts": `import own from "own-package"; import short from "@lib/short"; import data from "./data.json"; export const all = [own, short, data.n];`,
    "data.json": '{ "n": 3 }',
    "deep/lib/short.ts": "export default 2;",
    "node_modules/own-package/index.js": "export default 1;",
    "node_modules/own-package/package.json": '{ "name": "own-package", "main": "index.js" }',
    "tsconfig.json": '{ "compilerOptions": { "paths": { "@lib/*": ["./deep/lib/*"] } } }',
  });
  new Function(code)();
  const modules = /** @type {any} */ (globalThis).__modules;
  delete (/** @type {any} */ (globalThis).__modules);
  expect(modules.a.all).toEqual([1, 2, 3]);
});

test("folders of components, files with spaces and TypeScript without exports are no modules", async () => {
  const { modules } = await bundle({
    "a.ts": "export const a = 1",
    "pool/convex.config.ts": "export default 1",
    "pool/work.ts": "throw 1",
    "with space.ts": "export const b = 1",
    "notes.ts": "// nothing yet",
    "#scratch.ts": "export const c = 1",
  });
  expect(modules).toEqual(["a"]);
});

test("broken TypeScript is reported in one line with file, line and column", async () => {
  await expect(bundle({ "model/bad.ts": "export const a = 1;\nexport const b = ;\n" })).rejects.toThrow(
    /^model\/bad\.ts:2:18: Unexpected ";"$/,
  );
});

test("an import that leads nowhere is reported with its place", async () => {
  await expect(bundle({ "a.ts": 'import "./nowhere";' })).rejects.toThrow(
    /^a\.ts:1:8: Could not resolve "\.\/nowhere"$/,
  );
});

test("a module that needs Node is refused by name", async () => {
  await expect(bundle({ "mail.ts": '// sends mail\n"use node";\nexport const a = 1;' })).rejects.toThrow(
    'mail.ts: "use node" modules need Convex itself',
  );
});

test("a module name that Convex refuses is refused", async () => {
  await expect(bundle({ "my-tasks.ts": "export {}" })).rejects.toThrow(
    'my-tasks.ts: "my-tasks" is no valid name of a module',
  );
});

test("a folder that is not there is named", async () => {
  await expect(bundleFunctions(`${root}/none`)).rejects.toThrow(
    /^cannot read the functions folder .*none: ENOENT$/,
  );
});

test("nothing is written into the folder", async () => {
  const folder = writeFunctions(root, { "a.ts": "export const x = 1;" });
  await bundleFunctions(folder);
  expect(readFileSync(`${folder}/a.ts`, "utf8")).toBe("export const x = 1;");
  expect((await import("node:fs")).readdirSync(folder)).toEqual(["a.ts"]);
});

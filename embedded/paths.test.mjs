import { expect, test } from "vitest";
import { canonicalPath, functionNotFound, wrongKind } from "./paths.mjs";

test.each([
  ["mod:fn", "mod:fn"],
  ["mod.js:fn", "mod:fn"],
  ["folder/mod.js:fn", "folder/mod:fn"],
  ["mod", "mod:default"],
  ["mod.js", "mod:default"],
])("%s is spelled %s", (path, canonical) => {
  expect(canonicalPath(path)).toBe(canonical);
});

test("refusals name the function as its caller knows it", () => {
  expect(functionNotFound("mod:default")).toBe(
    "Could not find public function for 'mod'. Did you forget to run `npx convex dev`?",
  );
  expect(wrongKind("a/b:fn", "action", "mutation")).toBe(
    "Trying to execute a/b.js:fn as Action, but it is defined as Mutation.",
  );
});

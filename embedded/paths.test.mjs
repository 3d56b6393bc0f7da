import { expect, test } from "vitest";
import { canonicalPath, functionNotFound, pathError, wrongKind } from "./paths.mjs";

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

const longest = "a".repeat(64);

test.each([
  "mod:fn",
  "a/b_1/c.js:default",
  "mod",
  "_system/cli/tables",
  "data.json:f",
  `${longest}/m:${longest}`,
])("%s can name a function", (path) => {
  expect(pathError(path)).toBeNull();
});

test.each([
  ["../mod:fn", 'Invalid path component ".."'],
  ["a/./b:fn", 'Invalid path component "."'],
  ["a//b:fn", 'Invalid path component ""'],
  ["/etc/passwd:fn", "must be relative"],
  ["%2e%2e/mod:fn", "can only contain alphanumeric characters"],
  ["a\\b:fn", "can only contain alphanumeric characters"],
  ["mod\u0000:fn", "can only contain alphanumeric characters"],
  ["___:fn", "at least one alphanumeric"],
  [":fn", "Invalid path component"],
  ["mod:", "Identifier cannot be empty"],
  ["mod:1st", "Invalid first character '1'"],
  ["mod:a-b", "invalid character '-'"],
  ["mod:__proto__.x", "invalid character '.'"],
  [`${longest}a:fn`, "Path component is too long (65 > maximum 64)"],
  [`mod:${longest}a`, "Identifier is too long (65 > maximum 64)"],
])("%s cannot, and it is said why", (path, why) => {
  expect(pathError(path)).toContain(`${path} is not a valid path to a Convex function. `);
  expect(pathError(path)).toContain(why);
});

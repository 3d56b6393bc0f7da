import { rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestEngine, temporaryFolder, writeFunctions } from "./testing.mjs";

const root = temporaryFolder();
const engine = new TestEngine({ limits: { argsBytes: 40, resultBytes: 40 } });
beforeAll(() =>
  engine.load(
    writeFunctions(root, {
      "acts.ts": `import { actionGeneric as action } from "convex/server";
        import { v } from "convex/values";
        export const strict = action({ args: { n: v.number() }, returns: v.string(), handler: async () => "" });
        export const loose = action(async () => null);`,
    }),
  ),
);
afterAll(() => {
  engine.dispose();
  rmSync(root, { recursive: true });
});

const check = (/** @type {string} */ path, /** @type {string} */ part, /** @type {string} */ value) =>
  engine.send({ op: "check", path, part, value });

describe("an action that runs on another thread", () => {
  test("has its arguments and its value checked", () => {
    expect(check("acts:strict", "args", '[{"n":1}]')).toEqual([{ n: 1 }]);
    expect(check("acts:strict", "returns", '"done"')).toBe("done");
    expect(() => check("acts:strict", "args", '[{"n":"1"}]')).toThrow("ArgumentValidationError: ");
    expect(() => check("acts:strict", "args", "[{}]")).toThrow("missing the required field `n`");
    expect(() => check("acts:strict", "returns", "1")).toThrow("ReturnsValidationError: ");
  });

  test("without validators takes and returns anything, up to the limits", () => {
    const text = (/** @type {number} */ length) => JSON.stringify("x".repeat(length - 2));
    expect(check("acts:loose", "args", `[{"any":${text(32)}}]`)).not.toBeNull(); // 40 bytes as Convex counts
    expect(() => check("acts:loose", "args", `[{"any":${text(33)}}]`)).toThrow(/too large/);
    expect(check("acts:loose", "returns", text(40))).not.toBeNull();
    expect(() => check("acts:loose", "returns", text(41))).toThrow(/too large/);
  });

  test("that is gone is not found", () => {
    expect(() => check("acts:gone", "args", "[{}]")).toThrow(
      "Could not find public function for 'acts:gone'",
    );
  });
});

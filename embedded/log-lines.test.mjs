import { expect, test } from "vitest";
import { addLogLine, formatLogLine, operatorLine } from "./log-lines.mjs";

test("a line of 32 KiB is whole, one byte more is cut and says so", () => {
  const text = "x".repeat(32 * 1024);
  expect(formatLogLine("LOG", [text])).toBe(`[LOG] ${text}`);
  expect(formatLogLine("LOG", [`${text}y`])).toBe(`[LOG] ${text} (truncated due to length)`);
  expect(formatLogLine("WARN", [text.slice(2), "y"])).toBe(`[WARN] ${text.slice(2)} y`);
  expect(formatLogLine("WARN", [text.slice(1), "y"])).toBe(
    `[WARN] ${text.slice(1)}  (truncated due to length)`,
  );
});

test("a line is not cut inside of a character", () => {
  expect(formatLogLine("LOG", ["é".repeat(16 * 1024 - 1), "€"])).toBe(
    `[LOG] ${"é".repeat(16 * 1024 - 1)}  (truncated due to length)`,
  );
});

test("the last of 256 lines says that others are missing", () => {
  /** @type {string[]} */
  const lines = [];
  for (let i = 0; i < 255; i++) addLogLine(lines, `${i}`);
  expect(lines.at(-1)).toBe("254");
  for (let i = 255; i < 260; i++) addLogLine(lines, `${i}`);
  expect(lines).toHaveLength(256);
  expect(lines.at(-1)).toBe("[ERROR] Log overflow (maximum 256). Remaining log lines omitted.");
});

test.each([
  ["a\nb", "a | b"],
  ["a\tb", "a b"],
  ["\x1b[2Jgone\r\b", "\\u001b[2Jgone\\u000d\\u0008"],
  ["\x9b31m \u2028 \u202e", "\\u009b31m \\u2028 \\u202e"],
  ["grüße 🌍", "grüße 🌍"],
])("the operator sees %j as %j", (text, line) => expect(operatorLine(text)).toBe(line));

import { expect, test } from "vitest";
import { endOf, slicesOf } from "./text";

test("a long text is cut into slices that join to it, and no character is cut in two", () => {
  for (const text of [
    "",
    "a",
    "x".repeat(4_096),
    "x".repeat(4_097),
    "x" + "😀".repeat(6_000),
    "😀".repeat(4_096),
  ]) {
    const slices = slicesOf(text);
    expect(slices.join("")).toBe(text);
    for (const slice of slices) expect(slice.isWellFormed()).toBe(true);
  }
});

test("a slice stays as it is while the text behind it grows", () => {
  const text = "ab😀".repeat(5_000);
  expect(slicesOf(text + "more").slice(0, -1)).toEqual(
    slicesOf(text).slice(0, slicesOf(text + "more").length - 1),
  );
});

const segment = (text: string) => ({ call: 1, attempt: 1, kind: "text" as const, text });

test("of what is too long the end is shown, and the rest is counted", () => {
  expect(endOf([segment("abc")], 3)).toEqual({ shown: [segment("abc")], left: 0 });
  const long = [segment("a".repeat(10_000)), segment("b".repeat(100_000))];
  for (const most of [50_000, 104_000, 109_999]) {
    const { shown, left } = endOf(long, most);
    const text = shown.map((part) => part.text).join("");
    expect(text.length).toBeLessThanOrEqual(most);
    expect(text.length).toBeGreaterThan(most - 5_000);
    expect(text.length + left).toBe(110_000);
  }
});

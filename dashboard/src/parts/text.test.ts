import { expect, test } from "vitest";
import type { Segment } from "../../hooks";
import { endOf, slicesOf } from "./text";

const TEXTS = {
  ...{ empty: "", short: "a", slice: "x".repeat(512), "a slice and one": "x".repeat(513) },
  ...{ "pairs astride": "x" + "😀".repeat(6_000), pairs: "😀".repeat(4_096), lines: "x\r\n".repeat(3_000) },
};

test.each(Object.entries(TEXTS))(
  "%s: cut into slices that join to it, no character cut in two",
  (_, text) => {
    const slices = slicesOf(text);
    expect(slices.join("")).toBe(text);
    for (const slice of slices) {
      expect(slice.isWellFormed()).toBe(true);
      expect(slice.startsWith("\n")).toBe(false);
    }
    for (const first of [1, 2, 7]) expect(slicesOf(text, first)).toEqual(slices.slice(first));
  },
);

test("a slice stays as it is while the text behind it grows", () => {
  const text = "ab😀".repeat(5_000);
  expect(slicesOf(text + "more").slice(0, -1)).toEqual(
    slicesOf(text).slice(0, slicesOf(text + "more").length - 1),
  );
});

const segment = (text: string): Segment => ({ call: 1, attempt: 1, kind: "text", text });
const textOf = ({ shown }: ReturnType<typeof endOf>) =>
  shown.map((part) => slicesOf(part.segment.text, part.firstSlice).join("")).join("");

test("of what is too long the end is shown, and the rest is counted", () => {
  const short = segment("abc");
  expect(endOf([short], 3)).toEqual({ shown: [{ index: 0, firstSlice: 0, segment: short }], left: 0 });
  const long = [segment("a".repeat(10_000)), segment("b".repeat(100_000))];
  const whole = long.map(({ text }) => text).join("");
  for (const most of [0, 1, 50_000, 100_000, 104_000, 109_999, 110_000]) {
    const found = endOf(long, most);
    const text = textOf(found);
    expect(whole.endsWith(text)).toBe(true);
    expect(text.length).toBeLessThanOrEqual(most);
    expect(text.length).toBeGreaterThan(most - 512);
    expect(text.length + found.left).toBe(110_000);
  }
});

test("what is shown of a text that grows keeps its places, so that nothing of it is put there anew", () => {
  const places = (text: string) =>
    endOf([segment("first"), segment(text)], 2_000).shown.map(({ index, firstSlice }) => [index, firstSlice]);
  const text = "token ".repeat(1_000); // 6,000 characters: the 11.7th slice of 512 is not whole
  expect(places(text)).toEqual([[1, 8]]);
  expect(places(`${text}more`)).toEqual([[1, 8]]);
  expect(places(text + "x".repeat(512))).toEqual([[1, 9]]);
});

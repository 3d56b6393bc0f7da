import { describe, expect, test } from "vitest";
import { appendChunks, textOf, type Segment } from "./stream";

const chunk = (text: string, call = 1, attempt = 1, kind: Segment["kind"] = "text"): Segment => ({
  ...{ text, call, attempt, kind },
});

/** All ways to cut a list in two. */
const cuts = (chunks: Segment[]) => chunks.map((_, at) => [chunks.slice(0, at), chunks.slice(at)] as const);

describe("the text of a run", () => {
  test.each([
    ["in order", [chunk("a"), chunk("b")], "ab"],
    ["over calls", [chunk("a"), chunk("b", 2), chunk("c", 2)], "abc"],
    ["a later attempt supersedes", [chunk("a"), chunk("b"), chunk("c", 1, 2)], "c"],
    ["only that of its own call", [chunk("a"), chunk("b", 2), chunk("c", 2, 2), chunk("d", 2, 2)], "acd"],
    ["a straggler is left out", [chunk("c", 1, 2), chunk("a", 1, 1), chunk("d", 1, 2)], "cd"],
    ["call 0 is the agent's own", [chunk("say ", 0, 1), chunk("a"), chunk("b", 1, 2)], "say b"],
    [
      "reasoning and logs are not text",
      [chunk("r", 1, 1, "reasoning"), chunk("a"), chunk("l", 0, 1, "log")],
      "a",
    ],
    ["nothing", [], ""],
  ])("%s", (_, chunks, text) => {
    expect(textOf(appendChunks([], chunks))).toBe(text);
    for (const [sealed, tail] of cuts(chunks))
      expect(appendChunks(appendChunks([], sealed), tail)).toEqual(appendChunks([], chunks));
  });

  test("what is there is not changed", () => {
    const before = appendChunks([], [chunk("a")]);
    const copy = structuredClone(before);
    appendChunks(before, [chunk("b"), chunk("c", 1, 2)]);
    expect(before).toEqual(copy);
  });

  test("neighbours of one kind are one segment, and the kinds stay apart", () => {
    const segments = appendChunks([], [chunk("a"), chunk("b"), chunk("why", 1, 1, "reasoning"), chunk("c")]);
    expect(segments.map(({ kind, text }) => [kind, text])).toEqual([
      ["text", "ab"],
      ["reasoning", "why"],
      ["text", "c"],
    ]);
  });
});

import { describe, expect, it } from "vitest";
import { compose, keywords } from "./answer.mjs";
import { tokenize } from "./tokens.mjs";

const PROMPTS = [
  "Explain in three sentences how a lease protects a task from two workers.",
  "Summarise the incident: the payment queue was blocked for 40 minutes.",
  "hi",
  "",
  "?",
  "列出三种水果",
  "a ".repeat(5_000),
  "word".repeat(5_000),
  `${"supercalifragilistic ".repeat(200)}`,
  "Why do cats purr?\nAnswer for a child.",
];

describe("an answer", () => {
  it("has 60 to 250 tokens and several sentences, whatever the prompt", () => {
    for (const prompt of PROMPTS) {
      for (let seed = 0; seed < 50; seed++) {
        const text = compose(prompt, seed);
        const tokens = tokenize(text).length;
        expect(tokens, text).toBeGreaterThanOrEqual(60);
        expect(tokens, text).toBeLessThanOrEqual(250);
        expect(text.match(/[.](?: |$)/g)?.length, text).toBeGreaterThanOrEqual(3);
      }
    }
  });

  it("takes up the prompt's own words", () => {
    const text = compose("Compare copper kettles with iron pans.", 7);
    expect(text).toContain("copper");
    expect(text).toMatch(/kettles|iron|pans/);
  });

  it("is the same for the same prompt and seed, and another for another seed", () => {
    expect(compose("Describe the tides.", 1)).toBe(compose("Describe the tides.", 1));
    expect(compose("Describe the tides.", 1)).not.toBe(compose("Describe the tides.", 2));
  });

  it("never asks a word to agree or differ with itself", () => {
    for (let seed = 0; seed < 200; seed++) {
      const quoted = compose("Kettles", seed).matchAll(/"([^"]+)" (?:and|from) "([^"]+)"/g);
      for (const [, a, b] of quoted) expect(a).not.toBe(b);
    }
  });
});

describe("keywords", () => {
  it("are the words with meaning, each once, in order", () => {
    expect(keywords("Explain how the Queue protects a queue from workers")).toEqual([
      "Queue",
      "protects",
      "workers",
    ]);
  });

  it("are never empty", () => {
    expect(keywords("of the and")).toEqual(["the question"]);
  });
});

describe("tokens", () => {
  it("join to the text they were cut from", () => {
    for (const text of [...PROMPTS, "  two  spaces\n\tand tabs ", "👩‍🚀 e\u0301 “quoted” don’t"]) {
      expect(tokenize(text).join("")).toBe(text);
    }
  });

  it("cut a long word in parts of at most nine characters", () => {
    expect(tokenize(" internationalisation")).toEqual([" interna", "tionalis", "ation"]);
    expect(tokenize(" possibly")).toEqual([" possibly"]);
  });
});

import { describe, expect, it } from "vitest";
import { planAnswer } from "./plan.mjs";
import { readScript, ScriptError, withoutDirective } from "./script.mjs";
import { Tally } from "./tally.mjs";
import { RequestLog } from "./log.mjs";

const MESSAGES = [
  { role: "system", text: "Be brief." },
  { role: "user", text: "Explain how tides follow the moon." },
];

/** @param {string} model @param {string} [prompt] @param {number | null} [maxTokens] */
function plan(model, prompt = "Explain how tides follow the moon.", maxTokens = null) {
  return planAnswer(model, [{ role: "user", text: prompt }], readScript(model, prompt), maxTokens);
}

describe("a plan", () => {
  it("is the same for the same model and messages, and differs with either", () => {
    const script = readScript("scripted-writer", "");
    const first = planAnswer("scripted-writer", MESSAGES, script, null);
    expect(planAnswer("scripted-writer", MESSAGES, script, null)).toEqual(first);
    expect(planAnswer("scripted-other", MESSAGES, script, null).id).not.toBe(first.id);
    expect(planAnswer("scripted-writer", MESSAGES.slice(1), script, null).id).not.toBe(first.id);
  });

  it("begins after the first-token delay and goes on with jitter around its pace", () => {
    const { due } = plan("scripted-writer");
    const pauses = due.slice(1).map((at, index) => at - (due[index] ?? 0));
    expect(due[0]).toBe(300);
    expect(Math.min(...pauses)).toBeGreaterThanOrEqual(28 * 0.4);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(28 * 1.6);
    expect(new Set(pauses).size).toBeGreaterThan(pauses.length / 2);
  });

  it("stops with `length` at the limit of tokens and with `stop` when the text is no longer", () => {
    const { tokens } = plan("scripted-writer");
    const atLimit = plan("scripted-writer", undefined, tokens.length);
    const below = plan("scripted-writer", undefined, tokens.length - 1);
    expect([atLimit.ending, atLimit.tokens.length]).toEqual(["stop", tokens.length]);
    expect([below.ending, below.tokens.length]).toEqual(["length", tokens.length - 1]);
  });

  it("counts the prompt with what surrounds each message", () => {
    expect(
      planAnswer("scripted-writer", MESSAGES, readScript("scripted-writer", ""), null).promptTokens,
    ).toBe(18);
  });

  it("has exact chunks at an exact pace for benchmarks", () => {
    const { tokens, due, ending } = plan("scripted-bench-3x20ms-5b");
    expect(tokens).toEqual(["1    ", "2    ", "3    "]);
    expect(due).toEqual([20, 40, 60]);
    expect(ending).toBe("stop");
  });

  it("answers the prompt without its directive", () => {
    const prompt = "Explain tides. [[script: error after=2]]";
    expect(withoutDirective(prompt)).toBe("Explain tides.");
    expect(plan("scripted-writer", prompt)).toMatchObject({ ending: "error" });
    expect(plan("scripted-writer", prompt).tokens).toHaveLength(2);
  });
});

describe("a script", () => {
  it.each([
    ["[[script: dance]]", /No script is called 'dance'; there are write, /],
    ["[[script: fail times]]", /'times' in a script is not of the form name=value/],
    ["[[script: fail times=0]]", /'times' of the script fail takes a number from 1 to 1000000/],
    ["[[script: fail status=600]]", /'status' .* from 400 to 599/],
    ["[[script: stall after=-1]]", /'after' .* from 0 to 1000/],
    ["[[script: stall speed=3]]", /has no 'speed'; it has key, after, first, every/],
    ["[[script: toString]]", /No script is called 'toString'/],
  ])("%s is refused with the reason", (prompt, reason) => {
    expect(() => readScript("scripted-writer", prompt)).toThrow(reason);
  });

  it.each([
    "gpt-4o",
    "scripted-",
    "scripted-dance",
    "scripted-chunks",
    "scripted-bench-50x",
    "writer",
    "scripted-toString",
  ])("is not known under the name %s", (model) => {
    expect(() => readScript(model, "")).toThrow(ScriptError);
  });

  it("takes numbers at their limits", () => {
    expect(readScript("scripted-writer", "[[script: fail status=400 times=1]]").numbers).toMatchObject({
      status: 400,
      times: 1,
    });
    expect(readScript("scripted-writer", "[[script: fail status=599]]").numbers.status).toBe(599);
  });
});

describe("a tally", () => {
  it("counts each key by itself", () => {
    const tally = new Tally();
    expect([tally.within("a", 2), tally.within("a", 2), tally.within("a", 2)]).toEqual([true, true, false]);
    expect(tally.within("b", 1)).toBe(true);
  });

  it("forgets the key that was counted longest ago once it holds 10,000", () => {
    const tally = new Tally();
    tally.within("old", 1);
    for (let key = 0; key < 9_999; key++) tally.within(String(key), 1);
    expect(tally.within("old", 1)).toBe(false);
    for (let key = 0; key < 10_000; key++) tally.within(`more ${key}`, 1);
    expect(tally.within("old", 1)).toBe(true);
  });
});

describe("the request log", () => {
  it("keeps the last 1,000 and counts all", () => {
    const log = new RequestLog();
    for (let at = 1; at <= 1_001; at++) log.add({ model: "m", script: "write", stream: true, turn: 1 }, at);
    const { total, requests } = log.view();
    expect([total, requests.length, requests[0]?.id]).toEqual([1_001, 1_000, 2]);
  });
});

import { expect, test } from "vitest";
import { planTurn } from "./agent.mjs";

/** @param {string} name @param {object} [properties] */
const tool = (name, properties = {}) => ({
  name,
  parameters: { type: "object", properties, required: Object.keys(properties) },
});
/** @param {number} turns */
const said = (turns) => Array.from({ length: turns }, () => ({ role: "assistant" }));

test.each([
  [6, 8],
  [2, 3],
  [4, 0],
  [1, 5],
])("%d turns with %d calls: none in the last, each number once", (turns, calls) => {
  const tools = [tool("a", { n: { type: "integer" } }), tool("b", { n: { type: "integer" } })];
  const all = Array.from({ length: turns }, (_, at) => planTurn(said(at), tools, { turns, calls }));
  expect(all.map(({ turn }) => turn)).toEqual(all.map((_, at) => at + 1));
  expect(all.at(-1)?.calls).toEqual([]);
  const asked = all.flatMap((each) => each.calls);
  expect(asked.map((call) => JSON.parse(call.arguments).n)).toEqual(
    Array.from({ length: turns === 1 ? 0 : calls }, (_, at) => at + 1),
  );
  expect(new Set(asked.map(({ id }) => id)).size).toBe(asked.length);
  expect(asked.every(({ name }, at) => name === "ab"[at % 2])).toBe(true);
});

test("arguments are what the schema takes, and without tools there are no calls", () => {
  const properties = { s: { type: "string" }, b: { type: "boolean" }, n: { type: "number" } };
  const { calls } = planTurn([], [tool("t", properties)], { turns: 2, calls: 1 });
  expect(JSON.parse(calls[0]?.arguments ?? "")).toEqual({ s: "s 1", b: true, n: 1 });
  expect(planTurn([], [], { turns: 2, calls: 1 }).calls).toEqual([]);
});

import { expect, test } from "vitest";
import { auditBeats } from "./audit.mjs";
import { Soak } from "./soak.mjs";

const SEED = 1063; // its ten rounds hold every ending, both synchronous modes, and files looked at and not

test("ten deaths under load lose nothing, tear nothing and run no job twice", async () => {
  expect(await new Soak({ rounds: 10, seed: SEED, log: () => {} }).run()).toEqual([]);
}, 90_000);

test.each([
  ["in time, late by almost a period, and with times skipped", [7_000, 8_999, 9_000, 14_500], 0],
  ["twice for a time", [7_000, 8_001, 8_999, 9_000], 1],
  ["before a time that it has run for", [8_000, 7_999], 1],
])("a cron that runs %s", (_, moments, doubles) => {
  const beats = moments.map((at) => ({ cron: "action", at }));
  expect(auditBeats(beats, new Map([["action", 20_000]]))).toHaveLength(doubles);
});

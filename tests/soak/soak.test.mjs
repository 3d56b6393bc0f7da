import { expect, test } from "vitest";
import { Soak } from "./soak.mjs";

const SEED = 1063; // its ten rounds hold every ending, both synchronous modes, and files looked at and not

test("ten deaths under load lose nothing, tear nothing and run no job twice", async () => {
  expect(await new Soak({ rounds: 10, seed: SEED, log: () => {} }).run()).toEqual([]);
}, 90_000);

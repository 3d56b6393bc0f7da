/** `node tests/soak/main.mjs`, with ROUNDS (default 200) and SEED in the environment; ROUNDS=1 SEED=n repeats the plan of one round. */

import { Soak } from "./soak.mjs";

const rounds = Number(process.env.ROUNDS ?? 200);
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9));
if (!Number.isInteger(rounds) || rounds < 1 || !Number.isInteger(seed)) {
  console.error("soak: ROUNDS and SEED must be whole numbers, ROUNDS at least 1");
  process.exit(2);
}
console.log(`${rounds} rounds from seed ${seed}`);
const started = performance.now();
const problems = await new Soak({ rounds, seed, log: console.log }).run();
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
console.log(`nothing was lost, torn or run twice in ${Math.round((performance.now() - started) / 1000)} s`);

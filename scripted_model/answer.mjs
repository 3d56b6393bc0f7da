/**
 * Writes an answer to a prompt out of sentences that take up the prompt's own words.
 *
 * There is no model here. The sentences are true of almost any task, so that what a demo shows reads like an answer; the same
 * model and messages always give the same text.
 */

import { seeded, shuffled } from "./random.mjs";
import { tokenize } from "./tokens.mjs";

const LEAST_TOKENS = 60;
const MOST_TOKENS = 250;
const TOPIC_WORDS = 14; // more would repeat the prompt instead of taking it up

const STOP_WORDS = new Set(
  (
    "a about above after again all also am an and any are as at be because been before being below between both but by can could " +
    "did do does doing down during each every few for from further give had has have having he her here hers him his how i if in " +
    "into is it its just let like list make many may me might more most much must my name no nor not now of off on once one only " +
    "or other our out over own please same say says sentence sentences she should so some such tell than that the their them " +
    "then there these they this those three through to too two under until up us use very want was we were what when where " +
    "which while who whom why will with word words would write you your explain describe summarise summarize answer short"
  ).split(" "),
);

const OPENINGS = [
  (/** @type {string} */ topic) => `Here is a short answer on ${topic}.`,
  (/** @type {string} */ topic) => `Taking ${topic} step by step makes it easier to follow.`,
  (/** @type {string} */ topic) => `There are a few things to know about ${topic}.`,
  (/** @type {string} */ topic) => `Let us look at ${topic} from the practical side.`,
];

const SENTENCES = [
  (/** @type {string} */ a) =>
    `The first thing to settle is what "${a}" means here, because the rest depends on it.`,
  (/** @type {string} */ a, /** @type {string} */ b) =>
    `There is a close link between "${a}" and "${b}": a change to one shows in the other.`,
  (/** @type {string} */ a) =>
    `Most mistakes with "${a}" come from assuming that nothing goes wrong on the way.`,
  (/** @type {string} */ a) => `It helps to write down who owns "${a}" and when that changes hands.`,
  (/** @type {string} */ a, /** @type {string} */ b) =>
    `A simple rule works well: decide about "${a}" first, and only then about "${b}".`,
  (/** @type {string} */ a) => `For "${a}", a small example says more than a long definition.`,
  (/** @type {string} */ a) =>
    `If "${a}" fails half way, the safe course is to start again from the last known good state.`,
  (/** @type {string} */ a, /** @type {string} */ b) =>
    `When "${a}" and "${b}" disagree, trust the one that was recorded last.`,
  (/** @type {string} */ a) => `Measure "${a}" before improving it, since guesses about it are often wrong.`,
  (/** @type {string} */ a) =>
    `In practice "${a}" needs a limit, and somebody who is told when that limit is reached.`,
  (/** @type {string} */ a, /** @type {string} */ b) =>
    `Keep "${a}" apart from "${b}" where you can, so that each can be checked alone.`,
  (/** @type {string} */ a) =>
    `People who are new to "${a}" usually ask the same two questions: what it costs and how it ends.`,
];

const CLOSINGS = [
  (/** @type {string} */ a) => `In short, be clear about "${a}" and the rest follows.`,
  (/** @type {string} */ a) =>
    `That is the core of it; the next step is to try it with "${a}" on a small scale.`,
  (/** @type {string} */ a) => `With that in place, "${a}" holds no more surprises.`,
];

/**
 * Return the answer to a prompt: 60 to 250 tokens of plain English.
 * @param {string} prompt
 * @param {number} seed
 * @returns {string}
 */
export function compose(prompt, seed) {
  const random = seeded(seed);
  const words = keywords(prompt);
  const from = Math.floor(random() * words.length);
  let used = from;
  const next = () => words[used++ % words.length] ?? "";
  const opening = /** @type {(topic: string) => string} */ (shuffled(OPENINGS, random)[0])(
    topicOf(prompt, words),
  );
  const closing = /** @type {(a: string) => string} */ (shuffled(CLOSINGS, random)[0])(words[0] ?? "");
  const target = LEAST_TOKENS + Math.floor(random() * 130);
  const lines = [opening];
  let tokens = tokenize(`${opening} ${closing}`).length;
  for (const sentence of shuffled(SENTENCES, random)) {
    if (tokens >= target) break;
    const a = next();
    const b = sentence.length > 1 ? next() : "";
    const line = sentence(a, b === a ? "everything else" : b);
    const size = tokenize(` ${line}`).length;
    if (tokens + size > MOST_TOKENS) break;
    lines.push(line);
    tokens += size;
  }
  return [...lines, closing].join(" ");
}

/**
 * Return the words of a prompt that carry its meaning, each once, in their order; never empty.
 * @param {string} prompt
 * @returns {string[]}
 */
export function keywords(prompt) {
  /** @type {Map<string, string>} */
  const found = new Map();
  for (const word of prompt.match(/\p{L}[\p{L}\p{N}'’-]*/gu) ?? []) {
    const key = word.toLowerCase();
    if (word.length >= 3 && word.length <= 24 && !STOP_WORDS.has(key) && !found.has(key))
      found.set(key, word);
    if (found.size === 12) break;
  }
  return found.size > 0 ? [...found.values()] : ["the question"];
}

/**
 * Return what a prompt is about, as a phrase that fits after "about".
 * @param {string} prompt
 * @param {readonly string[]} words
 */
function topicOf(prompt, words) {
  const [clause = ""] = prompt.trim().split(/[.!?:;\n]/, 1);
  const question = clause.match(/\b(?:how|why|what|when|where|which|who)\b.*/i)?.[0] ?? "";
  const length = question.split(/\s+/).length;
  if (length >= 3 && length <= TOPIC_WORDS) return `the question "${question.trim()}"`;
  const [a = "", b] = words;
  return b === undefined ? `"${a}"` : `"${a}" and "${b}"`;
}

/** Turns a request into what will be sent and when. Pure: the same model, messages and script give the same plan. */

import { planTurn } from "./agent.mjs";
import { compose } from "./answer.mjs";
import { hash, seeded } from "./random.mjs";
import { withoutDirective } from "./script.mjs";
import { countPrompt, tokenize } from "./tokens.mjs";

/**
 * @typedef {import("./script.mjs").Script} Script
 * @typedef {"stop" | "length" | "tool_calls" | "error" | "truncate" | "stall"} Ending  the first three are finish reasons, the rest faults
 * @typedef {object} Plan
 * @property {string[]} tokens
 * @property {number[]} due     for each token, ms after the request
 * @property {number} commentMs  0, or the pause between comments that are sent instead of tokens
 * @property {Ending} ending
 * @property {number} promptTokens
 * @property {string} id
 * @property {import("./agent.mjs").ToolCall[]} calls  behind the tokens
 */

const JITTER = 0.6; // of the pause between tokens, to both sides

/**
 * @param {string} model
 * @param {readonly { role: string, text: string }[]} messages
 * @param {Script} script
 * @param {number | null} maxTokens
 * @param {readonly import("./agent.mjs").ToolSpec[]} [tools]
 * @returns {Plan}
 */
export function planAnswer(model, messages, script, maxTokens, tools = []) {
  const seed = hash(JSON.stringify([model, messages.map(({ role, text }) => [role, text])]));
  const turn = script.behaviour === "agent" ? planTurn(messages, tools, script.numbers) : null;
  const whole =
    turn?.tokens ??
    (script.behaviour === "chunks" ? chunks(script) : tokenize(compose(prompt(messages), seed)));
  const kept = Math.min(whole.length, maxTokens ?? Infinity, faultAfter(script));
  const calls = turn !== null && kept === whole.length ? turn.calls : [];
  return {
    tokens: whole.slice(0, kept),
    due: dueTimes(kept, script, seed),
    commentMs: script.behaviour === "comments" ? (script.numbers.every ?? 0) : 0,
    ending: endingOf(script) ?? (kept < whole.length ? "length" : calls.length > 0 ? "tool_calls" : "stop"),
    promptTokens: countPrompt(messages),
    id: `chatcmpl-scripted-${seed.toString(16).padStart(8, "0")}`,
    calls,
  };
}

/** @param {readonly { role: string, text: string }[]} messages */
function prompt(messages) {
  return withoutDirective(messages.findLast((message) => message.role === "user")?.text ?? "");
}

/** @param {Script} script */
function chunks(script) {
  const { n = 0, bytes = 0 } = script.numbers;
  return Array.from({ length: n }, (_, at) => `${at + 1}`.padEnd(bytes, " ").slice(0, bytes));
}

/** @param {Script} script */
function faultAfter(script) {
  if (script.behaviour === "comments") return 0;
  return endingOf(script) === null ? Infinity : (script.numbers.after ?? 0);
}

/**
 * @param {Script} script
 * @returns {Ending | null}
 */
function endingOf({ behaviour }) {
  if (behaviour === "comments") return "stall";
  return behaviour === "error" || behaviour === "truncate" || behaviour === "stall" ? behaviour : null;
}

/**
 * @param {number} count
 * @param {Script} script
 * @param {number} seed
 */
function dueTimes(count, script, seed) {
  const { first = 0, every = 0 } = script.numbers;
  if (script.behaviour === "chunks") return Array.from({ length: count }, (_, at) => (at + 1) * every);
  const random = seeded(seed ^ 0x9e3779b9); // another sequence than the text's
  let at = first;
  return Array.from({ length: count }, () => {
    const due = at;
    at += every * (1 + JITTER * (2 * random() - 1));
    return due;
  });
}

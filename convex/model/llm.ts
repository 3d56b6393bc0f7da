/** The description of an agent that a model plays: what can be wrong with it is said when it is set, not when it runs. */
import type { Infer } from "convex/values";
import {
  MAX_LLM_LIMIT,
  MAX_MODELS,
  MAX_PROMPT_BYTES,
  MAX_SCHEMA_BYTES,
  MAX_TOOLS,
  MAX_TURNS,
} from "../constants";
import { refuse } from "../errors";
import type { LlmLimits } from "../llm.validators";
import type { vLlm } from "../validators";
import { isJson } from "./json";
import { checkInteger, checkKey, fitsIn } from "./text";

const TOOL = /^[A-Za-z0-9_-]{1,64}\*?$/; // what every provider takes as a function's name; name*: all of a source

// Steps bound the turns and calls of a task: each is one of them.
const MOST: Record<keyof LlmLimits, number> = {
  maxTurns: MAX_TURNS,
  maxToolCalls: MAX_TURNS,
  maxRepeats: MAX_TURNS,
  maxTokens: MAX_LLM_LIMIT,
  maxCostMicros: MAX_LLM_LIMIT,
  maxMs: MAX_LLM_LIMIT,
};

/** @param field - the name of the agent, as messages say it */
export function checkLlm(field: string, llm: Infer<typeof vLlm>): void {
  const { prompt, model, models, fallbackOn = [], tools = [], outputSchema, limits = {} } = llm;
  if (!fitsIn(prompt, MAX_PROMPT_BYTES)) {
    throw refuse("payload_too_large", `${field}.prompt: over ${MAX_PROMPT_BYTES} bytes; shorten it.`);
  }
  if (models !== undefined) {
    if (model !== null) throw refuse("invalid_argument", `${field}: give model or models, not both.`);
    if (models.length < 1 || models.length > MAX_MODELS) {
      throw refuse("invalid_argument", `${field}.models: ${models.length} given; 1 to ${MAX_MODELS}.`);
    }
    for (const name of models) checkKey(`${field}.models`, name);
  }
  if (fallbackOn.length > 2) {
    throw refuse("invalid_argument", `${field}.fallbackOn: ${fallbackOn.length} given, at most 2.`);
  }
  if (tools.length > MAX_TOOLS) {
    throw refuse("invalid_argument", `${field}.tools: ${tools.length} given, at most ${MAX_TOOLS}.`);
  }
  for (const name of tools) {
    if (!TOOL.test(name)) {
      const shown = JSON.stringify(name.slice(0, 80));
      throw refuse(
        "invalid_argument",
        `${field}.tools: ${shown} is no tool's name: 1 to 64 letters, digits, _ and -.`,
      );
    }
  }
  checkSchema(`${field}.outputSchema`, outputSchema);
  for (const [name, limit] of Object.entries(limits)) {
    checkInteger(`${field}.limits.${name}`, limit, 1, MOST[name as keyof LlmLimits]);
  }
}

/** Whether it is a schema that can be kept to, the worker says: it is the one that checks outputs. */
function checkSchema(field: string, schema: string | undefined): void {
  if (schema === undefined) return;
  if (!fitsIn(schema, MAX_SCHEMA_BYTES)) {
    throw refuse("payload_too_large", `${field}: over ${MAX_SCHEMA_BYTES} bytes; shorten it.`);
  }
  if (!isJson(schema) || !schema.trimStart().startsWith("{")) {
    throw refuse("invalid_argument", `${field}: give the JSON text of a schema, an object.`);
  }
}

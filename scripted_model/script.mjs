/**
 * Reads how a request wants to be answered: from its model's name, or from a directive in the last user message such as
 * `[[script: fail key=demo times=2]]`. The directive wins over the name.
 */

/**
 * @typedef {"write" | "chunks" | "fail" | "rate-limit" | "error" | "truncate" | "stall" | "comments" | "slow-start" | "agent"} Behaviour
 * @typedef {object} Script
 * @property {Behaviour} behaviour
 * @property {Record<string, number>} numbers  every number of the behaviour, defaults filled in
 * @property {string} key  what `fail`, `rate-limit` and `agent` count by; empty: the prompt itself
 */

/** A request that names no script; `code` goes into the answer. */
export class ScriptError extends Error {
  /**
   * @param {string} message
   * @param {"model_not_found" | "invalid_script"} code
   */
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

/** @typedef {Record<string, [number, number, number]>} Numbers  by name: default, smallest, largest; times in ms */

/** @type {Numbers} */
const PACE = { first: [300, 0, 600_000], every: [28, 0, 60_000] };
/** @type {Numbers} */
const AFTER = { after: [8, 0, 1_000] };

/** @type {Record<Behaviour, Numbers>} */
const NUMBERS = {
  write: PACE,
  chunks: { n: [50, 1, 100_000], bytes: [6, 1, 65_536], every: [20, 0, 60_000] },
  fail: { times: [1, 1, 1_000_000], status: [503, 400, 599], ...PACE },
  "rate-limit": { times: [1, 1, 1_000_000], after: [1, 0, 86_400], ...PACE },
  error: { ...AFTER, ...PACE },
  truncate: { ...AFTER, ...PACE },
  stall: { ...AFTER, ...PACE },
  comments: { every: [100, 1, 60_000] },
  "slow-start": { ...PACE, first: [3_000, 0, 600_000] },
  agent: {
    turns: [3, 1, 1_000],
    calls: [2, 0, 10_000],
    stall: [0, 0, 1_000],
    first: [0, 0, 600_000],
    every: [0, 0, 60_000],
  },
};

const BENCH = /^scripted-bench-(\d{1,6})x(\d{1,5})ms(?:-(\d{1,5})b)?$/;
const DIRECTIVE = /\[\[script:([^\]]*)\]\]/;

/** Models to choose from; `scripted-bench-NxMms` and `scripted-bench-NxMms-Sb` exist for all numbers. */
export const MODELS = [
  "scripted-writer",
  "scripted-instant",
  ...Object.keys(NUMBERS)
    .filter((name) => name !== "write" && name !== "chunks")
    .map((name) => `scripted-${name}`),
  "scripted-bench-50x20ms",
];

/**
 * Return the script of a request.
 * @param {string} model
 * @param {string} prompt  the last user message
 * @returns {Script}
 * @throws {ScriptError}
 */
export function readScript(model, prompt) {
  const named = scriptOfModel(model);
  const directive = DIRECTIVE.exec(prompt);
  return directive ? scriptOfDirective(directive[1] ?? "") : named;
}

/**
 * Return a prompt without its directive.
 * @param {string} prompt
 */
export function withoutDirective(prompt) {
  return prompt.replace(DIRECTIVE, "").trim();
}

/**
 * @param {string} model
 * @returns {Script}
 */
function scriptOfModel(model) {
  if (model === "scripted-writer") return script("write", {});
  if (model === "scripted-instant") return script("write", { first: "0", every: "0" });
  const bench = BENCH.exec(model);
  if (bench) {
    const [, n = "", every = "", bytes] = bench;
    return script("chunks", bytes === undefined ? { n, every } : { n, every, bytes });
  }
  const name = model.replace(/^scripted-/, "");
  if (MODELS.includes(model) && name in NUMBERS) return script(/** @type {Behaviour} */ (name), {});
  throw new ScriptError(
    `There is no model '${model.slice(0, 100)}' here; this is a scripted model server, GET /v1/models lists what it plays`,
    "model_not_found",
  );
}

/**
 * @param {string} text  what stands behind `script:`
 * @returns {Script}
 */
function scriptOfDirective(text) {
  const [name = "", ...settings] = text.trim().split(/\s+/);
  if (!Object.hasOwn(NUMBERS, name)) {
    throw new ScriptError(
      `No script is called '${name}'; there are ${Object.keys(NUMBERS).join(", ")}`,
      "invalid_script",
    );
  }
  /** @type {Record<string, string>} */
  const given = {};
  for (const setting of settings) {
    const [field = "", value] = setting.split("=");
    if (value === undefined)
      throw new ScriptError(`'${setting}' in a script is not of the form name=value`, "invalid_script");
    given[field] = value;
  }
  return script(/** @type {Behaviour} */ (name), given);
}

/**
 * @param {Behaviour} behaviour
 * @param {Record<string, string>} given
 * @returns {Script}
 */
function script(behaviour, given) {
  const { key = "", ...settings } = given;
  const known = NUMBERS[behaviour];
  /** @type {Record<string, number>} */
  const numbers = {};
  for (const [name, [usual, least, most]] of Object.entries(known)) {
    const value =
      settings[name] === undefined ? usual : /^\d+$/.test(settings[name]) ? Number(settings[name]) : NaN;
    if (!(value >= least && value <= most)) {
      throw new ScriptError(
        `'${name}' of the script ${behaviour} takes a number from ${least} to ${most}`,
        "invalid_script",
      );
    }
    numbers[name] = value;
  }
  const unknown = Object.keys(settings).find((name) => !Object.hasOwn(known, name));
  if (unknown !== undefined) {
    throw new ScriptError(
      `The script ${behaviour} has no '${unknown}'; it has ${["key", ...Object.keys(known)].join(", ")}`,
      "invalid_script",
    );
  }
  return { behaviour, numbers, key };
}

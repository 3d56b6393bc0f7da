/** What an endpoint says, in an answer or a callback, in the control plane's terms. Pure. */
import { parse, validate } from "convex-helpers/validators";
import { v, type Infer } from "convex/values";
import { BUSY_ENDPOINT_MS, MAX_HEALTH_BYTES, MAX_RETRY_AFTER_MS, MAX_SYNC_ITEMS } from "../constants";
import { vSpending } from "../budget.validators";
import { vCallReport, vModelReport } from "../model.validators";
import { vVersion } from "../version.validators";
import {
  vAgentOffer,
  vChunkKind,
  vFault,
  vOutcome,
  vProgressReport,
  vReleased,
  vSilence,
  vStepReport,
  vSuspended,
  vTaskSpec,
  vUsage,
  type Fault,
} from "../validators";

const vPiece = v.object({
  seq: v.number(),
  kind: v.optional(vChunkKind),
  text: v.string(),
  call: v.optional(v.number()),
  attempt: v.optional(v.number()),
});

const vStep = vStepReport.omit("run", "signal").extend({ signal: v.union(v.string(), v.null()) }); // its id, as told
const vCall = vCallReport.omit("run");
const vSpent = vSpending.omit("run");

/** What an endpoint may leave out, it may leave out; what it adds is passed over. */
const vGiven = v.object({
  outcome: v.optional(
    v.union(
      v.object({ kind: v.literal("succeeded"), output: v.optional(v.union(v.string(), v.null())) }),
      v.object({
        kind: v.literal("failed"),
        error: vFault,
        retryable: v.optional(v.boolean()),
        notBeforeMs: v.optional(v.union(v.number(), v.null())),
        redo: v.optional(v.array(v.string())),
      }),
      v.object({ kind: v.literal("cancelled") }),
      vReleased,
      vSuspended,
      v.null(),
    ),
  ),
  usage: v.optional(v.union(vUsage, v.null())),
  chunks: v.optional(v.array(vPiece)),
  next: v.optional(v.array(vTaskSpec)),
  progress: v.optional(
    v.object({
      done: v.number(),
      total: v.optional(v.union(v.number(), v.null())),
      message: v.optional(v.string()),
    }),
  ),
  state: v.optional(v.string()), // JSON text
  steps: v.optional(
    v.array(
      vStep.omit("kind", "signal").extend({
        kind: v.optional(vStep.fields.kind),
        signal: v.optional(vStep.fields.signal),
      }),
    ),
  ),
  calls: v.optional(v.array(vCall)),
  models: v.optional(v.array(vModelReport)),
  spending: v.optional(vSpent),
  playedBy: v.optional(vVersion),
});

const vRefusal = v.object({ error: vFault });

/** What a run has done and said, and its outcome if it has one. */
export const vReport = v.object({
  chunks: v.array(
    v.object({
      seq: v.number(),
      kind: vChunkKind,
      text: v.string(),
      call: v.number(),
      attempt: v.number(),
    }),
  ),
  outcome: v.union(vOutcome, v.null()),
  usage: v.union(vUsage, v.null()),
  progress: vProgressReport.fields.progress,
  state: v.union(v.string(), v.null()),
  steps: v.array(vStep),
  calls: v.array(vCall),
  models: v.array(vModelReport),
  spending: v.union(vSpent, v.null()),
  playedBy: v.union(vVersion, v.null()), // the code that plays the run; null: it does not tell
});
export type Report = Infer<typeof vReport>;

export const vAnswer = v.union(
  v.object({ kind: v.literal("report"), report: vReport }),
  v.object({ kind: v.literal("taken") }), // the result will follow
  v.object({ kind: v.literal("busy"), notBeforeMs: v.number() }),
  v.object({ kind: v.literal("other_version") }), // its code is not what the task began with
  v.object({ kind: v.literal("failed"), error: vFault, retryable: v.boolean() }),
  v.object({ kind: v.literal("unreachable"), error: vFault }),
);
export type Answer = Infer<typeof vAnswer>;

/** What a call over HTTP brought, or why it brought nothing. */
export type Reply =
  | { status: number; retryAfter: string | null; text: string | null } // text: null when it was too large
  | { failure: "unreachable" | "timeout"; message: string };

/**
 * Read a report.
 * @returns the report, or what is wrong with the text
 */
export function readReport(value: unknown): Report | string {
  try {
    validate(vGiven, value, { throw: true, allowUnknownFields: true });
  } catch (error) {
    return error instanceof Error ? error.message.slice(0, 300) : "malformed";
  }
  const given = parse(vGiven, value);
  const { next = [], outcome = null } = given;
  const redo = outcome?.kind === "failed" ? outcome.redo : undefined;
  const { chunks, steps, calls, models } = given;
  const flaw = unfit(given, { chunks, steps, calls, models, next, redo }, MAX_SYNC_ITEMS);
  if (flaw !== null) return flaw;
  if (next.length > 0 && outcome?.kind !== "succeeded") {
    return "next: tasks come next when a run has succeeded; while it goes on, ask for them (spawn)";
  }
  return {
    chunks: (given.chunks ?? []).map(({ seq, kind = "text", text, call = 0, attempt = 1 }) => ({
      seq,
      kind,
      text,
      call,
      attempt,
    })),
    outcome: outcomeOf(outcome, next),
    usage: given.usage ?? null,
    progress: progressOf(given.progress),
    state: given.state ?? null,
    steps: (given.steps ?? []).map(({ kind = "step", signal = null, ...more }) => ({
      ...more,
      kind,
      signal,
    })),
    calls: given.calls ?? [],
    models: given.models ?? [],
    spending: given.spending ?? null,
    playedBy: given.playedBy ?? null,
  };
}

function progressOf(given: Infer<typeof vGiven>["progress"]): Report["progress"] {
  return given === undefined
    ? null
    : { done: given.done, total: given.total ?? null, message: given.message ?? "" };
}

type Given = Infer<typeof vGiven>;

function outcomeOf(
  given: NonNullable<Given["outcome"]> | null,
  next: NonNullable<Given["next"]>,
): Report["outcome"] {
  if (given?.kind === "succeeded") {
    const last = next.length === 0 ? {} : { next: JSON.stringify(next) };
    return { kind: "succeeded", output: given.output ?? null, ...last };
  }
  if (given?.kind !== "failed") return given;
  const { error, retryable = true, notBeforeMs = null, redo } = given;
  return { kind: "failed", error, retryable, notBeforeMs, ...(redo && { redo }) };
}

/**
 * What the answer to a run that was pushed means.
 *
 * A result ends the run. Being turned away (429, or 503 with a time, or 409 for want of the code that the task began with) hands
 * it back. What the endpoint will not take however often it is asked (other 4xx, a redirect) fails the task, and everything
 * else is tried again. No answer at all is like a worker that went silent: the run may have begun.
 */
export function answerOf(reply: Reply, now: number): Answer {
  if ("failure" in reply) {
    const error = fault(`endpoint_${reply.failure}`, reply.message);
    return reply.failure === "timeout"
      ? { kind: "failed", error, retryable: true }
      : { kind: "unreachable", error };
  }
  const { status, text } = reply;
  const notBeforeMs = retryAfterMs(reply.retryAfter, now);
  if (status === 202) return { kind: "taken" };
  if (status === 429 || (status === 503 && notBeforeMs !== null))
    return { kind: "busy", notBeforeMs: notBeforeMs ?? BUSY_ENDPOINT_MS };
  if (status >= 200 && status < 300) return resultOf(text);
  if (status === 0 || (status >= 300 && status < 400)) {
    const error = fault("endpoint_redirected", `the endpoint answered ${status}: redirects are not followed`);
    return { kind: "failed", error, retryable: false };
  }
  const error = faultIn(text, status);
  if (status === 409 && error.code === "other_version") return { kind: "other_version" };
  // Something between has sent it twice: what came first is being played, and its result follows, or its loss is seen.
  if (status === 409 && error.code === "replayed") return { kind: "taken" };
  const retryable = status >= 500 || status === 408 || status === 425;
  return { kind: "failed", error, retryable };
}

// It could not tell who called, does not know the run yet, or has no time now.
const NOT_HEARD = [401, 403, 404, 408, 425, 429];

/** Whether an endpoint has heard what it was told of a run: then it is not told again. */
export const isHeard = (reply: Reply): boolean =>
  !("failure" in reply) && reply.status < 500 && !NOT_HEARD.includes(reply.status);

function resultOf(text: string | null): Answer {
  if (text === null) {
    const error = fault("endpoint_answer_too_large", "the endpoint's answer is too large");
    return { kind: "failed", error, retryable: true };
  }
  const value = jsonOf(text);
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  const report = isObject ? readReport(value) : "it is no JSON object";
  if (typeof report !== "string" && report.outcome !== null) return { kind: "report", report };
  const why = typeof report === "string" ? report : "it has no outcome";
  return {
    kind: "failed",
    error: fault("endpoint_bad_answer", `the endpoint's answer is no result: ${why}`),
    retryable: true,
  };
}

/** The endpoint's own words, if it says what is wrong as `{"error": {"code": ..., "message": ...}}`. */
function faultIn(text: string | null, status: number): Fault {
  const value = jsonOf(text ?? "");
  if (validate(vRefusal, value, { allowUnknownFields: true })) return parse(vRefusal, value).error;
  return fault(`endpoint_http_${status}`, `the endpoint answered ${status}`);
}

const MAX_LIST_ITEMS = 8_000; // of one list: an array of Convex holds 8,192

const vSilent = v.array(vSilence.extend({ run: v.string() }));
const vOffered = v.array(vAgentOffer.pick("name", "version", "code"));

const vHealth = v.object({
  runs: v.optional(v.array(v.string())),
  silent: v.optional(vSilent),
  agents: v.optional(vOffered),
  forks: v.optional(v.boolean()),
});

/** What an endpoint tells of itself, each time all of it. */
export const vTold = v.object({
  runs: v.union(v.array(v.string()), v.null()), // at which it works; null: it does not say
  silent: vSilent, // of these
  agents: vOffered, // the code of those that it plays
  forks: v.boolean(), // it keeps forks from effects
});
export type Told = Infer<typeof vTold>;

/**
 * Read the answer to a signed health check: a JSON object that tells of the endpoint, or any other text, which tells nothing.
 * @returns what it tells, or what is wrong with that
 */
export function toldIn(text: string | null): Told | string {
  if (text === null) return `the answer to a check is over ${MAX_HEALTH_BYTES} bytes`;
  const value = jsonOf(text);
  const given = typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
  try {
    validate(vHealth, given, { throw: true, allowUnknownFields: true });
  } catch (error) {
    return `the answer to a check: ${error instanceof Error ? error.message.slice(0, 250) : "malformed"}`;
  }
  const told = parse(vHealth, given);
  const { runs = null, silent = [], agents = [], forks = false } = told;
  const flaw = unfit(told, { runs: runs ?? [], silent, agents }, MAX_LIST_ITEMS);
  if (flaw !== null) return `the answer to a check: ${flaw}`;
  return { runs, silent, agents, forks };
}

/**
 * Why what was read cannot be given to a function, which then could not even say that it refuses it; null when it can.
 *
 * @param value - all of it
 * @param lists - of it, by their fields
 */
export function unfit(
  value: unknown,
  lists: Record<string, readonly unknown[] | undefined>,
  most: number = MAX_LIST_ITEMS,
): string | null {
  for (const [field, list = []] of Object.entries(lists))
    if (list.length > most) return `${field}: ${list.length} items, at most ${most}`;
  return isText(value) ? null : "a text in it holds half of a surrogate pair, and is no Unicode";
}

/** Whether every text in a value is Unicode. */
function isText(value: unknown): boolean {
  if (typeof value === "string") return !/\p{Surrogate}/u.test(value);
  return typeof value !== "object" || value === null || Object.values(value).every(isText);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @returns milliseconds; null when the header says nothing that can be read */
export function retryAfterMs(header: string | null, now: number): number | null {
  if (header === null) return null;
  const ms = /^\d{1,9}$/.test(header.trim()) ? Number(header) * 1000 : Date.parse(header) - now;
  return Number.isNaN(ms) ? null : Math.min(Math.max(0, ms), MAX_RETRY_AFTER_MS);
}

const fault = (code: string, message: string): Fault => ({ code, message });

/** Models of providers: what workers tell of them and are told, what is kept of each attempt at a call. */
import { v, type Infer } from "convex/values";

// As validators.ts has it, which imports this module.
const vFault = v.object({ code: v.string(), message: v.string() });

const orNull = v.union(v.number(), v.null());

// What became of an attempt. superseded: it had shown text when it failed, and a later attempt took its place.
export const vCallState = v.union(
  v.literal("succeeded"),
  v.literal("failed"),
  v.literal("superseded"),
  v.literal("cancelled"),
);

const call = {
  run: v.id("runs"),
  call: v.number(), // counts the calls of the run from 1, as its chunks do
  attempt: v.number(), // counts the attempts of the call from 1
  model: v.string(), // provider/model
  provider: v.string(),
  startedMs: v.number(), // after the run's start, by its worker's clock
  ms: v.number(),
  state: vCallState,
  error: v.union(vFault, v.null()),
  usage: v.union(
    v.object({
      inputTokens: orNull, // the whole prompt; null: not told
      outputTokens: orNull,
      cachedInputTokens: v.number(), // a part of inputTokens, as cacheWriteTokens
      cacheWriteTokens: v.number(),
      reasoningTokens: v.number(), // a part of outputTokens
    }),
    v.null(), // nothing is known, or the provider never got to work
  ),
  costMicros: orNull, // micro-dollars; null: no price is known
  estimated: v.boolean(), // usage and cost are the worker's own estimate
};

/** What a worker tells of an attempt. */
export const vCallReport = v.object(call);
export type CallReport = Infer<typeof vCallReport>;

/** What is kept of it. */
export const vModelCall = v.object({ ...call, task: v.id("tasks") });
export type ModelCall = Infer<typeof vModelCall>;

/** What happened with a model in one worker since its last report. */
export const vModelReport = v.object({
  model: v.string(),
  requests: v.number(), // attempts that ended
  failures: v.number(), // of them, for a reason that says something of the model
  tokens: v.number(),
  error: v.union(vFault, v.null()), // of the last failure of any kind
  coolMs: orNull, // nobody is to ask it for so long, since it said so
  share: v.union(
    v.object({
      configured: v.number(), // which state of the limits it obeys from here on, and which share
      rev: v.number(),
      usedRequests: v.number(), // what may still count at the provider
      usedTokens: v.number(),
      waiting: v.number(), // calls that wait for a larger share
      leastTokens: v.number(), // of the largest of them
    }),
    v.null(), // it knows of no limit
  ),
});
export type ModelReport = Infer<typeof vModelReport>;

/** What a worker is told of a model. */
export const vModelState = v.object({
  model: v.string(),
  coolMs: v.number(),
  error: v.union(vFault, v.null()), // why it cools
  configured: v.number(), // grows with each change by an operator
  rev: v.number(), // grows with each change of this worker's share
  perMs: v.number(), // the time in which the limits count
  requests: orNull, // this worker's share of the limit; null: there is none
  tokens: orNull,
  mostTokens: orNull, // the whole limit of tokens
});
export type ModelState = Infer<typeof vModelState>;

/** What an endpoint is told: how models stand, and for which session; with another session its shares begin anew. */
export const vModelStanding = v.object({ session: v.id("sessions"), models: v.array(vModelState) });
export type ModelStanding = Infer<typeof vModelStanding>;

const vCounted = v.object({ requests: v.number(), failures: v.number(), tokens: v.number() });

/** A model as operators see it. */
export const vModelView = v.object({
  model: v.string(),
  requests: orNull, // limits
  tokens: orNull,
  perMs: v.number(),
  coolMs: v.number(), // 0: it does not cool
  error: v.union(vFault, v.null()), // the last failure, of any kind
  errorAt: orNull, // milliseconds since the epoch
  minute: vCounted, // the last whole minute in which workers reported something, or the one before now
  total: vCounted,
  shares: v.number(), // workers that hold a share of its limits
});
export type ModelView = Infer<typeof vModelView>;

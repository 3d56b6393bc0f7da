/** Runs that go to endpoints over HTTP, and what comes back. The actions talk; every decision is a mutation's. */
import { v } from "convex/values";
import { internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { env, httpAction, internalAction, internalMutation, internalQuery } from "./_generated/server";
import {
  CONTROL_CALL_MS,
  HEALTH_TIMEOUT_MS,
  MAX_ANSWER_BYTES,
  MAX_ASK_BYTES,
  MAX_HEALTH_BYTES,
  WAKE_TIMEOUT_MS,
} from "./constants";
import { answerOf, isHeard, readReport, toldIn, vAnswer, vReport, vTold, type Reply } from "./model/answers";
import { answerQuestion, meetDemand, readAsked, vDemand, vQuestion } from "./model/asking";
import * as Attending from "./model/attending";
import { call } from "./model/calling";
import * as Controls from "./model/controls";
import type { Refusal } from "./errors";
import * as Push from "./model/push";
import { flaw, secretsOf } from "./model/signing";
import { statesFor } from "./model/models";
import { vModelStanding, vModelState } from "./model.validators";
import { vAssignment } from "./validators";

const vRoute = v.object({
  url: v.string(),
  healthUrl: v.union(v.string(), v.null()),
  secretVariable: v.string(),
});
const vAnswered = { asked: v.number(), ok: v.boolean(), error: v.union(v.string(), v.null()) };

/* ---- out ---- */

/** Send one run to its endpoint. */
export const deliver = internalAction({
  args: { run: v.id("runs") },
  returns: v.null(),
  handler: async (ctx, { run }) => {
    const letter = await ctx.runMutation(internal.push.begin, { run });
    if (letter === null) return null;
    const { assignment, large, url, secretVariable, timeoutMs, version, standing } = letter;
    const body = JSON.stringify({
      type: "run",
      ...assignment,
      inputUrl: large ? `${env.CONVEX_SITE_URL}/push/input` : null,
      callbackUrl: `${env.CONVEX_SITE_URL}/push/callback`,
      askUrl: `${env.CONVEX_SITE_URL}/push/ask`,
      answerWithinMs: timeoutMs,
      version,
      standing: standing ?? null,
    });
    const sent = { url, method: "POST" as const, id: run, body, secretVariable, timeoutMs };
    const answer = answerOf(await call({ ...sent, maxBytes: MAX_ANSWER_BYTES }), Date.now());
    try {
      await persistently(() => ctx.runMutation(internal.push.settle, { run, answer }));
    } catch (error) {
      // Nobody else knows of the answer: the run must not wait for it until its time is over.
      console.error(`run ${run}: the endpoint's answer cannot be kept: ${String(error)}`);
      const message = "the endpoint's answer cannot be kept; the deployment's log says why";
      const failed = { kind: "failed" as const, error: { code: "endpoint_bad_answer", message } };
      const given = { run, answer: { ...failed, retryable: true } };
      await persistently(() => ctx.runMutation(internal.push.settle, given));
    }
    return null;
  },
});

/** Ask an endpoint how it does. */
export const check = internalAction({
  args: { endpoint: v.id("endpoints"), asked: v.number() },
  returns: v.null(),
  handler: async (ctx, { endpoint, asked }) => {
    const route = await ctx.runQuery(internal.push.route, { endpoint });
    if (route === null) return null;
    const { url, healthUrl, secretVariable } = route;
    const reply = await call({
      url: healthUrl ?? url,
      method: "GET",
      id: `health-${asked}`,
      body: "",
      secretVariable,
      timeoutMs: HEALTH_TIMEOUT_MS,
      maxBytes: MAX_HEALTH_BYTES,
    });
    const error = trouble(reply, (status) => (healthUrl === null ? status < 500 : isFine(status)));
    const told = "text" in reply && isFine(reply.status) ? toldIn(reply.text) : null;
    const answered = typeof told === "string" ? { error: error ?? told, told: null } : { error, told };
    const ok = error === null;
    await persistently(() => ctx.runMutation(internal.push.checked, { endpoint, asked, ok, ...answered }));
    return null;
  },
});

/** Tell an endpoint that work waits. It may answer once it is done. */
export const wake = internalAction({
  args: { endpoint: v.id("endpoints"), asked: v.number() },
  returns: v.null(),
  handler: async (ctx, { endpoint, asked }) => {
    const route = await ctx.runQuery(internal.push.route, { endpoint });
    if (route === null) return null;
    const reply = await call({
      url: route.url,
      method: "POST",
      id: `wake-${endpoint}-${asked}`,
      body: JSON.stringify({ type: "wake" }),
      secretVariable: route.secretVariable,
      timeoutMs: WAKE_TIMEOUT_MS,
      maxBytes: MAX_HEALTH_BYTES,
    });
    // One that is still at it has been woken.
    const busy = "failure" in reply && reply.failure === "timeout";
    const error = busy ? null : trouble(reply, isFine);
    const answered = { endpoint, asked, ok: error === null, error, done: saysDone(reply) };
    await persistently(() => ctx.runMutation(internal.push.woken, answered));
    return null;
  },
});

/**
 * Tell an endpoint something of a run that it holds: to stop it or to hand it back, a signal, what it may spend. What it does not
 * hear, or not of this run yet, it is told again when its alarm rings.
 */
export const tell = internalAction({
  args: { control: v.id("controls") },
  returns: v.null(),
  handler: async (ctx, { control }) => {
    const told = await ctx.runQuery(internal.push.toTell, { control });
    if (told === null) return null;
    const { url, secretVariable, body } = told;
    const reply = await call({
      ...{ url, method: "POST", id: `control-${control}`, body, secretVariable },
      timeoutMs: CONTROL_CALL_MS,
      maxBytes: MAX_HEALTH_BYTES,
    });
    if (!isHeard(reply)) return null;
    await persistently(() => ctx.runMutation(internal.push.heard, { control }));
    return null;
  },
});

/** Whether an answer to a wake-up call says that a worker has come and gone. */
function saysDone(reply: Reply): boolean {
  const value = "text" in reply && isFine(reply.status) && reply.text !== null ? jsonOf(reply.text) : null;
  return typeof value === "object" && value !== null && "done" in value && value.done === true;
}

const isFine = (status: number) => status >= 200 && status < 300;

function trouble(reply: Reply, isWell: (status: number) => boolean): string | null {
  if ("failure" in reply) return reply.message;
  return isWell(reply.status) ? null : `it answered ${reply.status}`;
}

/** What is known now is known to nobody else: a mutation that lost its conflicts is called again. */
async function persistently(write: () => Promise<unknown>): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await write();
      return;
    } catch (error) {
      if (tries === 5) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200 * 2 ** tries));
    }
  }
}

/* ---- in ---- */

/** An endpoint tells of a run. */
export const callback = httpAction(async (ctx, request) => {
  const read = await readSigned(ctx, request);
  if (read instanceof Response) return read;
  const report = readReport(read.value);
  const attempt = attemptIn(read.value);
  if (attempt === null) return noAttempt();
  if (typeof report === "string") return refused(400, "invalid_argument", report);
  const { run, message } = read;
  return orRefused(async () => {
    const called = await ctx.runMutation(internal.push.called, { message, run, attempt, report });
    if (!called.ok) return refused(409, called.code, called.message);
    const { stop, standing } = called;
    return Response.json({ stop, standing: standing ?? null });
  });
});

/** An endpoint asks something for a run: what it has done before, for children, for room for a large output. */
export const ask = httpAction(async (ctx, request) => {
  const read = await readSigned(ctx, request, MAX_ASK_BYTES);
  if (read instanceof Response) return read;
  const asked = readAsked(read.value);
  if (typeof asked === "string") return refused(400, "invalid_argument", asked);
  const attempt = attemptIn(read.value);
  if (attempt === null) return noAttempt();
  const of = { run: read.run, attempt };
  return orRefused(async () => {
    const answer =
      asked.kind === "question"
        ? await ctx.runQuery(internal.push.answer, { ...of, question: asked.question })
        : await ctx.runMutation(internal.push.meet, { ...of, demand: asked.demand });
    return answer === null
      ? refused(409, "run_ended", "The run has ended, or has another attempt.")
      : new Response(answer, { headers: { "content-type": "application/json" } });
  });
});

const attemptIn = (value: unknown): number | null => {
  const { attempt } = value as { attempt?: unknown };
  return typeof attempt === "number" ? attempt : null;
};

const noAttempt = () => refused(400, "invalid_argument", "attempt: a number is needed.");

/** What a function refuses, its caller has to answer for. */
async function orRefused(answer: () => Promise<Response>): Promise<Response> {
  try {
    return await answer();
  } catch (error) {
    const { data } = error as { data?: Refusal };
    if (data === undefined) throw error;
    return refused(data.code === "not_found" ? 404 : 400, data.code, data.message);
  }
}

/** An endpoint fetches an input that is too large for its letter. */
export const input = httpAction(async (ctx, request) => {
  const read = await readSigned(ctx, request);
  if (read instanceof Response) return read;
  const text = await ctx.runQuery(internal.push.inputOf, { run: read.run });
  if (text === null) return refused(409, "run_ended", "The run has ended.");
  return new Response(text, { headers: { "content-type": "application/json" } });
});

type HttpCtx = Parameters<Parameters<typeof httpAction>[0]>[0];
type Read = { value: unknown; run: Id<"runs">; message: string };

/** The body of a request, if the endpoint that holds the run it names has signed it. Who has not, learns nothing. */
async function readSigned(
  ctx: HttpCtx,
  request: Request,
  maxBytes: number = MAX_ANSWER_BYTES,
): Promise<Read | Response> {
  if (Number(request.headers.get("content-length") ?? 0) > maxBytes) return tooLarge(maxBytes);
  const bytes = await request.arrayBuffer();
  if (bytes.byteLength > maxBytes) return tooLarge(maxBytes);
  const body = new TextDecoder().decode(bytes);
  const [id, timestamp, signature] = ["id", "timestamp", "signature"].map((name) =>
    request.headers.get(`webhook-${name}`),
  ) as [string | null, string | null, string | null];
  const value = jsonOf(body);
  const run = typeof value === "object" && value !== null && "run" in value ? value.run : null;
  const route = typeof run === "string" ? await ctx.runQuery(internal.push.routeOfRun, { run }) : null;
  const secrets = route && secretsOf(env[route.secretVariable]);
  const wrong =
    secrets === null
      ? "no run of an endpoint"
      : await flaw(secrets, { id, timestamp, signature }, body, Date.now());
  if (wrong === null) return { value, run: run as Id<"runs">, message: id! };
  console.warn(`a callback was refused: ${wrong}`);
  return refused(401, "unauthorized", "The signature does not hold.");
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const refused = (status: number, code: string, message: string) =>
  Response.json({ code, message }, { status });

const tooLarge = (maxBytes: number) =>
  refused(413, "payload_too_large", `At most ${maxBytes} bytes are taken.`);

/* ---- what the actions read and write ---- */

export const begin = internalMutation({
  args: { run: v.id("runs") },
  returns: v.union(
    v.null(),
    v.object({
      ...vRoute.fields,
      assignment: vAssignment,
      large: v.boolean(),
      timeoutMs: v.number(),
      version: v.union(v.string(), v.null()),
      standing: v.optional(vModelStanding),
    }),
  ),
  handler: (ctx, { run }) => Push.begin(ctx, run, Date.now()),
});

export const settle = internalMutation({
  args: { run: v.id("runs"), answer: vAnswer },
  returns: v.null(),
  handler: async (ctx, { run, answer }) => {
    await Push.settle(ctx, run, answer, Date.now());
    return null;
  },
});

export const called = internalMutation({
  args: { message: v.string(), run: v.id("runs"), attempt: v.number(), report: vReport },
  returns: v.union(
    v.object({ ok: v.literal(true), stop: v.boolean(), standing: v.optional(vModelStanding) }),
    v.object({
      ok: v.literal(false),
      code: v.union(v.literal("replayed"), v.literal("run_ended")),
      message: v.string(),
    }),
  ),
  handler: (ctx, given) => Push.takeCallback(ctx, given, Date.now()),
});

/** What `begin` and `called` read from a snapshot, so that nothing that is settled of models conflicts with them. */
export const standing = internalQuery({
  args: { session: v.id("sessions") },
  returns: v.array(vModelState),
  handler: (ctx, { session }) => statesFor(ctx, session),
});

/** @returns JSON text; null when the run is not to be asked about any more */
export const answer = internalQuery({
  args: { run: v.id("runs"), attempt: v.number(), question: vQuestion },
  returns: v.union(v.string(), v.null()),
  handler: async (ctx, { run: id, attempt, question }) => {
    const run = await Push.liveRun(ctx, id, attempt);
    return run && JSON.stringify(await answerQuestion(ctx, run, question));
  },
});

/** @returns as `answer` does */
export const meet = internalMutation({
  args: { run: v.id("runs"), attempt: v.number(), demand: vDemand },
  returns: v.union(v.string(), v.null()),
  handler: async (ctx, { run: id, attempt, demand }) => {
    const run = await Push.liveRun(ctx, id, attempt);
    return run && JSON.stringify(await meetDemand(ctx, run, demand));
  },
});

export const toTell = internalQuery({
  args: { control: v.id("controls") },
  returns: v.union(v.null(), v.object({ ...vRoute.fields, run: v.id("runs"), body: v.string() })),
  handler: (ctx, { control }) => Push.toTell(ctx, control),
});

export const heard = internalMutation({
  args: { control: v.id("controls") },
  returns: v.null(),
  handler: async (ctx, { control }) => {
    await Controls.heard(ctx, control);
    return null;
  },
});

export const inputOf = internalQuery({
  args: { run: v.id("runs") },
  returns: v.union(v.string(), v.null()),
  handler: (ctx, { run }) => Push.inputOf(ctx, run),
});

export const route = internalQuery({
  args: { endpoint: v.id("endpoints") },
  returns: v.union(vRoute, v.null()),
  handler: async (ctx, { endpoint }) => {
    const row = await ctx.db.get("endpoints", endpoint);
    return row && Push.routeOf(row);
  },
});

export const routeOfRun = internalQuery({
  args: { run: v.string() },
  returns: v.union(vRoute, v.null()),
  handler: async (ctx, { run }) => {
    const row = await Push.endpointOf(ctx, run);
    return row && Push.routeOf(row);
  },
});

export const checked = internalMutation({
  args: {
    endpoint: v.id("endpoints"),
    ...vAnswered,
    told: v.union(vTold, v.null()), // null: nothing, or nothing that could be read
  },
  returns: v.null(),
  handler: async (ctx, { endpoint, told, ...answered }) => {
    await Attending.checked(ctx, endpoint, answered, told, Date.now());
    return null;
  },
});

export const woken = internalMutation({
  // done: a worker has come and gone; not told by actions of older code, which may be waiting for an answer still
  args: { endpoint: v.id("endpoints"), ...vAnswered, done: v.optional(v.boolean()) },
  returns: v.null(),
  handler: async (ctx, { endpoint, done = false, ...answered }) => {
    await Attending.woken(ctx, endpoint, answered, done, Date.now());
    return null;
  },
});

export const rouse = internalMutation({
  args: {},
  returns: v.null(),
  handler: async (ctx) => {
    await Attending.rouse(ctx, Date.now());
    return null;
  },
});

/** What `rouse` and the alarm of an endpoint read from a snapshot. */
export const awaited = internalQuery({
  args: { endpoint: v.id("endpoints") },
  returns: v.boolean(),
  handler: (ctx, { endpoint }) => Attending.awaited(ctx, endpoint),
});

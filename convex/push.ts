/** Runs that go to endpoints over HTTP, and what comes back. The actions talk; every decision is a mutation's. */
import { v } from "convex/values";
import { internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { env, httpAction, internalAction, internalMutation, internalQuery } from "./_generated/server";
import {
  CANCEL_CALL_MS,
  HEALTH_TIMEOUT_MS,
  MAX_ANSWER_BYTES,
  MAX_HEALTH_BYTES,
  WAKE_TIMEOUT_MS,
} from "./constants";
import { answerOf, readReport, runsIn, vAnswer, vReport, type Reply } from "./model/answers";
import * as Attending from "./model/attending";
import { call } from "./model/calling";
import * as Push from "./model/push";
import { flaw, secretsOf } from "./model/signing";
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
    const { assignment, large, url, secretVariable, timeoutMs } = letter;
    const body = JSON.stringify({
      type: "run",
      ...assignment,
      inputUrl: large ? `${env.CONVEX_SITE_URL}/push/input` : null,
      callbackUrl: `${env.CONVEX_SITE_URL}/push/callback`,
      answerWithinMs: timeoutMs,
    });
    const sent = { url, method: "POST" as const, id: run, body, secretVariable, timeoutMs };
    const answer = answerOf(await call({ ...sent, maxBytes: MAX_ANSWER_BYTES }), Date.now());
    await persistently(() => ctx.runMutation(internal.push.settle, { run, answer }));
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
    const error = trouble(reply, (status) =>
      healthUrl === null ? status < 500 : status >= 200 && status < 300,
    );
    const runs = error === null && "text" in reply ? runsIn(reply.text) : null;
    const answered = { endpoint, asked, ok: error === null, error, runs };
    await persistently(() => ctx.runMutation(internal.push.checked, answered));
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
    const error = busy ? null : trouble(reply, (status) => status >= 200 && status < 300);
    const answered = { endpoint, asked, ok: error === null, error };
    await persistently(() => ctx.runMutation(internal.push.woken, answered));
    return null;
  },
});

/** Tell an endpoint that a run is not wanted any more, as well as it can be told: the run's time is limited in any case. */
export const cancel = internalAction({
  args: { run: v.id("runs"), reason: v.string() },
  returns: v.null(),
  handler: async (ctx, { run, reason }) => {
    const route = await ctx.runQuery(internal.push.routeOfRun, { run });
    if (route === null) return null;
    await call({
      url: route.url,
      method: "POST",
      id: `cancel-${run}`,
      body: JSON.stringify({ type: "cancel", run, reason }),
      secretVariable: route.secretVariable,
      timeoutMs: CANCEL_CALL_MS,
      maxBytes: MAX_HEALTH_BYTES,
    });
    return null;
  },
});

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
  const { attempt } = read.value as { attempt?: unknown };
  if (typeof attempt !== "number") return refused(400, "invalid_argument", "attempt: a number is needed.");
  if (typeof report === "string") return refused(400, "invalid_argument", report);
  const { run, message } = read;
  try {
    const called = await ctx.runMutation(internal.push.called, { message, run, attempt, report });
    return called.ok ? Response.json({ stop: called.stop }) : refused(409, called.code, called.message);
  } catch (error) {
    const { data } = error as { data?: { code: string; message: string } };
    if (data === undefined) throw error;
    return refused(400, data.code, data.message);
  }
});

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
async function readSigned(ctx: HttpCtx, request: Request): Promise<Read | Response> {
  if (Number(request.headers.get("content-length") ?? 0) > MAX_ANSWER_BYTES) return tooLarge();
  const bytes = await request.arrayBuffer();
  if (bytes.byteLength > MAX_ANSWER_BYTES) return tooLarge();
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

const tooLarge = () => refused(413, "payload_too_large", `At most ${MAX_ANSWER_BYTES} bytes are taken.`);

/* ---- what the actions read and write ---- */

export const begin = internalMutation({
  args: { run: v.id("runs") },
  returns: v.union(
    v.null(),
    v.object({ ...vRoute.fields, assignment: vAssignment, large: v.boolean(), timeoutMs: v.number() }),
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
    v.object({ ok: v.literal(true), stop: v.boolean() }),
    v.object({
      ok: v.literal(false),
      code: v.union(v.literal("replayed"), v.literal("run_ended")),
      message: v.string(),
    }),
  ),
  handler: (ctx, given) => Push.takeCallback(ctx, given, Date.now()),
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
    runs: v.union(v.array(v.string()), v.null()),
  },
  returns: v.null(),
  handler: async (ctx, { endpoint, runs, ...answered }) => {
    await Attending.checked(ctx, endpoint, answered, runs, Date.now());
    return null;
  },
});

export const woken = internalMutation({
  args: { endpoint: v.id("endpoints"), ...vAnswered },
  returns: v.null(),
  handler: async (ctx, { endpoint, ...answered }) => {
    await Attending.woken(ctx, endpoint, answered, Date.now());
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

/** What actions ask of the host, answered on the main thread with the identity of their caller and the right to internal functions. */

import { NO_FILE_STORAGE } from "../engine/errors.mjs";
import { addressedPath, functionHandle } from "../engine/syscalls/addresses.mjs";
import { jobId, scheduledMs } from "../engine/syscalls/scheduling-arguments.mjs";
import { withoutRequestId } from "../failures.mjs";
import { displayPath } from "../paths.mjs";
import { requestMetadata } from "../request-context.mjs";

/**
 * @typedef {import("../engine-client.mjs").Reply} Reply
 * @typedef {Pick<import("./client.mjs").Origin, "kind" | "path" | "caller" | "job" | "request">} Origin  whose action asks
 * @typedef {object} Host
 * @property {Pick<import("../engine-client.mjs").EngineClient, "ask" | "description">} engine
 * @property {Pick<import("../calls.mjs").Calls, "run">} calls
 * @typedef {{ ok: true, value: string } | { ok: false, message: string, data?: string }} Outcome  of one syscall, JSON texts
 * @typedef {(host: Host, args: any, origin: Origin) => Promise<Reply> | string} Syscall  a text is JSON
 */

const CALLS = new Set(["1.0/actions/query", "1.0/actions/mutation", "1.0/actions/action"]);
const METHODS = { query: "runQuery", mutation: "runMutation", action: "runAction" };

/** @type {Record<string, Syscall>} */
const SYSCALLS = {
  "1.0/actions/query": (host, args, origin) => run(host, "query", args, origin),
  "1.0/actions/mutation": (host, args, origin) => run(host, "mutation", args, origin),
  "1.0/actions/action": (host, args, origin) => run(host, "action", args, origin),
  "1.0/actions/schedule": ({ engine }, args, { job }) => {
    const path = addressedPath(args, "scheduler");
    const at = scheduledMs(args.ts);
    return engine.ask({ op: "schedule", path, args: JSON.stringify([args.args]), at, parent: job });
  },
  "1.0/actions/cancel_job": ({ engine }, { id }) => engine.ask({ op: "cancel", job: jobId(id) }),
  "1.0/actions/vectorSearch": ({ engine }, { query }) =>
    engine.ask({ op: "vectorSearch", query: JSON.stringify(query) }),
  "1.0/createFunctionHandle": ({ engine }, args) => {
    if (typeof args.functionHandle === "string") return JSON.stringify(args.functionHandle);
    const path = addressedPath(args, "createFunctionHandle");
    if (engine.description.functions[path] === undefined) throw new Error("Function handle not found");
    return JSON.stringify(functionHandle(path));
  },
  "1.0/getUserIdentity": (_host, _args, { caller }) => {
    if (caller.refusal !== undefined) throw new Error(caller.refusal);
    return JSON.stringify(caller.identity);
  },
  "1.0/getFunctionMetadata": (_host, _args, { kind, path }) =>
    JSON.stringify({ name: kind === "http" ? "http" : displayPath(path), componentPath: "" }),
  "1.0/getDeploymentMetadata": () => JSON.stringify({ name: "embedded", region: null, class: "s16" }),
  "1.0/getRequestMetadata": (_host, _args, { request }) => JSON.stringify(requestMetadata(request)),
  "1.0/auditLog": () => {
    throw new Error("Audit logging is not yet supported in actions");
  },
};

/**
 * @param {Host} host
 * @param {string} op
 * @param {string} argsText  JSON text
 * @param {Origin} origin
 * @returns {Promise<Outcome>}
 */
export async function answerSyscall(host, op, argsText, origin) {
  try {
    const syscall = SYSCALLS[op];
    if (syscall === undefined) throw new Error(unavailable(op));
    const reply = await syscall(host, JSON.parse(argsText), origin);
    if (typeof reply === "string") return { ok: true, value: reply };
    if (reply.ok) return { ok: true, value: reply.value };
    const text = withoutRequestId(reply.message);
    const message = CALLS.has(op) ? text : text.trimEnd(); // only what ended another function ends its line
    return { ok: false, message, ...(reply.data === undefined ? {} : { data: reply.data }) };
  } catch (error) {
    return { ok: false, message: /** @type {Error} */ (error).message };
  }
}

/**
 * @param {Host} host
 * @param {"query" | "mutation" | "action"} kind
 * @param {any} args
 * @param {Origin} origin
 * @returns {Promise<Reply>}
 */
function run({ calls }, kind, args, { caller, job, request }) {
  const path = addressedPath(args, METHODS[kind]);
  const inner = { admin: true, identity: caller.identity };
  return new Promise((resolve) =>
    calls.run({ kind, path, args: JSON.stringify([args.args]), caller: inner, job, request }, resolve),
  );
}

/** @param {string} op */
function unavailable(op) {
  if (op.startsWith("1.0/storage")) return NO_FILE_STORAGE;
  return `Unknown async operation ${op}`; // npm convex looks for this text
}

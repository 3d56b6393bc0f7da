/** What actions ask of the host, answered on the main thread with the identity of their caller and the right to internal functions. */

import { withoutRequestId } from "../failures.mjs";
import { canonicalPath } from "../paths.mjs";

/**
 * @typedef {import("../engine-client.mjs").Reply} Reply
 * @typedef {Pick<import("./client.mjs").Run, "caller" | "job">} Origin  whose action asks
 * @typedef {object} Host
 * @property {Pick<import("../engine-client.mjs").EngineClient, "ask">} engine
 * @property {Pick<import("../calls.mjs").Calls, "run">} calls
 * @typedef {{ ok: true, value: string } | { ok: false, message: string, data?: string }} Outcome  of one syscall, JSON texts
 */

/** @type {Record<string, "query" | "mutation" | "action">} */
const CALLS = {
  "1.0/actions/query": "query",
  "1.0/actions/mutation": "mutation",
  "1.0/actions/action": "action",
};

/**
 * @param {Host} host
 * @param {string} op
 * @param {string} argsText  JSON text
 * @param {Origin} origin
 * @returns {Promise<Outcome>}
 */
export async function answerSyscall(host, op, argsText, { caller, job }) {
  const kind = CALLS[op];
  const args = JSON.parse(argsText);
  const inner = { admin: true, identity: caller.identity };
  if (kind !== undefined) {
    const path = addressed(args);
    if (path === null) return noComponents();
    return outcome(
      await new Promise((resolve) =>
        host.calls.run({ kind, path, args: JSON.stringify([args.args]), caller: inner, job }, resolve),
      ),
    );
  }
  switch (op) {
    case "1.0/actions/schedule": {
      const path = addressed(args);
      if (path === null) return noComponents();
      return outcome(
        await host.engine.ask({
          op: "schedule",
          path,
          args: JSON.stringify([args.args]),
          at: args.ts * 1000,
          parent: job,
        }),
      );
    }
    case "1.0/actions/cancel_job":
      return outcome(await host.engine.ask({ op: "cancel", job: args.id }));
    case "1.0/getUserIdentity":
      if (caller.refusal !== undefined) return { ok: false, message: caller.refusal };
      return { ok: true, value: JSON.stringify(caller.identity) };
    default:
      return { ok: false, message: `Unknown async operation ${op}` };
  }
}

/**
 * @param {{ name?: unknown }} args
 * @returns {string | null} null for what belongs to a component
 */
function addressed({ name }) {
  return typeof name === "string" ? canonicalPath(name) : null;
}

/** @returns {Outcome} */
function noComponents() {
  return { ok: false, message: "This host has no components: call functions of the app by their reference" };
}

/** @param {Reply} reply @returns {Outcome} */
function outcome(reply) {
  if (reply.ok) return { ok: true, value: reply.value };
  return {
    ok: false,
    message: withoutRequestId(reply.message),
    ...(reply.data === undefined ? {} : { data: reply.data }),
  };
}

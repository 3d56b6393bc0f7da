/** Sends each call of a function to the thread that runs its kind. */

import { failureOf, serverError } from "./failures.mjs";
import { functionNotFound, wrongKind } from "./paths.mjs";
import { ofHost } from "./request-context.mjs";

/**
 * @typedef {import("./engine-client.mjs").EngineClient} EngineClient
 * @typedef {import("./engine-client.mjs").Listener} Listener
 * @typedef {import("./actions/client.mjs").ActionsClient} ActionsClient
 * @typedef {Omit<import("./engine-client.mjs").Call, "kind"> & { kind: "query" | "mutation" | "action" | "any", job?: string }} AnyCall  job: of the scheduled function or cron that it is part of
 */

export class Calls {
  /**
   * @param {EngineClient} engine
   * @param {ActionsClient} actions
   */
  constructor(engine, actions) {
    this.#engine = engine;
    this.#actions = actions;
  }

  /** @type {EngineClient} */
  #engine;
  /** @type {ActionsClient} */
  #actions;

  /**
   * @param {AnyCall} call
   * @param {Listener} answer  called once; for the engine's calls while their batch is read
   */
  run(call, answer) {
    const { kind, path, request = ofHost(null) } = call;
    const listener = (/** @type {import("./engine-client.mjs").Reply} */ reply) =>
      answer(reply.ok ? reply : failureOf(reply, request.id));
    const known = this.#engine.description.functions[path];
    if (kind === "query" || kind === "mutation" || (kind === "any" && known?.kind !== "action")) {
      const { args, caller, once, at } = call;
      this.#engine.call({ kind, path, args, caller, once, at, request }, listener);
    } else if (known === undefined || (known.visibility === "internal" && !call.caller.admin)) {
      listener(serverError(functionNotFound(path)));
    } else if (known.kind !== "action") {
      listener(serverError(wrongKind(path, kind, known.kind)));
    } else {
      void this.#actions.runAction({ ...call, request }).then(listener);
    }
  }
}

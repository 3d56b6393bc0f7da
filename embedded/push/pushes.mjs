/** The pushes that were started: what each brings, whether it still may be finished, and its activation. */

import { randomUUID } from "node:crypto";
import { EngineError } from "../engine-client.mjs";
import { HttpError } from "../http/errors.mjs";
import { bundlePush, parsePush } from "./modules.mjs";

/**
 * @typedef {import("../bundle.mjs").Bundle} Bundle
 * @typedef {import("../serving.mjs").Serving} Serving
 * @typedef {object} Started
 * @property {import("./modules.mjs").Push} push
 * @property {Bundle} bundle
 * @property {any} analyzed  what the engine found in it
 * @property {string} schemaId  equal for pushes that bring an equal schema one after the other
 * @property {string[]} auth  the providers, each as JSON text
 */

const MAX_STARTED = 4; // a client starts one and finishes it; each may be megabytes
const ROOT_COMPONENT = "";
const WHILE_PUSHING = "Hit an error while pushing:\n";

export class Pushes {
  /** @param {{ serving: Serving }} parts */
  constructor({ serving }) {
    this.#serving = serving;
  }

  /** @type {Serving} */
  #serving;
  /** Oldest first. @type {Map<string, Started>} */
  #started = new Map();
  /** Of the newest push that is not a dry run; pushes with another one have lost a race. @type {{ id: string, text: string | null }} */
  #schema = { id: "", text: null };
  /** The last answer, for a client that asks again because it did not hear it. @type {{ id: string, diff: unknown } | null} */
  #finished = null;
  /** Of the code that was pushed last. @type {string[]} */
  #auth = [];

  /**
   * Say what a push would bring; nothing is changed.
   *
   * @param {Record<string, any>} request
   * @param {{ evaluate?: boolean }} [options]  evaluate: count documents, too
   * @returns {Promise<{ schemaChange: unknown, evaluation: unknown }>}
   * @throws {HttpError} 400
   */
  async evaluate(request, { evaluate = false } = {}) {
    const { analyzed } = await this.#analyze(request, evaluate);
    return { schemaChange: schemaChange("", analyzed), evaluation: analyzed.evaluation };
  }

  /**
   * Take in what `finish` may activate later.
   *
   * @param {Record<string, any>} request
   * @returns {Promise<unknown>} Convex's answer to start_push
   * @throws {HttpError} 400
   */
  async start(request) {
    const { push, bundle, analyzed } = await this.#analyze(request, false);
    const schemaId = this.#submitSchema(push, analyzed.schema);
    const auth = (analyzed.auth ?? []).map((/** @type {unknown} */ provider) => JSON.stringify(provider));
    const id = randomUUID();
    this.#started.set(id, { push, bundle, analyzed, schemaId, auth });
    const [oldest = ""] = this.#started.keys();
    if (this.#started.size > MAX_STARTED) this.#started.delete(oldest);
    return {
      environmentVariables: analyzed.variables,
      externalDepsId: null,
      componentDefinitionPackages: { [ROOT_COMPONENT]: { storageKey: id } },
      appAuth: auth.map((/** @type {string} */ provider) => ({
        applicationID: null,
        ...JSON.parse(provider),
      })),
      analysis: { [ROOT_COMPONENT]: analyzed.analysis },
      app: {
        definitionPath: "",
        componentPath: ROOT_COMPONENT,
        args: {},
        childComponents: {},
        httpRoutes: { httpModuleRoutes: httpRoutes(analyzed.analysis), mounts: [] },
        exports: {},
      },
      schemaChange: schemaChange(schemaId, analyzed),
    };
  }

  /**
   * @param {unknown} change  of the answer to `start`
   * @returns {Promise<unknown>} Convex's answer to wait_for_schema
   */
  async waitForSchema(change) {
    const { schemaIds } = /** @type {any} */ (change ?? {});
    const schemaId = schemaIds?.[ROOT_COMPONENT];
    const started = [...this.#started.values()].findLast((one) => one.schemaId === schemaId);
    if (started === undefined || this.#isOverwritten(started)) return { type: "raceDetected" };
    const misfit = await this.#serving.inquire({ op: "checkSchema", schema: started.analyzed.schema });
    if (misfit !== null) return { type: "failed", ...misfit, componentPath: ROOT_COMPONENT };
    return { type: "complete" };
  }

  /**
   * Activate a push that was started, and forget the others: they were made for what was there before.
   *
   * @param {any} started  the answer to `start`
   * @returns {Promise<unknown>} Convex's answer to finish_push
   * @throws {HttpError} 400: it lost a race, or what it brings does not fit any more
   */
  async finish(started) {
    const id = started?.componentDefinitionPackages?.[ROOT_COMPONENT]?.storageKey;
    if (id === this.#finished?.id) return this.#finished?.diff;
    const push = this.#started.get(id);
    if (push === undefined) {
      throw new HttpError(
        400,
        "RaceDetected",
        `${WHILE_PUSHING}Another push was finished since this one was started`,
      );
    }
    if (this.#isOverwritten(push)) {
      throw new HttpError(
        400,
        "SchemaAlreadyOverwritten",
        `${WHILE_PUSHING}Schema has already been overwritten.`,
      );
    }
    const { bundle, analyzed } = push;
    const { functions, serverVersion } = push.push;
    await translated(
      this.#serving.push(
        bundle,
        { functions, serverVersion },
        started.environmentVariables ?? analyzed.variables,
      ),
    );
    const diff = pushDiff(push, this.#auth);
    this.#started.clear();
    this.#finished = { id, diff };
    this.#auth = push.auth;
    return diff;
  }

  /**
   * @param {Record<string, any>} request
   * @param {boolean} evaluate
   */
  async #analyze(request, evaluate) {
    const push = parsePush(request);
    const bundle = await bundlePush(push);
    const message = { op: "analyze", bundle, serverVersion: push.serverVersion, evaluate };
    const analyzed = await translated(this.#serving.inquire(message));
    return { push, bundle, analyzed };
  }

  /**
   * @param {import("./modules.mjs").Push} push
   * @param {string | null} text
   */
  #submitSchema({ dryRun }, text) {
    if (text === this.#schema.text && this.#schema.id !== "") return this.#schema.id;
    const id = randomUUID();
    if (!dryRun) this.#schema = { id, text };
    return id;
  }

  /** @param {Started} started */
  #isOverwritten({ push, schemaId }) {
    return !push.dryRun && schemaId !== this.#schema.id;
  }
}

/** What a dry run answers in place of `finish`. */
export const NO_DIFF = Object.freeze({
  authDiff: { added: [], removed: [] },
  definitionDiffs: {},
  componentDiffs: {},
});

/**
 * @param {string} schemaId
 * @param {any} analyzed
 */
function schemaChange(schemaId, { indexDiff }) {
  return {
    allocatedComponentIds: {},
    schemaIds: schemaId === "" ? {} : { [ROOT_COMPONENT]: schemaId },
    indexDiffs: { [ROOT_COMPONENT]: indexDiff },
  };
}

/** @param {any} analysis */
function httpRoutes({ functions }) {
  const routes = functions["http.js"]?.httpRoutes;
  return routes?.map((/** @type {any} */ { route }) => route) ?? null;
}

/**
 * @param {Started} started
 * @param {string[]} before  the auth providers
 */
function pushDiff({ analyzed, auth }, before) {
  const { moduleDiff, cronDiff, indexDiff, schemaDiff } = analyzed;
  return {
    authDiff: {
      added: auth.filter((one) => !before.includes(one)),
      removed: before.filter((one) => !auth.includes(one)),
    },
    definitionDiffs: {},
    componentDiffs: {
      [ROOT_COMPONENT]: {
        diffType: { type: "modify" },
        moduleDiff,
        udfConfigDiff: null,
        cronDiff,
        indexDiff,
        schemaDiff,
      },
    },
  };
}

/**
 * Put the engine's refusal into Convex's words.
 *
 * @template T
 * @param {Promise<T>} answer
 * @returns {Promise<T>}
 * @throws {HttpError} 400
 */
async function translated(answer) {
  try {
    return await answer;
  } catch (error) {
    if (!(error instanceof EngineError) || error.refusal === undefined) throw error;
    const { code, text } = error.refusal;
    const loading =
      code === "InvalidModules" ? "Loading the pushed modules encountered the following\n    error:\n" : "";
    const failed = code === "SchemaAlreadyFailed" ? "Schema has already been failed with error: " : "";
    throw new HttpError(400, code, `${WHILE_PUSHING}${loading}${failed}${text}`);
  }
}

/** The HTTP face of the scripted models: routes, error bodies, the request log. */

import http from "node:http";
import { turnOf } from "./agent.mjs";
import { RequestLog } from "./log.mjs";
import { planAnswer } from "./plan.mjs";
import { play, STALL_LIMIT_MS, STREAM_ERROR, usageOf } from "./play.mjs";
import { BadRequest, readRequest } from "./request.mjs";
import { MODELS, readScript, ScriptError } from "./script.mjs";
import { Tally } from "./tally.mjs";

/**
 * @typedef {import("node:http").IncomingMessage} Incoming
 * @typedef {import("node:http").ServerResponse} Outgoing
 * @typedef {import("./request.mjs").ChatRequest} ChatRequest
 * @typedef {import("./script.mjs").Script} Script
 * @typedef {import("./log.mjs").Entry} Entry
 * @typedef {import("./plan.mjs").Plan} Plan
 */

export const NAME = "scripted-model-server";
const MAX_BODY_BYTES = 8 * 1024 * 1024;
const KEEP_ALIVE_MS = 65_000; // longer than clients keep a connection, so that they close first
const EXPLANATION = `This is Signalbox's scripted model server.

It is not a language model. It answers OpenAI-compatible chat completions with text that is put together from the
prompt's own words by fixed rules, paced like a model, the same every time. It serves tests and demonstrations.

POST /v1/chat/completions    stream or not
GET  /v1/models              the models it plays
GET  /requests               the last 1,000 requests
`;

/**
 * Return a server that is not listening yet.
 * @returns {http.Server}
 */
export function createScriptedModelServer() {
  const log = new RequestLog();
  const tally = new Tally();
  const server = http.createServer((request, response) => {
    response.setHeader("server", NAME);
    const path = (request.url ?? "/").split("?", 1)[0];
    const route = `${request.method} ${path}`;
    if (route === "POST /v1/chat/completions") {
      receive(request, response, (body) => complete(body, response, log, tally));
    } else if (route === "GET /v1/models") {
      const data = MODELS.map((id) => ({ id, object: "model", created: 0, owned_by: NAME }));
      sendJson(response, 200, { object: "list", data });
    } else if (route === "GET /requests") {
      sendJson(response, 200, log.view());
    } else if (route === "GET /") {
      response.writeHead(200, { "content-type": "text/plain; charset=utf-8" }).end(EXPLANATION);
    } else {
      sendError(
        response,
        404,
        "not_found",
        `Nothing is served at ${request.method} ${path}; GET / tells what is`,
      );
    }
  });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  return server;
}

/**
 * @param {Incoming} request
 * @param {Outgoing} response
 * @param {(body: string) => void} then
 */
function receive(request, response, then) {
  /** @type {Buffer[]} */
  const parts = [];
  let bytes = 0;
  request.on("data", (/** @type {Buffer} */ part) => {
    bytes += part.length;
    if (bytes <= MAX_BODY_BYTES) parts.push(part);
    else parts.length = 0;
  });
  request.on("end", () => {
    if (bytes <= MAX_BODY_BYTES) then(Buffer.concat(parts).toString("utf8"));
    else sendError(response, 413, "request_too_large", `The body has more than ${MAX_BODY_BYTES} bytes`);
  });
  request.on("error", () => response.destroy());
}

/**
 * @param {string} body
 * @param {Outgoing} response
 * @param {RequestLog} log
 * @param {Tally} tally
 */
function complete(body, response, log, tally) {
  /** @type {ChatRequest} */
  let request;
  /** @type {Script} */
  let script;
  try {
    request = readRequest(body);
    script = readScript(request.model, request.messages.findLast(({ role }) => role === "user")?.text ?? "");
  } catch (error) {
    if (error instanceof ScriptError) {
      return sendError(response, error.code === "model_not_found" ? 404 : 400, error.code, error.message);
    }
    if (error instanceof BadRequest) return sendError(response, 400, "invalid_request", error.message);
    throw error;
  }
  const entry = log.add(
    {
      model: request.model,
      script: script.behaviour,
      stream: request.stream,
      turn: turnOf(request.messages),
    },
    Date.now(),
  );
  response.once("close", () => {
    entry.done = true;
    entry.aborted = !response.writableFinished;
  });
  if (refused(request, script, response, tally)) {
    entry.status = response.statusCode;
  } else {
    entry.status = 200;
    answer(request, stalling(request, script, tally), response, entry);
  }
}

/**
 * Return the script, or one that stalls: each turn of an agent from `stall` on does, the first time that it is asked for.
 * @param {ChatRequest} request
 * @param {Script} script
 * @param {Tally} tally
 * @returns {Script}
 */
function stalling(request, script, tally) {
  const { behaviour, key, numbers } = script;
  const turn = turnOf(request.messages);
  if (behaviour !== "agent" || !numbers.stall || turn < numbers.stall) return script;
  const counted = key || JSON.stringify([request.model, request.messages]);
  if (!tally.within(`agent ${turn} ${counted}`, 1)) return script;
  return { ...script, behaviour: "stall", numbers: { ...numbers, after: 3 } };
}

/**
 * Answer with the failure that a script asks for, if it is still due.
 * @param {ChatRequest} request
 * @param {Script} script
 * @param {Outgoing} response
 * @param {Tally} tally
 * @returns {boolean}
 */
function refused(request, script, response, tally) {
  const { behaviour, key, numbers } = script;
  if (behaviour !== "fail" && behaviour !== "rate-limit") return false;
  const counted = key || JSON.stringify([request.model, request.messages]);
  if (!tally.within(`${behaviour} ${counted}`, numbers.times ?? 1)) return false;
  if (behaviour === "fail") {
    sendError(response, numbers.status ?? 503, "server_error", "The script fails this request; try again");
  } else {
    response.setHeader("retry-after", String(numbers.after));
    sendError(response, 429, "rate_limit_exceeded", "The script limits the rate of this request");
  }
  return true;
}

/**
 * @param {ChatRequest} request
 * @param {Script} script
 * @param {Outgoing} response
 * @param {Entry} entry
 */
function answer(request, script, response, entry) {
  const plan = planAnswer(request.model, request.messages, script, request.maxTokens, request.tools);
  const created = Math.floor(Date.now() / 1000);
  entry.promptTokens = plan.promptTokens;
  if (request.stream) {
    response.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
    });
    response.flushHeaders();
    const envelope = { model: request.model, created, fingerprint: NAME, includeUsage: request.includeUsage };
    play(response, plan, envelope, () => entry.chunks++);
    return;
  }
  const stalls = plan.ending === "stall";
  const last = setTimeout(
    () => answerWhole(request, plan, created, response),
    stalls ? STALL_LIMIT_MS : (plan.due.at(-1) ?? 0),
  );
  response.once("close", () => clearTimeout(last));
}

/**
 * @param {ChatRequest} request
 * @param {Plan} plan
 * @param {number} created  seconds since the epoch
 * @param {Outgoing} response
 */
function answerWhole(request, plan, created, response) {
  if (plan.ending === "truncate" || plan.ending === "stall") return response.destroy();
  if (plan.ending === "error") return sendError(response, 502, "server_error", STREAM_ERROR);
  const asked = plan.calls.map(({ id, ...call }) => ({ id, type: "function", function: call }));
  const content = plan.tokens.join("");
  const message = {
    role: "assistant",
    content,
    refusal: null,
    ...(asked.length > 0 ? { tool_calls: asked } : {}),
  };
  return sendJson(response, 200, {
    id: plan.id,
    object: "chat.completion",
    created,
    model: request.model,
    system_fingerprint: NAME,
    choices: [{ index: 0, message, logprobs: null, finish_reason: plan.ending }],
    usage: usageOf(plan),
  });
}

/**
 * @param {Outgoing} response
 * @param {number} status
 * @param {unknown} value
 */
function sendJson(response, status, value) {
  const text = JSON.stringify(value);
  response
    .writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) })
    .end(text);
}

/**
 * @param {Outgoing} response
 * @param {number} status
 * @param {string} code
 * @param {string} message
 */
function sendError(response, status, code, message) {
  const type = status >= 500 ? "server_error" : "invalid_request_error";
  sendJson(response, status, { error: { message, type, param: null, code } });
}

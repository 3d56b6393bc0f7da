/** Sends a plan as a stream of server-sent events, on time and never faster than the client reads. */

/**
 * @typedef {import("node:http").ServerResponse} ServerResponse
 * @typedef {import("./plan.mjs").Plan} Plan
 * @typedef {object} Envelope  what is the same in every chunk
 * @property {string} model
 * @property {number} created  seconds since the epoch
 * @property {string} fingerprint
 * @property {boolean} includeUsage
 */

export const STALL_LIMIT_MS = 600_000; // even a stalled answer ends, should its client wait for ever
export const STREAM_ERROR = "The script ends this answer with an error";

/**
 * Play a plan into a response whose headers are sent.
 * @param {ServerResponse} response
 * @param {Plan} plan
 * @param {Envelope} envelope
 * @param {() => void} onChunk  called for each token sent
 */
export function play(response, plan, envelope, onChunk) {
  const start = performance.now();
  const frame = frames(plan, envelope);
  let next = 0;
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  /** @type {NodeJS.Timeout | undefined} */
  let limit;

  const wait = () => {
    if (next < plan.tokens.length) {
      timer = setTimeout(advance, Math.max(0, (plan.due[next] ?? 0) - (performance.now() - start)));
    } else {
      finish();
    }
  };
  const advance = () => {
    let room;
    do {
      room = response.write(frame.token(plan.tokens[next] ?? "", next === 0));
      next++;
      onChunk();
    } while (room && next < plan.tokens.length && (plan.due[next] ?? 0) <= performance.now() - start);
    if (room) wait();
    else response.once("drain", wait);
  };
  const finish = () => {
    if (plan.ending === "stall") {
      limit = setTimeout(() => response.destroy(), STALL_LIMIT_MS);
      if (plan.commentMs > 0) timer = setInterval(() => response.write(": keep-alive\n\n"), plan.commentMs);
    } else if (plan.ending === "truncate") {
      response.end();
    } else {
      response.end(plan.ending === "error" ? frame.error() : frame.last(plan.ending));
    }
  };
  response.once("close", () => {
    clearTimeout(timer);
    clearTimeout(limit);
    response.off("drain", wait);
  });
  wait();
}

/**
 * @param {Plan} plan
 * @param {Envelope} envelope
 */
function frames(plan, { model, created, fingerprint, includeUsage }) {
  const head = {
    id: plan.id,
    object: "chat.completion.chunk",
    created,
    model,
    system_fingerprint: fingerprint,
  };
  const usage = includeUsage ? { usage: null } : {};
  /** @param {object} delta @param {string | null} finish */
  const chunk = (delta, finish) =>
    data({ ...head, choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }], ...usage });
  // All but the token is the same in every chunk, so it is written as JSON once.
  const [before = "", after = ""] = chunk({ content: "\u0000" }, null).split('"\\u0000"');
  return {
    /** @param {string} text @param {boolean} first */
    token: (text, first) =>
      first ? chunk({ role: "assistant", content: text }, null) : `${before}${JSON.stringify(text)}${after}`,
    /** @param {"stop" | "length" | "tool_calls"} finish */
    last: (finish) =>
      plan.calls
        .map((call, index) =>
          pieces(call, index)
            .map((piece) => chunk({ tool_calls: [piece] }, null))
            .join(""),
        )
        .join("") +
      chunk({}, finish) +
      (includeUsage ? data({ ...head, choices: [], usage: usageOf(plan) }) : "") +
      "data: [DONE]\n\n",
    error: () =>
      data({
        ...head,
        error: { code: 502, message: STREAM_ERROR, type: "server_error" },
      }),
  };
}

/**
 * A tool call as providers send it: its name first, then its arguments bit by bit.
 * @param {import("./agent.mjs").ToolCall} call
 * @param {number} index
 */
function pieces({ id, name, arguments: text }, index) {
  const middle = Math.floor(text.length / 2);
  return [
    { index, id, type: "function", function: { name, arguments: "" } },
    ...[text.slice(0, middle), text.slice(middle)].map((part) => ({ index, function: { arguments: part } })),
  ];
}

/** @param {Plan} plan */
export function usageOf(plan) {
  const output = plan.tokens.length;
  return {
    prompt_tokens: plan.promptTokens,
    completion_tokens: output,
    total_tokens: plan.promptTokens + output,
  };
}

/** @param {unknown} value */
function data(value) {
  return `data: ${JSON.stringify(value)}\n\n`;
}

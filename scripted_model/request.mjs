/** Reads a chat completion's request into checked values. */

/**
 * @typedef {object} ChatRequest
 * @property {string} model
 * @property {{ role: string, text: string }[]} messages
 * @property {boolean} stream
 * @property {boolean} includeUsage
 * @property {number | null} maxTokens
 * @property {import("./agent.mjs").ToolSpec[]} tools  those that are functions
 */

/** A request that no script can answer; the message is for its author. */
export class BadRequest extends Error {}

/**
 * @param {string} body
 * @returns {ChatRequest}
 * @throws {BadRequest}
 */
export function readRequest(body) {
  /** @type {any} */
  let value;
  try {
    value = JSON.parse(body);
  } catch {
    throw new BadRequest("The body is not JSON");
  }
  if (typeof value !== "object" || value === null) throw new BadRequest("The body is not a JSON object");
  if (typeof value.model !== "string" || value.model === "") throw new BadRequest("'model' must be a text");
  if (!Array.isArray(value.messages) || value.messages.length === 0) {
    throw new BadRequest("'messages' must be a list with at least one message");
  }
  return {
    model: value.model,
    messages: value.messages.map(readMessage),
    stream: value.stream === true,
    includeUsage: value.stream_options?.include_usage === true,
    maxTokens: readLimit(value.max_completion_tokens ?? value.max_tokens ?? null),
    tools: readTools(value.tools ?? []),
  };
}

/**
 * @param {any} message
 * @param {number} at
 */
function readMessage(message, at) {
  if (typeof message !== "object" || message === null || typeof message.role !== "string") {
    throw new BadRequest(`messages[${at}] must be an object with a 'role'`);
  }
  return { role: message.role, text: readContent(message.content ?? "", at) };
}

/**
 * @param {unknown} content  a text, or a list of parts of which those with a text count
 * @param {number} at
 * @returns {string}
 */
function readContent(content, at) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content))
    throw new BadRequest(`messages[${at}].content must be a text or a list of parts`);
  return content.map((part) => (typeof part?.text === "string" ? part.text : "")).join("");
}

/**
 * @param {unknown} tools
 * @returns {import("./agent.mjs").ToolSpec[]}
 */
function readTools(tools) {
  if (!Array.isArray(tools)) throw new BadRequest("'tools' must be a list");
  return tools.flatMap((tool) =>
    typeof tool?.function?.name === "string"
      ? [{ name: tool.function.name, parameters: tool.function.parameters ?? {} }]
      : [],
  );
}

/** @param {unknown} limit */
function readLimit(limit) {
  if (limit === null) return null;
  if (typeof limit !== "number" || !Number.isInteger(limit) || limit < 1) {
    throw new BadRequest("'max_tokens' must be a whole number of at least 1");
  }
  return limit;
}

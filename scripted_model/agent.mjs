/** Plays an agent: some turns, the calls of its tools spread over all but the last. Pure. */

/**
 * @typedef {{ name: string, parameters: Record<string, any> }} ToolSpec
 * @typedef {{ id: string, name: string, arguments: string }} ToolCall  arguments: JSON text
 */

/**
 * Return what an agent says in its next turn, which is the number of its answers in the conversation plus one.
 * @param {readonly { role: string }[]} messages
 * @param {readonly ToolSpec[]} tools  asked for one after the other, round and round
 * @param {Record<string, number>} numbers  `turns` in all, with `calls` of tools in all
 * @returns {{ turn: number, tokens: string[], calls: ToolCall[] }}
 */
export function planTurn(messages, tools, { turns = 1, calls = 0 }) {
  const turn = turnOf(messages);
  const tokens =
    turn < turns
      ? ["Turn ", `${turn}`, " of ", `${turns}`, ", ", "on ", "with ", "it."]
      : ["All ", `${turns}`, " turns ", "are ", "done."];
  const before = turns > 1 ? Math.floor((calls * (turn - 1)) / (turns - 1)) : 0;
  const after = turn < turns ? Math.floor((calls * turn) / (turns - 1)) : before;
  const asked = Array.from({ length: tools.length === 0 ? 0 : after - before }, (_, at) => {
    const number = before + at + 1;
    const tool = /** @type {ToolSpec} */ (tools[(number - 1) % tools.length]);
    return {
      id: `call_${turn}_${at}`,
      name: tool.name,
      arguments: JSON.stringify(argumentsFor(tool, number)),
    };
  });
  return { turn, tokens, calls: asked };
}

/** @param {readonly { role: string }[]} messages */
export const turnOf = (messages) => messages.filter(({ role }) => role === "assistant").length + 1;

/**
 * Return arguments that a tool's schema takes: of each call others.
 * @param {ToolSpec} tool
 * @param {number} number  of the call
 */
function argumentsFor({ parameters }, number) {
  /** @type {Record<string, unknown>} */
  const found = {};
  for (const name of Array.isArray(parameters.required) ? parameters.required : []) {
    const type = parameters.properties?.[name]?.type;
    found[name] =
      type === "integer" || type === "number" ? number : type === "boolean" ? true : `${name} ${number}`;
  }
  return found;
}

/** Cuts text into pieces about as large as a model's tokens; what is streamed is also what is counted. */

const LONGEST = 8; // a longer word is two tokens or more, as with real tokenizers
const PER_MESSAGE = 4; // what chat templates add around a message

/**
 * Return the tokens of a text: words with the space before them, long words in parts, marks alone. Joined they are the text.
 * @param {string} text
 * @returns {string[]}
 */
export function tokenize(text) {
  const pieces = text.match(/\s?[\p{L}\p{N}'’]+|\s?[^\s\p{L}\p{N}'’]|\s/gu) ?? [];
  return pieces.flatMap((piece) => {
    const units = [...piece];
    if (units.length <= LONGEST + 1) return [piece];
    const parts = [];
    for (let at = 0; at < units.length; at += LONGEST) parts.push(units.slice(at, at + LONGEST).join(""));
    return parts;
  });
}

/**
 * Return the tokens that a list of messages counts as.
 * @param {readonly { text: string }[]} messages
 */
export function countPrompt(messages) {
  return messages.reduce((sum, message) => sum + PER_MESSAGE + tokenize(message.text).length, 0);
}

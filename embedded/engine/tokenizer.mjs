/** Cuts texts into the words that a search index holds. */

const WORD = /[\p{Alphabetic}\p{N}]+/gu;
const WORD_LIMIT = 32; // bytes of UTF-8; words as long as this and longer are left out
const ASCII = /^[\x00-\x7f]*$/; // eslint-disable-line no-control-regex -- all of ASCII is meant

/**
 * @param {string} text
 * @returns {string[]} its words in order, in lower case
 */
export function tokenize(text) {
  /** @type {string[]} */
  const words = [];
  for (const [word] of text.matchAll(WORD)) {
    if (Buffer.byteLength(word) < WORD_LIMIT) words.push(lowerCase(word));
  }
  return words;
}

/** Letter by letter, so that none depends on its neighbours as a Greek sigma would. @param {string} word */
function lowerCase(word) {
  if (ASCII.test(word)) return word.toLowerCase();
  return Array.from(word, (letter) => letter.toLowerCase()).join("");
}

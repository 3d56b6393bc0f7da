/** Whether a text is JSON, however large: nothing is built of it, so megabytes of small arrays cost no memory. Pure. */

const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a];
const [BEGIN_ARRAY, END_ARRAY, BEGIN_OBJECT, END_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];
const [MINUS, PLUS, DOT, ZERO, NINE, SMALL_E, LARGE_E, SMALL_U] = [
  0x2d, 0x2b, 0x2e, 0x30, 0x39, 0x65, 0x45, 0x75,
];
const PARSED_CHARS = 100_000; // up to here the engine's own parser is quicker, and what it builds is small
const ESCAPED = new Set(Array.from('"\\/bfnrt', (char) => char.charCodeAt(0)));
const WORDS = ["true", "false", "null"];
const HEX = /^[0-9a-fA-F]{4}$/;

/** Whether `text` is one JSON document (RFC 8259), as `JSON.parse` sees it. */
export function isJson(text: string): boolean {
  return text.length <= PARSED_CHARS ? parses(text) : scans(text);
}

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** The same without building anything; exported for its test. Positions below 0 say that there is no such thing. */
export function scans(text: string): boolean {
  const open: number[] = []; // the end that each array and object waits for
  let at = 0;
  for (;;) {
    at = pastSpace(text, at);
    const first = text.charCodeAt(at);
    if (first === BEGIN_ARRAY || first === BEGIN_OBJECT) {
      const end = first === BEGIN_ARRAY ? END_ARRAY : END_OBJECT;
      at = pastSpace(text, at + 1);
      if (text.charCodeAt(at) === end) at += 1;
      else {
        open.push(end);
        if (end === END_OBJECT && (at = pastName(text, at)) < 0) return false;
        continue;
      }
    } else if ((at = pastScalar(text, at, first)) < 0) return false;
    // A value has ended, and with it perhaps what it stands in.
    for (;;) {
      at = pastSpace(text, at);
      if (open.length === 0) return at === text.length;
      const end = open[open.length - 1]!;
      const next = text.charCodeAt(at);
      at += 1;
      if (next === COMMA) {
        if (end === END_OBJECT && (at = pastName(text, pastSpace(text, at))) < 0) return false;
        break;
      }
      if (next !== end) return false;
      open.pop();
    }
  }
}

function pastSpace(text: string, at: number): number {
  for (;;) {
    const char = text.charCodeAt(at);
    if (char !== 0x20 && char !== 0x0a && char !== 0x0d && char !== 0x09) return at;
    at += 1;
  }
}

/** A member's name and its colon. */
function pastName(text: string, at: number): number {
  if (text.charCodeAt(at) !== QUOTE || (at = pastString(text, at)) < 0) return -1;
  at = pastSpace(text, at);
  return text.charCodeAt(at) === COLON ? at + 1 : -1;
}

function pastScalar(text: string, at: number, first: number): number {
  if (first === QUOTE) return pastString(text, at);
  if (first === MINUS || (first >= ZERO && first <= NINE)) return pastNumber(text, at);
  for (const word of WORDS) if (text.startsWith(word, at)) return at + word.length;
  return -1;
}

function pastString(text: string, at: number): number {
  for (at += 1; ; at += 1) {
    const char = text.charCodeAt(at);
    if (char === QUOTE) return at + 1;
    if (!(char >= 0x20)) return -1; // a control character, or the end of the text
    if (char !== BACKSLASH) continue;
    at += 1;
    const escaped = text.charCodeAt(at);
    if (escaped === SMALL_U && HEX.test(text.slice(at + 1, at + 5))) at += 4;
    else if (!ESCAPED.has(escaped)) return -1;
  }
}

function pastNumber(text: string, at: number): number {
  if (text.charCodeAt(at) === MINUS) at += 1;
  if (text.charCodeAt(at) === ZERO) at += 1;
  else if ((at = pastDigits(text, at)) < 0) return -1;
  if (text.charCodeAt(at) === DOT && (at = pastDigits(text, at + 1)) < 0) return -1;
  const exponent = text.charCodeAt(at);
  if (exponent !== SMALL_E && exponent !== LARGE_E) return at;
  const sign = text.charCodeAt(at + 1);
  return pastDigits(text, at + (sign === PLUS || sign === MINUS ? 2 : 1));
}

function pastDigits(text: string, begin: number): number {
  let at = begin;
  for (;;) {
    const char = text.charCodeAt(at);
    if (!(char >= ZERO && char <= NINE)) return at === begin ? -1 : at;
    at += 1;
  }
}

/** The log lines of a call as clients get them, within Convex's bounds, and what the operator's terminal gets. */

const MAX_LINES = 256;
const MAX_LINE_BYTES = 32 * 1024;
const CUT = " (truncated due to length)";

/**
 * @param {string} level  DEBUG, INFO, LOG, WARN or ERROR
 * @param {readonly string[]} messages  printed values
 */
export function formatLogLine(level, messages) {
  const text = messages.join(" ");
  if (text.length * 3 <= MAX_LINE_BYTES || Buffer.byteLength(text) <= MAX_LINE_BYTES) {
    return `[${level}] ${text}`;
  }
  const cut = new TextDecoder().decode(Buffer.from(text).subarray(0, MAX_LINE_BYTES), { stream: true });
  return `[${level}] ${cut}${CUT}`;
}

/**
 * Add a line while there is room; the last one says that the others are missing.
 *
 * @param {string[]} lines
 * @param {string} line
 */
export function addLogLine(lines, line) {
  if (lines.length < MAX_LINES - 1) lines.push(line);
  else if (lines.length === MAX_LINES - 1) {
    lines.push(`[ERROR] Log overflow (maximum ${MAX_LINES}). Remaining log lines omitted.`);
  }
}

// Control characters of both sets, line separators, and what turns the direction of writing.
const UNPRINTABLE = /[\p{Cc}\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;

/**
 * One line for a terminal: functions, clients and pushed code choose parts of it, and none may move the cursor or look like another line.
 *
 * @param {string} text
 */
export function operatorLine(text) {
  return text
    .replaceAll("\n", " | ")
    .replaceAll("\t", " ")
    .replace(UNPRINTABLE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** How things are written for people. Pure. */

// C0 and C1 controls but tab and line feed, what turns the direction of text, what is there and not seen, lone surrogates.
const UNSEEN =
  // eslint-disable-next-line no-control-regex -- these are what it is about
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/**
 * A text from elsewhere, such that what it does to a terminal or to the direction of a line is seen instead of done: ESC is
 * written ␛, a right-to-left override ⟨U+202E⟩.
 */
export function visible(text: string): string {
  return text.replace(/\r\n/g, "\n").replace(UNSEEN, (character) => {
    const code = character.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

const UNITS = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
] as const;

/** A time span in milliseconds, to two units at the most: 850 ms, 3.2 s, 4 min 10 s. */
export function span(ms: number): string {
  if (!Number.isFinite(ms)) return "?";
  const whole = Math.max(0, Math.round(ms));
  if (whole < 1_000) return `${whole} ms`;
  if (whole < 9_950) return `${(whole / 1_000).toFixed(1)} s`;
  if (whole < 60_000) return `${Math.floor(whole / 1_000)} s`;
  const [unit, name] = UNITS.find(([size]) => whole >= size) ?? UNITS[2];
  const count = Math.floor(whole / unit);
  const [small, smallName] =
    unit === 60_000 ? [1_000, "s"] : unit === 3_600_000 ? [60_000, "min"] : [3_600_000, "h"];
  const rest = Math.floor((whole - count * unit) / small);
  return rest === 0 ? `${count} ${name}` : `${count} ${name} ${rest} ${smallName}`;
}

const STAMP = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** An instant, in milliseconds since the epoch, by the viewer's clock and time zone. */
export const stamp = (at: number): string => STAMP.format(at);

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 1, notation: "compact" });

export const count = (value: number): string => (value < 10_000 ? String(value) : NUMBER.format(value));

/** Money: micro-dollars as dollars, with more digits the less it is. */
export function dollars(micros: number): string {
  const value = micros / 1_000_000;
  return `$${value.toFixed(value === 0 || value >= 1 ? 2 : value >= 0.01 ? 3 : 6)}`;
}

/** JSON text as it is read best; what is not JSON as it is. */
export function pretty(json: string): string {
  if (json.length > 200_000) return json;
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "string" ? value : JSON.stringify(value, null, 2);
  } catch {
    return json;
  }
}

/** What the control plane, the connection or the client said was wrong, in a line. */
export function messageOf(error: unknown): string {
  const data = (error as { data?: unknown } | null)?.data;
  if (typeof data === "object" && data !== null && "message" in data) return String(data.message);
  const text = error instanceof Error ? error.message : String(error);
  const [, said = text] = /Uncaught Error: ([^\n]*)/.exec(text) ?? [];
  return said.split("\n", 1)[0] ?? "";
}

/** The code of a refusal of the control plane, else null. */
export function codeOf(error: unknown): string | null {
  const data = (error as { data?: unknown } | null)?.data;
  return typeof data === "object" && data !== null && "code" in data ? String(data.code) : null;
}

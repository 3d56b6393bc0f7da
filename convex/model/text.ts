/** Texts from outside: names, ids, sizes, digests, JSON. */
import type { Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { INLINE_BYTES, MAX_KEY_CHARS, MAX_LABELS, MAX_TEXT_BYTES } from "../constants";
import { refuse } from "../errors";

const NAME = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$/;

/** Names of workers, queues, tenants and agents: they become parts of index keys and log lines. */
export function checkName(field: string, name: string): string {
  if (!NAME.test(name)) {
    throw refuse(
      "invalid_argument",
      `${field}: ${JSON.stringify(name.slice(0, 80))} is not a name. Use 1 to 64 letters, digits and . _ : - beginning with a letter or digit.`,
    );
  }
  return name;
}

/** Names as they are kept, such as labels: sorted, each once. */
export function checkLabels(field: string, labels: readonly string[], most: number = MAX_LABELS): string[] {
  if (labels.length > most) {
    throw refuse("invalid_argument", `${field}: ${labels.length} given, at most ${most}.`);
  }
  return [...new Set(labels.map((label) => checkName(field, label)))].sort();
}

/** A key of the caller's own: any text of some length. */
export function checkKey(field: string, key: string): string {
  if (key.length < 1 || key.length > MAX_KEY_CHARS) {
    throw refuse("invalid_argument", `${field}: ${key.length} characters; use 1 to ${MAX_KEY_CHARS}.`);
  }
  return key;
}

/** An id that somebody typed. */
export function knownId<T extends "tasks" | "runs" | "groups">(ctx: QueryCtx, table: T, text: string): Id<T> {
  const id = ctx.db.normalizeId(table, text);
  if (id === null) {
    throw refuse("not_found", `No ${table.slice(0, -1)} ${JSON.stringify(text.slice(0, 80))}.`);
  }
  return id;
}

/** A number within `min` and `max`, both included. */
export function checkNumber(field: string, value: number, min: number, max: number): number {
  if (!(value >= min && value <= max)) {
    throw refuse("invalid_argument", `${field}: ${value} is outside ${min} to ${max}.`);
  }
  return value;
}

export function checkInteger(field: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value)) throw refuse("invalid_argument", `${field}: ${value} is not a whole number.`);
  return checkNumber(field, value, min, max);
}

/** @returns 64 hexadecimal digits */
export async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function utf8Bytes(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** Whether a text takes at most `bytes` in UTF-8. A UTF-16 unit is at most three bytes, so short texts need not be encoded. */
export function fitsIn(text: string, bytes: number): boolean {
  return text.length * 3 <= bytes || (text.length <= bytes && utf8Bytes(text) <= bytes);
}

/** JSON text of at most one document's size. */
export function checkJson(field: string, text: string): string {
  if (!fitsIn(text, MAX_TEXT_BYTES)) {
    throw refuse(
      "payload_too_large",
      `${field}: ${utf8Bytes(text)} bytes; at most ${MAX_TEXT_BYTES} are kept. Store it elsewhere and pass a reference.`,
    );
  }
  if (!isJson(text)) {
    throw refuse(
      "invalid_argument",
      `${field}: not JSON. Pass the text that JSON.stringify or json.dumps returns.`,
    );
  }
  return text;
}

export function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** JSON text that stands in a row of its owner. */
export function checkSmallJson(field: string, text: string, bytes: number): string {
  if (fitsIn(text, bytes)) return checkJson(field, text);
  throw refuse(
    "payload_too_large",
    `${field}: ${utf8Bytes(text)} bytes, at most ${bytes}. Store it elsewhere and pass a reference.`,
  );
}

/** Keep a text beside its owner's row while it is small, else in `outputs`. */
export async function keepText(
  ctx: MutationCtx,
  text: string | null,
): Promise<{ inline: string | null; id: Id<"outputs"> | null }> {
  if (text === null) return { inline: null, id: null };
  if (fitsIn(text, INLINE_BYTES)) return { inline: text, id: null };
  return { inline: null, id: await ctx.db.insert("outputs", { text }) };
}

export async function readText(
  ctx: QueryCtx,
  kept: { inline: string | null; id: Id<"outputs"> | null },
): Promise<string | null> {
  if (kept.id === null) return kept.inline;
  return (await ctx.db.get("outputs", kept.id))?.text ?? null;
}

/** Texts from outside: names, ids, sizes, digests, JSON. */
import type { Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { INLINE_BYTES, MAX_KEY_CHARS, MAX_LABELS, MAX_PAYLOAD_BYTES, MAX_TEXT_BYTES } from "../constants";
import { refuse } from "../errors";
import { isJson } from "./json";

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

/** The header of W3C Trace Context, version 00. */
export function checkTraceparent(field: string, text: string): string {
  const [, trace, span] = /^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$/.exec(text) ?? [];
  if (trace === undefined || span === undefined || /^0+$/.test(trace) || /^0+$/.test(span)) {
    throw refuse(
      "invalid_argument",
      `${field}: ${JSON.stringify(text.slice(0, 80))} is no traceparent such as 00-(32 hexadecimal digits)-(16 of them)-01.`,
    );
  }
  return text;
}

/** A key of the caller's own: any text of some length. */
export function checkKey(field: string, key: string): string {
  if (key.length < 1 || key.length > MAX_KEY_CHARS) {
    throw refuse("invalid_argument", `${field}: ${key.length} characters; use 1 to ${MAX_KEY_CHARS}.`);
  }
  return key;
}

/** An id that somebody typed. */
export function knownId<T extends "tasks" | "runs" | "groups" | "approvals">(
  ctx: QueryCtx,
  table: T,
  text: string,
): Id<T> {
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

/** JSON text of at most the size of a payload. */
export function checkJson(field: string, text: string): string {
  if (!fitsIn(text, MAX_PAYLOAD_BYTES)) {
    throw refuse(
      "payload_too_large",
      `${field}: ${utf8Bytes(text)} bytes; at most ${MAX_PAYLOAD_BYTES} are kept. Store it elsewhere and pass a reference.`,
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

/** JSON text that stands in a row of its owner. */
export function checkSmallJson(field: string, text: string, bytes: number): string {
  if (fitsIn(text, bytes)) return checkJson(field, text);
  throw refuse(
    "payload_too_large",
    `${field}: ${utf8Bytes(text)} bytes, at most ${bytes}. Store it elsewhere and pass a reference.`,
  );
}

/**
 * A text in parts of at most `bytes` in UTF-8 (4 or more), no character cut in two. Pure.
 * @returns at least one part; together they are the text
 */
export function inParts(text: string, bytes: number): string[] {
  const parts: string[] = [];
  let begin = 0;
  do {
    let end = Math.min(text.length, begin + bytes);
    for (let size; (size = utf8Bytes(text.slice(begin, end))) > bytes;) {
      end = begin + Math.floor(((end - begin) * bytes) / size);
    }
    const last = text.charCodeAt(end - 1);
    if (end < text.length && last >= 0xd800 && last < 0xdc00) end -= 1; // the first half of a pair
    parts.push(text.slice(begin, end));
    begin = end;
  } while (begin < text.length);
  return parts;
}

/** Keep a text beside its owner's row while it is small, else in `outputs`. */
export async function keepText(
  ctx: MutationCtx,
  text: string | null,
): Promise<{ inline: string | null; id: Id<"outputs"> | null }> {
  if (text === null) return { inline: null, id: null };
  return fitsIn(text, INLINE_BYTES)
    ? { inline: text, id: null }
    : { inline: null, id: await store(ctx, text) };
}

/** Keep a text in `outputs`: a row for each part, the first names the others. */
export async function store(ctx: MutationCtx, text: string): Promise<Id<"outputs">> {
  const [first, ...others] = inParts(text, MAX_TEXT_BYTES);
  const rest: Id<"outputs">[] = [];
  for (const part of others) rest.push(await ctx.db.insert("outputs", { text: part }));
  return ctx.db.insert("outputs", { text: first!, ...(rest.length > 0 && { rest }) });
}

/** The whole of a text that was kept. */
export async function readText(
  ctx: QueryCtx,
  kept: { inline: string | null; id: Id<"outputs"> | null },
): Promise<string | null> {
  if (kept.id === null) return kept.inline;
  const first = await ctx.db.get("outputs", kept.id);
  if (first === null) return null;
  const texts = [first.text];
  for (const id of first.rest ?? []) texts.push((await ctx.db.get("outputs", id))?.text ?? "");
  return texts.join("");
}

/** One part of a text that was kept, and how many it has; null when there is no such part. */
export async function readPart(
  ctx: QueryCtx,
  kept: { inline: string | null; id: Id<"outputs"> | null },
  index: number,
): Promise<{ text: string; parts: number } | null> {
  if (kept.id === null) return index === 0 && kept.inline !== null ? { text: kept.inline, parts: 1 } : null;
  const first = await ctx.db.get("outputs", kept.id);
  const rest = first?.rest ?? [];
  const part = index === 0 ? first : rest[index - 1] ? await ctx.db.get("outputs", rest[index - 1]!) : null;
  return part && { text: part.text, parts: 1 + rest.length };
}

/** Remove a text from `outputs`, with all its parts. */
export async function dropText(ctx: MutationCtx, id: Id<"outputs">): Promise<void> {
  const first = await ctx.db.get("outputs", id);
  if (first === null) return;
  for (const part of [...(first.rest ?? []), id]) await ctx.db.delete("outputs", part);
}

/** Puts the text of a run together from its chunks. Pure: the same chunks in any division give the same text. */
import type { Chunk } from "../../convex/validators";

/** Text of one kind from one attempt of one call, in one piece. Call 0 is what the agent itself says. */
export type Segment = Pick<Chunk, "call" | "attempt" | "kind" | "text">;

/**
 * Add chunks, in the order of their `seq`, to what there is. A later attempt of a call supersedes the earlier ones: their text
 * goes, and what still comes of them is left out.
 */
export function appendChunks(segments: readonly Segment[], chunks: readonly Segment[]): readonly Segment[] {
  if (chunks.length === 0) return segments;
  let shown = [...segments];
  const newest = new Map<number, number>(); // call -> its newest attempt
  for (const { call, attempt } of shown) newest.set(call, Math.max(attempt, newest.get(call) ?? 0));
  for (const { call, attempt, kind, text } of chunks) {
    const known = newest.get(call) ?? attempt;
    if (attempt < known) continue;
    if (attempt > known) shown = shown.filter((segment) => segment.call !== call);
    newest.set(call, attempt);
    const last = shown.at(-1);
    if (last?.call === call && last.attempt === attempt && last.kind === kind)
      shown[shown.length - 1] = { ...last, text: last.text + text };
    else shown.push({ call, attempt, kind, text });
  }
  return shown;
}

/** What the model and the agent have written: neither reasoning nor log lines. */
export const textOf = (segments: readonly Segment[]): string =>
  segments
    .filter(({ kind }) => kind === "text")
    .map(({ text }) => text)
    .join("");

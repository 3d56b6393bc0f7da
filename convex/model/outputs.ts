/** Inputs and outputs of tasks on their way out, and large outputs on their way in. */
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { MAX_TEXT_BYTES } from "../constants";
import { gathered } from "./collect";
import { checkJson, inParts, readPart, readText, store } from "./text";

/** The whole input of a task: JSON text of at most 8 MiB. */
export async function readInput(ctx: QueryCtx, task: Doc<"tasks">): Promise<string> {
  if (task.gathers === true) return gathered(ctx, task._id);
  return (await readText(ctx, { inline: task.input, id: task.inputId })) ?? "null";
}

/** A part of a task's input or output, and how many there are; null when there is no such part. */
export async function partOf(
  ctx: QueryCtx,
  task: Doc<"tasks">,
  of: "input" | "output",
  index: number,
): Promise<{ text: string; parts: number } | null> {
  if (of === "input" && task.gathers === true) {
    const texts = inParts(await gathered(ctx, task._id), MAX_TEXT_BYTES);
    const text = texts[index];
    return text === undefined ? null : { text, parts: texts.length };
  }
  const kept =
    of === "input" ? { inline: task.input, id: task.inputId } : { inline: task.output, id: task.outputId };
  return readPart(ctx, kept, index);
}

/**
 * Keep the output of a live run ahead of its end, being too large for a sync; the result that follows has none of its own.
 * A repeat changes nothing.
 */
export async function uploadOutput(ctx: MutationCtx, run: Doc<"runs">, text: string): Promise<void> {
  if (run.outputId !== undefined) return;
  await ctx.db.patch("runs", run._id, { outputId: await store(ctx, checkJson("output", text)) });
}

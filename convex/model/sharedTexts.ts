/** Texts that several have: a row in `shares` for each, and the last of them takes the text with it. */
import type { Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";

type Owner = Id<"steps"> | Id<"tasks">;

/** A text that belonged to one now belongs to both. */
export async function share(
  ctx: MutationCtx,
  output: Id<"outputs">,
  first: Owner,
  second: Owner,
): Promise<void> {
  for (const owner of [first, second]) {
    if ((await partOf(ctx, output, owner)) === null) await ctx.db.insert("shares", { output, step: owner });
  }
}

/** `owner` gives up its part in a text, shared or not. @returns whether nobody else has it, so that it is to be deleted */
export async function unshare(ctx: MutationCtx, output: Id<"outputs">, owner: Owner): Promise<boolean> {
  const shares = await ctx.db
    .query("shares")
    .withIndex("by_output_and_step", (q) => q.eq("output", output))
    .take(2);
  if (shares.length < 2) {
    for (const last of shares) await ctx.db.delete("shares", last._id);
    return true;
  }
  const own = await partOf(ctx, output, owner);
  if (own !== null) await ctx.db.delete("shares", own._id);
  return false;
}

function partOf(ctx: MutationCtx, output: Id<"outputs">, owner: Owner) {
  return ctx.db
    .query("shares")
    .withIndex("by_output_and_step", (q) => q.eq("output", output).eq("step", owner))
    .unique();
}

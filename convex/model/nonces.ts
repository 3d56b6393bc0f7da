/** What has been seen and must do nothing when it comes again, for a while. */
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { NONCE_KEEP_MS, WATCHDOG_BATCH } from "../constants";

/**
 * Note a key, in the transaction that does what it stands for.
 *
 * @returns what stands for it already; null: it is new. Two at the same time conflict, and the second finds the first
 */
export async function note(ctx: MutationCtx, key: string, now: number): Promise<Doc<"nonces"> | null> {
  const known = await ctx.db
    .query("nonces")
    .withIndex("by_key", (q) => q.eq("key", key))
    .unique();
  if (known !== null && known.expiresAt > now) return known;
  const row = { key, expiresAt: now + NONCE_KEEP_MS };
  if (known === null) await ctx.db.insert("nonces", row);
  else await ctx.db.replace("nonces", known._id, row);
  return null;
}

export const isNew = async (ctx: MutationCtx, key: string, now: number): Promise<boolean> =>
  (await note(ctx, key, now)) === null;

/** Note which triggers of an event could not start their tasks: what came under the key is not all done. */
export async function noteRefused(ctx: MutationCtx, key: string, refused: string[]): Promise<void> {
  const row = await ctx.db
    .query("nonces")
    .withIndex("by_key", (q) => q.eq("key", key))
    .unique();
  await ctx.db.patch("nonces", row!._id, { refused: refused.length > 0 ? refused : undefined });
}

/** When a key was noted first, in milliseconds since the epoch: `now` if it is new. */
export async function firstNoted(ctx: MutationCtx, key: string, now: number): Promise<number> {
  return ((await note(ctx, key, now))?.expiresAt ?? now + NONCE_KEEP_MS) - NONCE_KEEP_MS;
}

/** Remove a page of those that have expired, and come again while there are more. */
export async function forgetExpired(ctx: MutationCtx, now: number): Promise<void> {
  const expired = await ctx.db
    .query("nonces")
    .withIndex("by_expiresAt", (q) => q.lte("expiresAt", now))
    .take(WATCHDOG_BATCH);
  for (const nonce of expired) await ctx.db.delete("nonces", nonce._id);
  if (expired.length === WATCHDOG_BATCH) await ctx.scheduler.runAfter(0, internal.webhooks.forget, {});
}

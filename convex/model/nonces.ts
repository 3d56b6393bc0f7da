/** What has been seen and must do nothing when it comes again, for a while. */
import { internal } from "../_generated/api";
import type { MutationCtx } from "../_generated/server";
import { NONCE_KEEP_MS, WATCHDOG_BATCH } from "../constants";

/**
 * Note a key, in the transaction that does what it stands for.
 *
 * @returns whether it is new: two at the same time conflict, and the second finds the first
 */
export async function isNew(ctx: MutationCtx, key: string, now: number): Promise<boolean> {
  const known = await ctx.db
    .query("nonces")
    .withIndex("by_key", (q) => q.eq("key", key))
    .unique();
  if (known !== null && known.expiresAt > now) return false;
  const expiresAt = now + NONCE_KEEP_MS;
  if (known === null) await ctx.db.insert("nonces", { key, expiresAt });
  else await ctx.db.patch("nonces", known._id, { expiresAt });
  return true;
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

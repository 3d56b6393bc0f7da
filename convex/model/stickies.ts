/** Which worker ran the tasks of a sticky key last: it may hold what they share, in memory or in a provider's cache. */
import type { Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { STICKY_BATCH, STICKY_MS } from "../constants";

const FRESH_MS = STICKY_MS / 24; // a row that is younger is left as it is

/** Note that `worker` runs this key now; only the dispatch loop does. Rows past their life go as new ones come. */
export async function keepSticky(
  ctx: MutationCtx,
  { tenant, sticky }: { tenant: string; sticky: string },
  worker: Id<"workers">,
  now: number,
): Promise<void> {
  const known = await ctx.db
    .query("stickies")
    .withIndex("by_tenant_and_sticky", (q) => q.eq("tenant", tenant).eq("sticky", sticky))
    .unique();
  if (known !== null) {
    if (known.worker !== worker || known.at < now - FRESH_MS)
      await ctx.db.patch("stickies", known._id, { worker, at: now });
    return;
  }
  await ctx.db.insert("stickies", { tenant, sticky, worker, at: now });
  const old = await ctx.db
    .query("stickies")
    .withIndex("by_at", (q) => q.lte("at", now - STICKY_MS))
    .take(STICKY_BATCH);
  for (const { _id } of old) await ctx.db.delete("stickies", _id);
}

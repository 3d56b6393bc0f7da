/** The room that ended runs give back: rows that dispatch settles, one for each session and lane of a transaction. */
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";

type Held = Pick<Doc<"runs">, "session" | "lane">;

/** Collects what the runs that a transaction ends give back, so that it is told of once. */
export class Room {
  private readonly freed = new Map<string, Held & { runs: number }>();

  note({ session, lane }: Held): void {
    const key = `${session}/${lane}`;
    const known = this.freed.get(key);
    if (known === undefined) this.freed.set(key, { session, lane, runs: 1 });
    else known.runs += 1;
  }

  /** Leave it to dispatch: blind inserts, which conflict with nothing. */
  async leave(ctx: MutationCtx): Promise<void> {
    for (const { session, lane, runs } of this.freed.values()) {
      await ctx.db.insert("freed", { session, lane, ...(runs > 1 && { runs }), at: ctx.db.vars.commitTs });
    }
    this.freed.clear();
  }
}

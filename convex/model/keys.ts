import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { MAX_QUEUES } from "../constants";
import { refuse } from "../errors";
import type { Role } from "../validators";
import { checkName, sha256 } from "./text";

export type Caller = { key: Id<"keys">; role: Role; queues: string[] | null };

/**
 * The caller behind `key`, if the key is known, alive and of one of `roles`; default deny. A key is 32 random bytes behind a
 * prefix that names its role, and only its SHA-256 is stored.
 */
export async function authorize(
  ctx: { db: QueryCtx["db"] },
  key: string,
  roles: readonly Role[],
): Promise<Caller> {
  const hash = await sha256(key);
  const row = await ctx.db
    .query("keys")
    .withIndex("by_hash", (q) => q.eq("hash", hash))
    .unique();
  if (row === null) throw refuse("unauthorized", "This key is not known. Make one: signalbox keys create");
  const ended = endedBecause(row, Date.now());
  if (ended !== null) throw refuse("unauthorized", `The key ${JSON.stringify(row.label)} ${ended}.`);
  if (!roles.includes(row.role)) {
    throw refuse(
      "forbidden",
      `The key ${JSON.stringify(row.label)} has the role ${row.role}; this function needs ${roles.join(" or ")}.`,
    );
  }
  return { key: row._id, role: row.role, queues: row.queues };
}

/** Refuse a queue that the caller's key does not serve. */
export function checkScope(caller: Caller, queue: string): void {
  if (caller.queues === null || caller.queues.includes(queue)) return;
  throw refuse("forbidden", `This key serves ${caller.queues.join(", ")} and not the queue ${queue}.`);
}

function endedBecause(row: Doc<"keys">, now: number): string | null {
  if (row.revokedAt !== null) return "was revoked";
  if (row.expiresAt !== null && row.expiresAt <= now) return "has expired";
  return null;
}

/** Store the hash of a key that the operator made. The same hash again is the same key. */
export async function store(
  ctx: MutationCtx,
  row: { hash: string; role: Role; label: string; queues: string[] | null; expiresAt: number | null },
): Promise<Id<"keys">> {
  if (!/^[0-9a-f]{64}$/.test(row.hash)) {
    throw refuse("invalid_argument", "hash: expected the SHA-256 of the key as 64 hexadecimal digits.");
  }
  if (row.label.length > 200) throw refuse("invalid_argument", "label: at most 200 characters.");
  if ((row.queues?.length ?? 0) > MAX_QUEUES) {
    throw refuse(
      "invalid_argument",
      `queues: ${row.queues!.length} given; a key is bound to ${MAX_QUEUES} at most.`,
    );
  }
  for (const queue of row.queues ?? []) checkName("queues", queue);
  const known = await ctx.db
    .query("keys")
    .withIndex("by_hash", (q) => q.eq("hash", row.hash))
    .unique();
  return known?._id ?? (await ctx.db.insert("keys", { ...row, revokedAt: null }));
}

/** End a key. Open subscriptions that read its row run again and are refused. */
export async function revoke(ctx: MutationCtx, key: Id<"keys">): Promise<void> {
  const row = await ctx.db.get("keys", key);
  if (row === null) throw refuse("not_found", `No key ${key}.`);
  if (row.revokedAt === null) await ctx.db.patch("keys", key, { revokedAt: Date.now() });
}

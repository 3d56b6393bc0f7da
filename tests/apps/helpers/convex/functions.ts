import { customCtx, customMutation, customQuery, NoOp } from "convex-helpers/server/customFunctions";
import { type Rules, wrapDatabaseReader, wrapDatabaseWriter } from "convex-helpers/server/rowLevelSecurity";
import { Triggers } from "convex-helpers/server/triggers";
import { zCustomMutation, zCustomQuery } from "convex-helpers/server/zod4";
import { ConvexError } from "convex/values";
import type { DataModel, Doc } from "./_generated/dataModel";
import { mutation as rawMutation, type QueryCtx, query } from "./_generated/server";

/** Derived fields and counts that no writer can forget. */
const triggers = new Triggers<DataModel>();
triggers.register("notes", async (ctx, change) => {
  const owner = (change.newDoc ?? change.oldDoc).owner;
  const counted = await ctx.innerDb
    .query("counts")
    .withIndex("by_owner", (q) => q.eq("owner", owner))
    .unique();
  const delta = { insert: 1, update: 0, delete: -1 }[change.operation];
  if (counted === null) await ctx.innerDb.insert("counts", { owner, notes: delta });
  else if (delta !== 0) await ctx.innerDb.patch(counted._id, { notes: counted.notes + delta });
  const note = change.newDoc;
  if (note !== null && note.length !== note.text.length)
    await ctx.db.patch(note._id, { length: note.text.length });
});

export const mutation = customMutation(rawMutation, customCtx(triggers.wrapDB));

async function currentUser(ctx: QueryCtx): Promise<Doc<"users">> {
  const identity = await ctx.auth.getUserIdentity();
  const user = await ctx.db
    .query("users")
    .withIndex("by_subject", (q) => q.eq("subject", identity?.subject ?? ""))
    .unique();
  if (user === null) throw new ConvexError({ code: "unauthorized" });
  return user;
}

/** Who may see and change what, said once. */
function rulesFor(user: Doc<"users">): Rules<object, DataModel> {
  const mine = async (_ctx: object, note: { owner: Doc<"users">["_id"] }) =>
    note.owner === user._id || user.role === "admin";
  return {
    notes: { read: async (ctx, note) => note.shared || (await mine(ctx, note)), modify: mine, insert: mine },
  };
}

export const userQuery = customQuery(
  query,
  customCtx(async (ctx) => {
    const user = await currentUser(ctx);
    return { user, db: wrapDatabaseReader({}, ctx.db, rulesFor(user)) };
  }),
);

export const userMutation = customMutation(
  mutation,
  customCtx(async (ctx) => {
    const user = await currentUser(ctx as never);
    return { user, db: wrapDatabaseWriter({}, ctx.db, rulesFor(user)) };
  }),
);

export const zodQuery = zCustomQuery(query, NoOp);
export const zodMutation = zCustomMutation(mutation, NoOp);

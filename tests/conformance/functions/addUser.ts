import { v } from "convex/values";
import { mutation } from "./_generated/server";

export default mutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) =>
    await ctx.db.insert("users", { name, contact: { email: `${name}@example.org` } }),
});

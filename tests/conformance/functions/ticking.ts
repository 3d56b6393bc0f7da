import { internalMutation } from "./_generated/server";

export const tick = internalMutation({
  args: {},
  handler: async (ctx) => {
    await ctx.db.insert("messages", { channel: "ticks", body: String(Date.now()) });
  },
});

import { defineApp } from "convex/server";
import { v } from "convex/values";

export default defineApp({
  env: {
    // Milliseconds a busy worker may be silent before its runs go back; 15000 when unset.
    SIGNALBOX_LEASE_MS: v.optional(v.string()),
    // 1: endpoints on the loopback may be called, over plain http. For one machine that holds everything, and for nothing else.
    SIGNALBOX_PUSH_INSECURE: v.optional(v.string()),
    // whsec_ and base64 of 24 to 64 bytes: what webhooks are signed with that name no other variable of SIGNALBOX_...
    SIGNALBOX_WEBHOOK_SECRET: v.optional(v.string()),
    // Days for which an ended task is kept with all that belongs to it; 30 when unset, 0: for ever.
    SIGNALBOX_KEEP_DAYS: v.optional(v.string()),
    // 1: nothing is deleted that `signalbox archive` has not written.
    SIGNALBOX_ARCHIVE_FIRST: v.optional(v.string()),
  },
});

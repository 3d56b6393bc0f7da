import { defineApp } from "convex/server";
import { v } from "convex/values";

export default defineApp({
  env: {
    // Milliseconds a busy worker may be silent before its runs go back; 15000 when unset.
    SIGNALBOX_LEASE_MS: v.optional(v.string()),
    // 1: endpoints on the loopback may be called, over plain http. For one machine that holds everything, and for nothing else.
    SIGNALBOX_PUSH_INSECURE: v.optional(v.string()),
  },
});

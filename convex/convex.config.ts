import { defineApp } from "convex/server";
import { v } from "convex/values";

export default defineApp({
  env: {
    // Milliseconds a busy worker may be silent before its runs go back; 15000 when unset.
    SIGNALBOX_LEASE_MS: v.optional(v.string()),
  },
});

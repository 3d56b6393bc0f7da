/** Validators of code changes in flight. */
import { v, type Infer } from "convex/values";

/**
 * What plays an agent. `version`: as its author calls it, else the same as `code`, a hash of what the agent is made of: its
 * source, or its settings in the registry.
 */
export const vVersion = v.object({ version: v.string(), code: v.string() });
export type Version = Infer<typeof vVersion>;

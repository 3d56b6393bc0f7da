/** The small apps of this folder. */

import path from "node:path";
import { useHost } from "../conformance/clients";
import type { Clients } from "../conformance/clients";

/** One host process, which serves an app of this folder, for the spec file that calls this. */
export function useApp(name: string): Clients {
  return useHost({ functions: path.join(import.meta.dirname, name, "convex") });
}

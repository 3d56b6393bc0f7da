/** Starts the embedded host: `node embedded/main.mjs --functions convex --data .signalbox/host`. */

import { createRequire } from "node:module";
import path from "node:path";
import { isCurrent } from "./built.mjs";
import { BUILD, SOURCES } from "./host-files.mjs";

if (isCurrent(BUILD, SOURCES)) createRequire(import.meta.url)(path.join(BUILD, "start.cjs"));
else await import("./start.mjs");

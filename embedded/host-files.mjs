/**
 * Where the host finds files of its own.
 *
 * What `build.mjs` makes of it lies in a folder beside this one, a file for each thread, named as here. So a thread is looked for
 * beside whoever starts it, and all else from the repository on.
 */

import path from "node:path";

const HERE = import.meta.dirname;
const EXTENSION = path.extname(import.meta.filename);

export const REPOSITORY = path.dirname(HERE);
export const SOURCES = path.join(REPOSITORY, "embedded");
export const BUILD = path.join(REPOSITORY, "build");
export const ENGINE_THREAD = path.join(HERE, `engine-thread${EXTENSION}`);
export const ACTIONS_THREAD = path.join(HERE, `actions-thread${EXTENSION}`);
/** What runs in the realm of functions, and is no module of the host. */
export const REALM_SCRIPTS = path.join(SOURCES, "engine");

/** Syscalls with which tests of clients let a function fail as the system fails; Convex has them too. */

import { conflictOver, SystemError } from "../errors.mjs";

/** @type {Record<string, import("./index.mjs").Syscall>} */
export const TEST_SYSCALLS = {
  throwOcc: () => {
    throw conflictOver();
  },
  throwOverloaded: () => {
    throw new SystemError("Busy", "I'm a bit busy.");
  },
};

/** References to the functions of any module and of any kind, without their types. */

import { anyApi } from "convex/server";

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- what a call gives is typed where it is used
export const api: any = anyApi;

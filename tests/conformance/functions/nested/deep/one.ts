import { query } from "../../_generated/server";

export default query({ args: {}, handler: async () => "nested/deep/one:default" });

export const named = query({ args: {}, handler: async () => "nested/deep/one:named" });

import { expect, test } from "vitest";
import { functionEnvironment } from "./env.mjs";

test("functions see what they declare, Signalbox's own variables and Convex's two, and no other", () => {
  const environment = {
    SECRET: "s",
    DECLARED: "d",
    SIGNALBOX_LEASE_MS: "1",
    CONVEX_CLOUD_URL: "u",
    CONVEX_DEPLOY_KEY: "k",
    UNSET: undefined,
  };
  expect(functionEnvironment(environment, ["DECLARED", "UNSET"])).toEqual({
    DECLARED: "d",
    SIGNALBOX_LEASE_MS: "1",
    CONVEX_CLOUD_URL: "u",
  });
});

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AIDS_GET, AIDS_POST } from "./http/aids.mjs";
import { CALL_GET, CALL_POST } from "./http/function-calls.mjs";
import { PUSH_GET_ROUTES, PUSH_POST_ROUTES } from "./push/routes.mjs";
import { ADMIN_KEY, TestHost } from "./testing.mjs";

/** Anybody may call these; which functions they may call there is the engine's to decide. */
const OPEN = [
  "GET /api/query",
  "POST /api/query",
  "POST /api/query_at_ts",
  "POST /api/query_batch",
  "POST /api/query_ts",
  "POST /api/mutation",
  "POST /api/action",
];

const FUNCTIONS = {
  "a.ts": `
    export const hidden = internalMutation(async () => "hidden");
    export const keys = mutation(async (_ctx, args) => [Object.keys(args), ({}).polluted ?? null, args.polluted ?? null]);
    export const say = mutation(async (_ctx, { text }) => { console.log(text); });`,
};

const host = new TestHost();
beforeAll(() => host.start(FUNCTIONS));
afterAll(() => host.dispose());

/** @param {string} method @param {Record<string, unknown>} routes */
const named = (method, routes) => Object.keys(routes).map((route) => `${method} ${route}`);
const routes = [
  ...named("GET", { ...CALL_GET, ...AIDS_GET, ...PUSH_GET_ROUTES }),
  ...named("POST", { ...CALL_POST, ...AIDS_POST, ...PUSH_POST_ROUTES }),
];
const token = `${btoa('{"alg":"none"}')}.${btoa('{"sub":"ann"}')}.x`;

describe.each(routes.filter((route) => !OPEN.includes(route)))("%s", (route) => {
  const [method = "", path = ""] = route.split(" ");

  test.each([
    ["no key", undefined, undefined],
    ["an empty key", "Convex ", ""],
    ["a wrong key", "Convex wrong", "wrong"],
    ["the beginning of the key", `Convex ${ADMIN_KEY.slice(0, -1)}`, ADMIN_KEY.slice(0, -1)],
    ["more than the key", `Convex ${ADMIN_KEY}x`, `${ADMIN_KEY}x`],
    ["the key by another scheme", `Bearer ${ADMIN_KEY}`, `Bearer ${ADMIN_KEY}:`],
    ["a user's token", `Bearer ${token}`, token],
    ["a key that is no text", undefined, { toString: "x" }],
  ])("refuses %s and says no secret", async (_what, authorization, adminKey) => {
    const response = await fetch(host.url + path, {
      method,
      headers: {
        "content-type": "application/json",
        ...(authorization === undefined ? {} : { authorization }),
      },
      ...(method === "POST" ? { body: JSON.stringify({ adminKey, path: "a:hidden", args: {} }) } : {}),
    });
    expect([400, 401, 403]).toContain(response.status);
    const answer = await response.json();
    expect(answer).toEqual({ code: expect.any(String), message: expect.any(String) });
    expect(JSON.stringify(answer)).not.toContain(ADMIN_KEY.slice(0, -1));
  });
});

test.each(OPEN)("%s is a route of the host", (route) => expect(routes).toContain(route));

test.each(["a:hidden", "_system/cli/tables:default", "_system/cli/queryEnvironmentVariables"])(
  "%s is not there for a caller without the key",
  async (path) => {
    for (const kind of ["query", "mutation", "action"]) {
      const answer = await host.post(`/api/${kind}`, { path, args: {} }, null);
      expect(JSON.stringify(answer)).toContain("Could not find public function for");
    }
  },
);

test.each(['{"__proto__":{"polluted":1}}', '{"constructor":{"prototype":{"polluted":1}}}'])(
  "arguments %s change no prototype",
  async (args) => {
    await fetch(`${host.url}/api/mutation`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: `{"path":"a:keys","args":${args},"__proto__":{"polluted":1}}`,
    });
    expect({}).not.toHaveProperty("polluted");
    expect(await host.call("mutation", "a:keys")).toEqual([[], null, null]);
  },
);

test("the key is in nothing that the host has told its operator", () => {
  expect(host.lines.join("\n")).not.toContain(ADMIN_KEY);
});

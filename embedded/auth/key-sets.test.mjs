import { createServer } from "node:http";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { KeySets } from "./key-sets.mjs";
import { keySet } from "./testing.mjs";

/** What the provider answers, by path. @type {Record<string, (response: import("node:http").ServerResponse) => void>} */
let answers = {};
let asked = [];
let url = "";
const server = createServer((request, response) => {
  asked.push(request.url);
  (answers[request.url] ?? ((one) => one.writeHead(404).end()))(response);
});
const json =
  (value, type = "application/json") =>
  (response) =>
    response.writeHead(200, { "content-type": type }).end(JSON.stringify(value));

beforeAll(async () => {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${server.address().port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  asked = [];
  answers = { "/keys": json({ keys: keySet() }) };
});

test("a key set is fetched once for many tokens, at the same time and later", async () => {
  const keySets = new KeySets();
  const both = await Promise.all([keySets.custom(`${url}/keys`, "k1"), keySets.custom(`${url}/keys`, "k1")]);
  expect(both).toEqual([keySet(), keySet()]);
  await keySets.custom(`${url}/keys`, "k1");
  expect(asked).toEqual(["/keys"]);
});

test("it is fetched again when it is old, or when a key is missing for a while", async () => {
  let now = 0;
  const keySets = new KeySets({ now: () => now });
  const ask = async (kid) => (await keySets.custom(`${url}/keys`, kid), asked.length);
  expect([await ask("k1"), await ask("rotated")]).toEqual([1, 1]);
  now = 10_000;
  expect([await ask("k1"), await ask("rotated")]).toEqual([1, 2]);
  now += 300_000;
  expect(await ask("k1")).toBe(3);
});

test("an OpenID Connect provider's keys are where its metadata says", async () => {
  answers["/.well-known/openid-configuration"] = json({ issuer: url, jwks_uri: `${url}/keys` });
  expect(await new KeySets().discovered(url, "k1")).toEqual(keySet());
  expect(asked).toEqual(["/.well-known/openid-configuration", "/keys"]);
});

test.each([
  ["is not there", (response) => response.writeHead(404).end(), /HTTP 404 Not Found/],
  ["is elsewhere", (response) => response.writeHead(302, { location: "/keys" }).end(), /HTTP 302/],
  ["is no JSON by its type", json({ keys: [] }, "text/html"), /Invalid Content-Type 'text\/html'/],
  ["is no key set", json({ keys: [{}] }), /Invalid JWKS response body/],
  ["is too large", json({ keys: [{ kty: "x".repeat(1 << 20) }] }), /larger than/],
  ["never comes", () => {}, /Could not fetch JWKS.*(timeout|aborted)/],
])("a key set that %s is an error of the token, and is asked for again", async (_, answer, message) => {
  const keySets = new KeySets({ deadlineMs: 300 });
  answers["/keys"] = answer;
  const refused = { code: "InvalidAuthHeader", status: 401, message: expect.stringMatching(message) };
  await expect(keySets.custom(`${url}/keys`, "k1")).rejects.toMatchObject(refused);
  answers["/keys"] = json({ keys: keySet() }, "application/jwk-set+json; charset=utf-8");
  expect(await keySets.custom(`${url}/keys`, "k1")).toEqual(keySet());
});

test.each([
  ["has another issuer", json({ issuer: "https://evil.example", jwks_uri: "x" }), 400],
  ["is not found", (response) => response.writeHead(404).end("no"), 404],
  ["is down", (response) => response.writeHead(502).end(), 503],
])("discovery that %s fails with the code for it", async (_, answer, status) => {
  answers["/.well-known/openid-configuration"] = answer;
  const failed = new KeySets().discovered(url, "k1");
  await expect(failed).rejects.toMatchObject({ code: "AuthProviderDiscoveryFailed", status });
});

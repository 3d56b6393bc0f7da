import { createServer } from "node:http";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { ISSUER, keySet, userToken } from "./auth/testing.mjs";
import { startHost } from "./host.mjs";

const ADMIN_KEY = "signalbox|key";
const ME = { subject: "u1", issuer: ISSUER, tokenIdentifier: `${ISSUER}|u1` };

/** How long the provider takes for its key set, in ms. */
let providerDelay = 0;
let asked = 0;
const provider = createServer((request, response) => {
  asked += 1;
  setTimeout(() => {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ keys: keySet() }));
  }, providerDelay);
});

/** @type {{ host: Awaited<ReturnType<typeof startHost>>, data: string, url: string, siteUrl: string }} */
let running;
const clients = [];

async function start() {
  const data = running?.data ?? (await mkdtemp(path.join(tmpdir(), "identity-")));
  const options = {
    functions: fileURLToPath(new URL("fixtures/wire/convex", import.meta.url)),
    data,
    port: 0,
    sitePort: 0,
    host: "127.0.0.1",
    adminKey: ADMIN_KEY,
    synchronous: "normal",
  };
  const host = await startHost(options, { log: () => {}, onFatal: () => {} });
  running = { host, data, url: host.ready.url, siteUrl: host.ready.siteUrl };
}

beforeAll(async () => {
  provider.listen(0, "127.0.0.1");
  await once(provider, "listening");
  process.env.SIGNALBOX_TEST_JWKS = `http://127.0.0.1:${provider.address().port}/keys`;
  await start();
});
afterAll(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await running.host.stop();
  provider.close();
  await rm(running.data, { recursive: true });
  delete process.env.SIGNALBOX_TEST_JWKS;
});
beforeEach(() => {
  providerDelay = 0;
});

function reactive(logger = false) {
  const client = new ConvexClient(running.url, { webSocketConstructor: WebSocket, logger });
  clients.push(client);
  return client;
}

/** A client that asks for tokens, and what it has heard of them. */
function signedIn(tokens, logger = false) {
  const client = reactive(logger);
  const heard = { asked: [], states: [] };
  let next = 0;
  client.setAuth(
    async ({ forceRefreshToken }) => {
      heard.asked.push(forceRefreshToken);
      return tokens[Math.min(next++, tokens.length - 1)];
    },
    (isAuthenticated) => heard.states.push(isAuthenticated),
  );
  return { client, heard };
}

test("a token gives HTTP calls of every kind their user", async () => {
  const client = new ConvexHttpClient(running.url);
  client.setAuth(userToken({ name: "Zoë 漢" }));
  const me = { ...ME, name: "Zoë 漢" };
  expect(await client.query(anyApi.who.query, {})).toEqual(me);
  expect(await client.mutation(anyApi.who.mutation, {})).toEqual(me);
  expect(await client.action(anyApi.who.action, {})).toEqual(me);
  const headers = { authorization: `bearer ${userToken({ name: "Zoë 漢" })}` };
  expect(await (await fetch(`${running.siteUrl}/who`, { headers })).json()).toEqual(me);
  await expect(client.query(anyApi.who.internal, {})).rejects.toThrow("Could not find public function");
});

test("without a token, and with the key alone, there is no user", async () => {
  const client = new ConvexHttpClient(running.url);
  expect(await client.query(anyApi.who.query, {})).toBeNull();
  client.setAdminAuth(ADMIN_KEY);
  expect(await client.query(anyApi.who.internal, {})).toBeNull();
});

test("a token that is refused is a 401 with its code", async () => {
  const client = new ConvexHttpClient(running.url);
  client.setAuth(userToken({ iss: "https://else.example" }));
  await expect(client.query(anyApi.who.query, {})).rejects.toThrow(/"code":"NoAuthProvider".*issuer.example/);
});

test("the key that acts as a user is that user, and may call internal functions", async () => {
  const acting = { subject: "s", issuer: "https://i", name: "Zoë 漢", level: 3 };
  const user = { ...acting, tokenIdentifier: "https://i|s" };
  const http = new ConvexHttpClient(running.url);
  http.setAdminAuth(ADMIN_KEY, acting);
  expect(await http.query(anyApi.who.internal, {})).toEqual(user);
  expect(await http.action(anyApi.who.action, {})).toEqual(user);
  const socket = reactive();
  socket.client.setAdminAuth(ADMIN_KEY, acting);
  expect(await socket.query(anyApi.who.internal, {})).toEqual(user);
  expect(await socket.mutation(anyApi.who.mutation, {})).toEqual(user);
  expect(await socket.action(anyApi.who.action, {})).toEqual(user);
});

test("a client that signs in on its socket is that user in every kind of call", async () => {
  const { client, heard } = signedIn([userToken()]);
  expect(await client.query(anyApi.who.query, {})).toEqual(ME);
  expect(await client.mutation(anyApi.who.mutation, {})).toEqual(ME);
  expect(await client.action(anyApi.who.action, {})).toEqual(ME);
  expect(heard.states).toEqual([true]);
});

test("a subscription runs again when its client signs in and out", async () => {
  const client = reactive();
  const seen = [];
  const wait = (wanted) => expect.poll(() => seen.at(-1)?.subject ?? null, { timeout: 5_000 }).toBe(wanted);
  client.onUpdate(anyApi.who.query, {}, (value) => seen.push(value));
  await expect.poll(() => seen.length).toBe(1);
  client.setAuth(async () => userToken());
  await wait("u1");
  client.client.clearAuth();
  await wait(null);
});

test("a token that is refused is fetched anew, and its client goes on as that user", async () => {
  const expired = userToken({ exp: Math.floor(Date.now() / 1000) - 60 });
  const { client, heard } = signedIn([expired, userToken()]);
  expect(await client.query(anyApi.who.query, {})).toEqual(ME);
  expect(heard).toEqual({ asked: [false, true], states: [true] });
});

test("a client whose tokens are all refused hears that it is not signed in, and is served as nobody", async () => {
  const lines = [];
  const note = (...parts) => void lines.push(parts.join(" "));
  const bad = (n) => userToken({ iss: "https://else.example", n });
  const { client, heard } = signedIn([bad(1), bad(2), bad(3), bad(4), bad(5)], {
    log: note,
    warn: note,
    error: note,
    logVerbose: () => {},
  });
  expect(await client.query(anyApi.who.query, {})).toBeNull();
  await expect.poll(() => heard.states).toEqual([false]);
  expect(lines.join("\n")).toContain("No auth provider found matching the given token");
});

test("a token that ends while its client is connected is replaced at the next call", async () => {
  const short = userToken({ exp: Math.floor(Date.now() / 1000) + 2, iat: undefined });
  const client = reactive();
  const asked = [];
  client.setAuth(async ({ forceRefreshToken }) => {
    asked.push(forceRefreshToken);
    return asked.length <= 2 ? short : userToken();
  });
  expect(await client.query(anyApi.who.query, {})).toEqual(ME);
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  expect(await client.mutation(anyApi.who.mutation, {})).toEqual(ME);
  expect(asked).toEqual([false, true, true]);
});

test("whatever follows a token on the socket waits until its provider has answered", async () => {
  await running.host.stop(); // no key set is known to the next one
  await start();
  providerDelay = 300;
  asked = 0;
  const socket = new WebSocket(`${running.url.replace("http", "ws")}/api/sync`);
  await once(socket, "open");
  const messages = [];
  socket.on("message", (data) => messages.push(JSON.parse(data)));
  const call = (type, requestId, udfPath) => ({ type, requestId, udfPath, args: [{}] });
  for (const message of [
    { type: "Connect", sessionId: "s", connectionCount: 0, lastCloseReason: null },
    { type: "Authenticate", baseVersion: 0, tokenType: "User", value: userToken() },
    call("Action", 1, "who:action"),
    call("Mutation", 2, "who:mutation"),
    {
      type: "ModifyQuerySet",
      baseVersion: 0,
      newVersion: 1,
      modifications: [{ type: "Add", queryId: 1, udfPath: "who:query", args: [{}] }],
    },
    { type: "Authenticate", baseVersion: 1, tokenType: "None" },
    call("Action", 3, "who:action"),
  ])
    socket.send(JSON.stringify(message));
  const results = () => messages.filter(({ requestId }) => requestId !== undefined);
  await expect.poll(() => results().length, { timeout: 5_000 }).toBe(3);
  expect(Object.fromEntries(results().map(({ requestId, result }) => [requestId, result]))).toEqual({
    1: ME,
    2: ME,
    3: null,
  });
  expect(asked).toBe(1);
  socket.close();
});

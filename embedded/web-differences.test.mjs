/** The web classes that functions find, where Convex's differ from Node's: in queries and in actions. */

import { once } from "node:events";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestHost } from "./actions/testing.mjs";

const FUNCTIONS = fileURLToPath(new URL("fixtures/web/convex", import.meta.url));

/** @type {Awaited<ReturnType<typeof startTestHost>>} */
let host;
beforeAll(async () => void (host = await startTestHost({ functions: FUNCTIONS })));
afterAll(() => host.stop());

describe.each([
  ["query", "Query"],
  ["action", "Action"],
])("in a %s", (kind, name) => {
  test("Request, Response, URL, Blob, base64 and clones behave and speak as Convex's", async () => {
    const { value, errorMessage } = await host.reply(kind, `web:differencesOf${name}`);
    expect(errorMessage).toBeUndefined();
    expect(value).toEqual({
      ciphers: [
        17,
        "NotSupportedError: AES-GCM IV must be 96 bits",
        "NotSupportedError: tag length must be 128 bits",
      ],
      empty: [204, true, 204, ""],
      notModified: [304, false, "a"],
      away: [302, "/login", 307],
      error: 500,
      json: [
        "application/json",
        "TypeError: Failed to execute 'json' on 'Response': The data is not JSON serializable",
        "TypeError: Failed to execute 'json' on 'Response': The data is not JSON serializable",
      ],
      status:
        "RangeError: Failed to construct 'Response': The status provided is outside the range [200, 599].",
      streamed: "streamed",
      method: ["POST", "purge"],
      again: [
        "TypeError: Failed to execute 'text' on 'Request': body stream already read",
        "TypeError: Failed to execute 'json' on 'Response': body stream already read",
      ],
      copies: [true, "body", true],
      sameOptions: "POST",
      request: [
        "TypeError: Invalid URL: '/relative'",
        "TypeError: Unsupported URL scheme -- http and https are supported (scheme was ftp)",
        "TypeError: Failed to construct 'Request': Request with GET/HEAD method cannot have body.",
      ],
      url: [
        "TypeError: Invalid URL: 'nonsense'",
        "TypeError: Invalid URL: 'no base'",
        "TypeError: Could not parse URL: https://example.com/",
        null,
        "https://example.com/a",
        true,
      ],
      blobBytes: 3,
      blobResponse: "abc",
      base64: [
        "C",
        "C",
        "InvalidCharacterError: Failed to execute 'atob': The string is not correctly encoded",
        "InvalidCharacterError: Failed to execute 'atob': The string is not correctly encoded",
      ],
      clone: "Error: could not deserialize value",
      label: "RangeError: The encoding label provided ('Foo') is invalid.",
    });
  });

  test("no code is made of strings, and nothing waits for shared memory", async () => {
    const disallowed = "EvalError: Code generation from strings disallowed for this context";
    expect((await host.reply(kind, `web:forbiddenTo${name}`)).value).toEqual([
      disallowed,
      disallowed,
      disallowed,
      "TypeError: Atomics.wait cannot be called in this context",
      true,
    ]);
  });

  test.each([
    ["mode", "get mode for Request"],
    ["host", "set host for URL"],
    ["wrapKey", "wrapKey for SubtleCrypto"],
    [
      "body",
      "constructor with body type other than string | ArrayBuffer | Blob | ReadableStream | null for Response",
    ],
  ])("what Convex has not implemented ends the function, caught or not: %s", async (what, text) => {
    const { errorMessage } = await host.reply(kind, `web:refusedTo${name}`, { what });
    expect(errorMessage).toContain(
      `Server Error\nNot implemented: ${text}. Consider calling an action defined in Node.js instead (https://docs.convex.dev/functions/actions).\n    at refused (../convex/web.ts:`,
    );
  });
});

test("fetch names Convex to servers, and speaks as Convex's when it fails", async () => {
  const server = createServer((request, response) => {
    if (request.url === "/never") return;
    if (request.url === "/again") response.writeHead(302, { location: "/again" });
    if (request.url === "/private") response.writeHead(407);
    response.end(JSON.stringify({ ...request.headers, method: request.method }));
  }).listen(0, "127.0.0.1");
  const closed = createServer().listen(0, "127.0.0.1");
  await Promise.all([once(server, "listening"), once(closed, "listening")]);
  const urlOf = (one) => `http://127.0.0.1:${one.address().port}`;
  const [url, nobody] = [urlOf(server), urlOf(closed)];
  closed.close();
  const { value, errorMessage } = await host.reply("action", "web:fetches", { url, nobody });
  server.closeAllConnections();
  server.close();
  expect(errorMessage).toBeUndefined();
  expect(value).toEqual({
    agents: ["Convex/1.0", "own"],
    posted: [true, "POST"],
    refused: `Error: error sending request for url (${nobody}/): client error (Connect): tcp connect error: Connection refused (os error 111)`,
    aborted: "AbortError: The signal has been aborted",
    redirects: ["TypeError: fetch attempted redirect", "TypeError: fetch too many redirects", 302],
    forbidden: `Error: Request to ${url}/private forbidden`,
  });
});

test("an event tells its phase, its path and what became of it", async () => {
  expect(await host.query("web:events")).toEqual({
    phases: [0, 0, true, true],
    cancelBubble: true,
    prevented: true,
    trusted: false,
  });
});

import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ADMIN_KEY, startTestHost } from "../actions/testing.mjs";
import { temporaryFolder, writeFunctions } from "../engine/testing.mjs";

const PATIENTLY = { timeout: 10_000 }; // on a loaded machine

/** @type {Awaited<ReturnType<typeof startTestHost>>} */
let host;
beforeAll(async () => void (host = await startTestHost()));
afterAll(() => host.stop());

const site = (path, options) => fetch(host.siteUrl + path, { redirect: "manual", ...options });
const MIB = 1024 * 1024;

describe("routes", () => {
  test.each([
    ["GET", "/", 200, "root"],
    ["GET", "/files/one", 200, "exact"],
    ["GET", "/files/two", 200, "prefix"],
    ["GET", "/files/deep/two", 200, "longer prefix"],
    ["HEAD", "/files/one", 200, ""],
    ["PUT", "/put", 200, "put"],
    ["PATCH", "/patch", 200, "patched"],
    ["DELETE", "/gone", 204, ""],
    ["OPTIONS", "/cors", 204, ""],
    ["POST", "/files/one", 404, "No matching routes found"],
    ["GET", "/nowhere", 404, "No matching routes found"],
    ["GET", "/files", 404, "No matching routes found"],
    ["OPTIONS", "/files/one", 404, "No matching routes found"],
  ])("%s %s is a %d on the site's port and below /http on the API's", async (method, path, status, text) => {
    for (const base of [host.siteUrl, `${host.url}/http`]) {
      const response = await fetch(base + path, { method });
      expect([response.status, await response.text()]).toEqual([status, text]);
    }
  });

  test("a handler's CORS headers are the only ones", async () => {
    const allowed = async (path, method) =>
      (await site(path, { method })).headers.get("access-control-allow-origin");
    expect(await allowed("/cors", "OPTIONS")).toBe("https://app");
    expect(await allowed("/files/one", "GET")).toBeNull();
  });

  test("a method that no route can have is refused", async () => {
    const { statusCode, headers } = await bare({ method: "PROPFIND", path: "/" });
    expect([statusCode, headers.allow]).toEqual([405, "GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS"]);
  });

  test("without an http module there are no HTTP actions", async () => {
    const root = temporaryFolder();
    const functions = writeFunctions(root, { "empty.ts": "export const nothing = null;" });
    const other = await startTestHost({ functions, data: root });
    const response = await fetch(`${other.siteUrl}/anything`);
    expect([response.status, await response.text()]).toEqual([
      404,
      "This Convex deployment does not have HTTP actions enabled.",
    ]);
    await other.stop();
  });

  test("the prefix that convex.config.ts gives stands before all of them", async () => {
    const root = temporaryFolder();
    const functions = writeFunctions(root, {
      "convex.config.ts": `import { defineApp } from "convex/server"; export default defineApp({ httpPrefix: "/app" });`,
      "http.ts": `import { httpActionGeneric as httpAction, httpRouter } from "convex/server"; const http = httpRouter();
        const answer = httpAction(async (_, request) => new Response(new URL(request.url).pathname));
        http.route({ path: "/", method: "GET", handler: answer });
        http.route({ pathPrefix: "/files/", method: "GET", handler: answer }); export default http;`,
    });
    const other = await startTestHost({ functions, data: root });
    const get = async (path) => {
      const response = await fetch(other.siteUrl + path);
      return [response.status, await response.text()];
    };
    expect(await get("/app/files/one")).toEqual([200, "/app/files/one"]);
    expect(await get("/app/")).toEqual([200, "/app/"]);
    expect(await get("/app/none")).toEqual([404, "No matching routes found"]);
    for (const path of ["/app", "/", "/files/one", "/application/"]) {
      expect(await get(path)).toEqual([404, "This Convex deployment does not have HTTP actions enabled."]);
    }
    await other.stop();
  });
});

/** A request that fetch would not make. @returns {Promise<import("node:http").IncomingMessage & { body: Buffer }>} */
function bare(options, body) {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(host.siteUrl);
    const request = httpRequest({ hostname, port, ...options }, (response) => {
      const pieces = [];
      response.on("data", (piece) => pieces.push(piece));
      response.on("end", () => resolve(Object.assign(response, { body: Buffer.concat(pieces) })));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}

describe("what passes through", () => {
  test("body, status, headers and query", async () => {
    const body = new Uint8Array([0, 255, 10, 13]);
    const response = await site("/echo?a=1&b=%20", { method: "POST", body, headers: { "x-ask": "hi" } });
    expect(response.status).toBe(201);
    expect(new Uint8Array(await response.arrayBuffer())).toEqual(body);
    expect(response.headers.get("x-asked")).toBe("hi");
    expect(response.headers.get("x-url")).toBe(`${host.siteUrl}/echo?a=1&b=%20`);
    expect(response.headers.getSetCookie()).toEqual(["a=1", "b=2"]);
    expect(response.headers.get("content-length")).toBe("4");
  });

  test("an empty body", async () => {
    const response = await site("/echo", { method: "POST" });
    expect([response.status, await response.text()]).toEqual([201, ""]);
    expect(response.headers.get("content-length")).toBe("0");
  });

  test("repeated headers, and the name and scheme that the client used", async () => {
    const headers = { host: "my.site:8080", "x-ask": ["a", "b"], "x-forwarded-proto": "https" };
    const response = await bare({ method: "POST", path: "/echo", headers });
    expect(response.headers["x-asked"]).toBe("a, b");
    expect(response.headers["x-url"]).toBe("https://my.site:8080/echo");
  });

  test("bodies up to 20 MiB, and not one byte more", async () => {
    const largest = new Uint8Array(20 * MIB).fill(7);
    const response = await site("/echo", { method: "POST", body: largest });
    expect((await response.arrayBuffer()).byteLength).toBe(20 * MIB);
    const { statusCode } = await bare({
      method: "POST",
      path: "/echo",
      headers: { "content-length": 20 * MIB + 1 },
    });
    expect(statusCode).toBe(413);
  });

  test("a redirect", async () => {
    const response = await site("/redirect");
    expect([response.status, response.headers.get("location")]).toEqual([302, "https://elsewhere/"]);
  });

  test("the context: queries, mutations, actions, the scheduler and the identity", async () => {
    const attributes = Buffer.from(JSON.stringify({ subject: "ada", issuer: "https://i" }));
    const authorization = `Convex ${ADMIN_KEY}:${attributes.toString("base64")}`;
    const response = await site("/ctx", { method: "POST", body: "hello", headers: { authorization } });
    expect(await response.json()).toMatchObject({
      rows: expect.arrayContaining(["hello"]),
      nothing: null,
      identity: { subject: "ada", tokenIdentifier: "https://i|ada" },
    });
    await expect.poll(() => host.query("acts:rows"), PATIENTLY).toContain("later hello");
  });

  test("an Authorization header that is not Convex's, and getUserIdentity() throws", async () => {
    const seen = await (await site("/whoami", { headers: { authorization: "Basic abc" } })).json();
    expect(seen).toMatchObject({ header: "Basic abc", refused: expect.any(String) });
    expect(await (await site("/whoami")).json()).toEqual({ header: null, identity: null });
  });
});

describe("bodies that stream", () => {
  test("arrive as they are written", async () => {
    const response = await site("/stream");
    const pieces = [];
    for await (const piece of response.body) pieces.push(Buffer.from(piece).toString());
    expect(pieces.length).toBeGreaterThan(1);
    expect(pieces.join("")).toBe("one two three");
  });

  test("end with their client, and request.signal tells the handler", async () => {
    const gone = new AbortController();
    const response = await site("/endless", { signal: gone.signal });
    await response.body.getReader().read();
    gone.abort();
    await expect.poll(() => host.query("acts:rows"), PATIENTLY).toContain("the client has gone");
  });

  test("have 20 MiB at most", async () => {
    const whole = await site(`/large?bytes=${20 * MIB}`);
    expect((await whole.arrayBuffer()).byteLength).toBe(20 * MIB);
    const response = await site(`/large?bytes=${20 * MIB + 1}`);
    expect(response.status).toBe(500);
    expect((await response.json()).code).toContain("HttpResponseTooLarge");
  });

  test("that break off do not look complete", async () => {
    const response = await site("/breaks");
    expect(response.status).toBe(200);
    await expect(response.text()).rejects.toThrow();
  });
});

describe("failures", () => {
  test("are answered with the code, the trace and no data", async () => {
    const response = await site("/throws");
    const { code, trace, ...rest } = await response.json();
    expect([response.status, rest]).toEqual([500, {}]);
    expect(code).toMatch(/^\[Request ID: [0-9a-f]{16}\] Server Error: Uncaught Error: two\nlines$/);
    expect(trace).toMatch(
      /^Uncaught Error: two\nlines\n {4}at <anonymous> \(\.\.\/convex\/http\.ts:\d+:\d+\)\n/,
    );
  });

  test("are told to the operator", async () => {
    await site("/throws");
    expect(host.lines.at(-1)).toMatch(/^GET \/throws: \[ERROR\] Uncaught Error: two\nlines\n/);
  });

  test("with a ConvexError have its data", async () => {
    const { code, data } = await (await site("/throwsData")).json();
    expect(code).toContain('Server Error: Uncaught ConvexError: {"code":"from http"}');
    expect(data).toEqual({ code: "from http" });
  });

  test("are what a handler without a Response gives", async () => {
    expect((await (await site("/nothing")).json()).code).toContain(
      "Uncaught Error: HTTP actions must return a Response",
    );
  });

  test("of a client that goes away in the middle of its request leave the host serving", async () => {
    const { hostname, port } = new URL(host.siteUrl);
    const socket = connect(Number(port), hostname);
    socket.write("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
    await new Promise((resolve) => setTimeout(resolve, 50));
    socket.destroy();
    expect((await site("/")).status).toBe(200);
  });
});

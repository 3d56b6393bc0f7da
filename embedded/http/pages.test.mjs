import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Pages } from "./pages.mjs";
import { createHttpServer } from "./server.mjs";

const HTML = { accept: "text/html,*/*" };
let folder = "";
let server;
let port = 0;

beforeEach(async () => {
  const root = mkdtempSync(path.join(tmpdir(), "pages-"));
  folder = path.join(root, "dist");
  mkdirSync(path.join(folder, "assets"), { recursive: true });
  writeFileSync(path.join(root, "secret.txt"), "secret");
  writeFileSync(path.join(folder, "index.html"), "<title>one</title>");
  writeFileSync(path.join(folder, "assets/app-1.js"), "a".repeat(5_000));
  symlinkSync(path.join(root, "secret.txt"), path.join(folder, "assets/link.txt"));
  const pages = new Pages(folder);
  server = createHttpServer(async (incoming, response) => {
    if (!(await pages.serve(incoming, response))) response.writeHead(404).end("no page");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  ({ port } = server.address());
});

afterEach(() => {
  server.close();
  server.closeAllConnections();
  rmSync(path.dirname(folder), { recursive: true });
});

/** As the path is written: `fetch` would tidy it up. */
function get(target, headers = {}, method = "GET") {
  return new Promise((resolve, reject) => {
    const sent = request({ port, path: target, headers, method }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () =>
        resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts) }),
      );
    });
    sent.on("error", reject).end();
  });
}

describe("the pages of a folder", () => {
  test("a browser is shown the index, and another client is left to the API", async () => {
    const answer = await get("/", HTML);
    expect([answer.status, String(answer.body)]).toEqual([200, "<title>one</title>"]);
    expect((await get("/?x=1", HTML)).status).toBe(200);
    expect((await get("/")).status).toBe(404);
    expect((await get("/", HTML, "POST")).status).toBe(404);
    const head = await get("/", HTML, "HEAD");
    expect([head.status, head.body.length]).toEqual([200, 0]);
  });

  test("scripts come from these files alone, and calls go to this host alone", async () => {
    const { headers } = await get("/", HTML);
    const policy = String(headers["content-security-policy"]);
    for (const rule of [
      "default-src 'none'",
      "script-src 'self'",
      "connect-src 'self'",
      "frame-ancestors 'none'",
    ])
      expect(policy).toContain(rule);
    expect(policy).not.toContain("unsafe");
    expect(headers["x-content-type-options"]).toBe("nosniff");
    expect(headers["cache-control"]).toBe("no-cache");
  });

  test("files are packed for those who can unpack them, and kept by browsers", async () => {
    const packed = await get("/assets/app-1.js", { "accept-encoding": "gzip, br" });
    expect(packed.headers).toMatchObject({
      "content-encoding": "gzip",
      "content-type": "text/javascript; charset=utf-8",
      "cache-control": "public, max-age=31536000, immutable",
    });
    expect(gunzipSync(packed.body).length).toBe(5_000);
    const plain = await get("/assets/app-1.js");
    expect([plain.headers["content-encoding"], plain.body.length]).toEqual([undefined, 5_000]);
  });

  test.each([
    "/../secret.txt",
    "/assets/../../secret.txt",
    "/..%2fsecret.txt",
    "/%2e%2e/secret.txt",
    "/assets/..%5c..%5csecret.txt",
    "//secret.txt",
    "/assets/link.txt",
    "/assets",
    "/assets/",
    "/assets/app-1.js%00",
    "/./index.html",
    "/constructor",
  ])("%s leads nowhere", async (target) => {
    await get("/", HTML);
    expect((await get(target, HTML)).status).toBe(404);
  });

  test("a new build shows at the next visit", async () => {
    await get("/", HTML);
    await new Promise((resolve) => setTimeout(resolve, 10)); // a later time of writing
    writeFileSync(path.join(folder, "assets/app-2.js"), "2");
    writeFileSync(path.join(folder, "index.html"), "<title>two</title>");
    expect(String((await get("/", HTML)).body)).toBe("<title>two</title>");
    expect(String((await get("/assets/app-2.js")).body)).toBe("2");
  });
});

test("without a folder, or without a build, there are no pages", async () => {
  const none = { method: "GET", url: "/", headers: HTML };
  expect(await new Pages(null).serve(none, null)).toBe(false);
  expect(await new Pages("/no/such/folder").serve(none, null)).toBe(false);
});

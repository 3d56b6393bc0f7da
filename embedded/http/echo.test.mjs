import { once } from "node:events";
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { afterAll, beforeAll, expect, test } from "vitest";
import { echo } from "./echo.mjs";
import { asHttpError } from "./errors.mjs";

const LIMIT = 3_000_000;

/** @type {import("node:http").Server} */
let server;
let url = "";
beforeAll(async () => {
  server = createServer((request, response) => {
    echo(request, response, LIMIT).catch((error) => {
      response.writeHead(asHttpError(error)?.status ?? 500).end();
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  url = `http://127.0.0.1:${/** @type {import("node:net").AddressInfo} */ (server.address()).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

/** @param {any} body */
const post = async (body) => {
  const response = await fetch(url, { method: "POST", body, duplex: "half" });
  return { status: response.status, body: Buffer.from(await response.arrayBuffer()) };
};
/** @param {number} size */
const inPieces = (size) => Readable.from([Buffer.alloc(size - 1, 7), Buffer.alloc(1, 8)]);

test.each([0, 1, LIMIT])("%d bytes come back", async (size) => {
  const body = Buffer.alloc(size, 7);
  const answer = await post(body);
  expect([answer.status, answer.body.equals(body)]).toEqual([200, true]);
});

test("what is longer than the limit is refused, and cut off if it was not told", async () => {
  expect((await post(Buffer.alloc(LIMIT + 1))).status).toBe(413);
  expect((await post(inPieces(LIMIT))).body).toHaveLength(LIMIT);
  await expect(post(inPieces(LIMIT + 1))).rejects.toThrow();
});

test("a client that goes away leaves the server serving", async () => {
  const gone = new AbortController();
  const body = new Readable({ read() {} });
  body.push("begun");
  const response = await fetch(url, {
    method: "POST",
    body: /** @type {any} */ (body),
    duplex: "half",
    signal: gone.signal,
  });
  gone.abort();
  await expect(response.text()).rejects.toThrow();
  expect((await post("still")).body.toString()).toBe("still");
});

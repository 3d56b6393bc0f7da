import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestHost } from "../testing.mjs";

const host = new TestHost();
beforeAll(() =>
  host.start({
    "http.ts": `
      import { httpRouter, httpActionGeneric } from "convex/server";
      const http = httpRouter();
      const handler = httpActionGeneric(async (_, request) => {
        const { headers, status = 200, body = "body" } = await request.json();
        return new Response(body, { status, headers });
      });
      http.route({ path: "/say", method: "POST", handler });
      export default http;`,
  }),
);
afterAll(() => host.dispose());

/** @param {object} wanted @returns {Promise<{ status: number, headers: string[], body: string }>} as it came, on a connection of its own */
async function say(wanted) {
  const socket = connect(Number(new URL(host.siteUrl).port), "127.0.0.1");
  socket.on("error", () => {});
  const sent = JSON.stringify(wanted);
  socket.write(
    `POST /say HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${Buffer.byteLength(sent)}\r\n\r\n${sent}`,
  );
  const [head = "", ...rest] = (await text(socket.setEncoding("latin1"))).split("\r\n\r\n");
  const [line = "", ...headers] = head.split("\r\n");
  return {
    status: Number(line.split(" ")[1]),
    headers: headers.map((one) => one.toLowerCase()),
    body: rest.join("\r\n\r\n"),
  };
}

test.each([
  ["a line break", { "x-a": "b\r\nset-cookie: stolen=1" }],
  ["a bare line feed", { "x-a": "b\nset-cookie: stolen=1" }],
  ["a bare return", { "x-a": "b\rset-cookie: stolen=1" }],
  ["the end of the head", { "x-a": "b\r\n\r\nset-cookie: stolen=1" }],
  ["a zero byte", { "x-a": "b\0" }],
  ["a character that is no byte", { "x-a": "\u560a\u560dset-cookie: stolen=1" }],
  ["a line break in a name", { "x-a\r\nset-cookie": "stolen=1" }],
  ["a colon in a name", { "set-cookie: stolen=1\r\nx": "1" }],
  ["an empty name", { "": "x" }],
])("a header with %s fails the handler and reaches nobody", async (_, headers) => {
  const answer = await say({ headers });
  expect(answer.status).toBe(500);
  expect(answer.headers.filter((header) => header.startsWith("set-cookie"))).toEqual([]);
  expect(JSON.parse(answer.body).code).toMatch(/^\[Request ID: \w+\] Server Error: Uncaught TypeError: /);
});

test("headers of the connection are the host's own, and cookies stay apart", async () => {
  const { status, headers, body } = await say({
    headers: [
      ["Connection", "keep-alive"],
      ["Keep-Alive", "timeout=1000"],
      ["Transfer-Encoding", "chunked"],
      ["Set-Cookie", "a=1; Path=/"],
      ["Set-Cookie", "b=2"],
      ["X-Bytes", "\u00fc"],
    ],
  });
  expect([status, body]).toEqual([200, "body"]);
  const own = headers.filter((header) => !/^(date|content-type):/.test(header));
  expect(own.sort()).toEqual(
    [
      "connection: close",
      "content-length: 4",
      "set-cookie: a=1; path=/",
      "set-cookie: b=2",
      "x-bytes: \u00fc",
    ].sort(),
  );
});

test.each([
  ["less", "2"],
  ["more", "200"],
  ["no number", "two"],
])("a length of %s than the body has is never followed by the rest", async (_, length) => {
  const { body } = await say({ headers: { "content-length": length }, body: "HTTP/1.1 200 OK\r\n\r\n" });
  expect(body.length).toBeLessThanOrEqual(/^\d+$/.test(length) ? Number(length) : 0);
});

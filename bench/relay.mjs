/** What an update costs on this machine without a host's work: a body goes in by HTTP and out on every WebSocket. */

import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const server = createServer((request, response) => {
  let body = "";
  request.on("data", (part) => (body += part));
  request.on("end", () => {
    for (const client of sockets.clients) client.send(body);
    response.end("{}");
  });
});
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
server.listen(0, "127.0.0.1", () => {
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  process.send?.({ value: "url", at: `http://127.0.0.1:${port}` });
});

/**
 * Subscribes on N sockets and tells its parent when the last of them has a value: `{ value, at }`, `at` in ms of the machine's clock.
 *
 *     node bench/subscriber.mjs URL N [plain]
 *
 * It reads the sync protocol itself, so that what is timed is the host and not a client. `plain`: the values come as `{"n":N}`.
 */

import { randomUUID } from "node:crypto";
import { WebSocket } from "ws";

const [url = "", count = "1", plain] = process.argv.slice(2);
const sockets = Number(count);
/** How many sockets have a value. @type {Map<unknown, number>} */
const seen = new Map();
let ready = 0;

/** @param {unknown} value */
function onValue(value) {
  const at = Number(process.hrtime.bigint()) / 1e6;
  const have = (seen.get(value) ?? 0) + 1;
  seen.set(value, have);
  if (have === sockets) process.send?.({ value, at });
}

function onReady() {
  ready += 1;
  if (ready === sockets) process.send?.({ value: "ready", at: 0 });
}

for (let i = 0; i < sockets; i++) {
  const socket = new WebSocket(url.replace("http", "ws") + (plain ? "" : "/api/sync"));
  socket.on("open", () => {
    if (plain) return onReady();
    const add = { type: "Add", queryId: 0, udfPath: "bench:count", args: [{}] };
    const messages = [
      { type: "Connect", sessionId: randomUUID(), connectionCount: 0, lastCloseReason: null, clientTs: 0 },
      { type: "ModifyQuerySet", baseVersion: 0, newVersion: 1, modifications: [add] },
    ];
    for (const message of messages) socket.send(JSON.stringify(message));
  });
  let first = true;
  socket.on("message", (data) => {
    const message = JSON.parse(String(data));
    if (plain) return onValue(message.n);
    if (message.type !== "Transition") return;
    for (const { value } of message.modifications) {
      if (first) onReady();
      else onValue(value);
      first = false;
    }
  });
}

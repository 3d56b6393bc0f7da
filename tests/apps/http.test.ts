import { createHmac } from "node:crypto";
import { expect, test } from "vitest";
import { useApp } from "./apps";
import { api } from "./http/convex/_generated/api";

const clients = useApp("http");
const site = (path: string, init?: RequestInit) => fetch(`${clients.host.siteUrl}${path}`, init);
const json = (body: unknown) => ({ method: "POST", body: JSON.stringify(body) });

test("a message that is posted can be asked for, by query and by path", async () => {
  const posted = await site("/postMessage", json({ author: "User 123", body: "Hello" }));
  expect(posted.status).toBe(200);
  expect(posted.headers.get("access-control-allow-origin")).toBe("*");
  const wanted = ["Sent via HTTP action: Hello"];
  expect(await (await site("/getMessagesByAuthor?author=User%20123")).json()).toEqual(wanted);
  expect(await (await site("/getAuthorMessages/User%20123")).json()).toEqual(wanted);
  expect((await site("/getMessagesByAuthor")).status).toBe(400);
});

test("a browser's preflight is answered by the app", async () => {
  const preflight = await site("/postMessage", {
    method: "OPTIONS",
    headers: { Origin: "https://example.test", "Access-Control-Request-Method": "POST" },
  });
  expect(preflight.headers.get("access-control-allow-methods")).toBe("POST");
  expect(preflight.headers.get("access-control-max-age")).toBe("86400");
});

test("a signed webhook is taken once, an unsigned one never", async () => {
  const body = JSON.stringify({ event: "evt_1", amount: "9007199254740993" });
  const signature = createHmac("sha256", "shared with the provider").update(body).digest("hex");
  const deliver = (signed: string) =>
    site("/payments", { method: "POST", body, headers: { "x-signature": signed } });
  expect((await deliver(signature)).status).toBe(201);
  expect((await deliver(signature)).status).toBe(200);
  expect((await deliver(signature.replace(/^../, "00"))).status).toBe(401);
  expect(await clients.http().query(api.payments.total)).toBe(9007199254740993n);
});

test("a stream arrives whole", async () => {
  const response = await site("/stream");
  expect(response.headers.get("content-type")).toBe("text/plain");
  expect(await response.text()).toBe("one word at a time");
});

test("bytes pass unchanged", async () => {
  const bytes = Uint8Array.from({ length: 70_000 }, (_, i) => i % 256);
  const response = await site("/binary", { method: "POST", body: bytes });
  expect(new Uint8Array(await response.arrayBuffer())).toEqual(bytes.toReversed());
});

test("unknown paths and methods are not found, and a failure is a server error", async () => {
  expect((await site("/nothing")).status).toBe(404);
  expect((await site("/payments")).status).toBe(404);
  const failed = await site("/fails");
  expect(failed.status).toBe(500);
  expect((await failed.json()).code).toMatch(
    /^\[Request ID: [0-9a-f]{16}\] Server Error: Uncaught Error: broken endpoint/,
  );
});

test("an action can ask the deployment's own site", async () => {
  expect(await clients.http().action(api.payments.ping, { path: "/headers" })).toEqual({
    status: 200,
    text: "hello an action",
  });
});

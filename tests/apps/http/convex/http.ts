import { httpRouter } from "convex/server";
import { internal } from "./_generated/api";
import { httpAction } from "./_generated/server";

const http = httpRouter();
const SECRET = "shared with the provider";

http.route({
  path: "/postMessage",
  method: "POST",
  handler: httpAction(async (ctx, request) => {
    const { author, body } = await request.json();
    await ctx.runMutation(internal.messages.send, { author, body: `Sent via HTTP action: ${body}` });
    return new Response(null, {
      status: 200,
      headers: { "Access-Control-Allow-Origin": "*", Vary: "origin" },
    });
  }),
});

http.route({
  path: "/postMessage",
  method: "OPTIONS",
  handler: httpAction(async (_ctx, request) => {
    const asked = request.headers.get("Access-Control-Request-Method") !== null;
    if (!asked) return new Response();
    return new Response(null, {
      headers: new Headers({
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": "POST",
        "Access-Control-Allow-Headers": "Content-Type, Digest",
        "Access-Control-Max-Age": "86400",
      }),
    });
  }),
});

http.route({
  path: "/getMessagesByAuthor",
  method: "GET",
  handler: httpAction(async (ctx, request) => {
    const author = new URL(request.url).searchParams.get("author");
    if (author === null) return Response.json({ error: "author is missing" }, { status: 400 });
    const messages = await ctx.runQuery(internal.messages.byAuthor, { author });
    return new Response(JSON.stringify(messages.map(({ body }) => body)), {
      headers: { "content-type": "application/json" },
    });
  }),
});

http.route({
  pathPrefix: "/getAuthorMessages/",
  method: "GET",
  handler: httpAction(async (ctx, request) => {
    const author = decodeURIComponent(new URL(request.url).pathname.split("/").at(-1)!);
    const messages = await ctx.runQuery(internal.messages.byAuthor, { author });
    return Response.json(messages.map(({ body }) => body));
  }),
});

/** A webhook whose body is signed. */
http.route({
  path: "/payments",
  method: "POST",
  handler: httpAction(async (ctx, request) => {
    const body = await request.text();
    const encoder = new TextEncoder();
    const hmac = { name: "HMAC", hash: "SHA-256" };
    const key = await crypto.subtle.importKey("raw", encoder.encode(SECRET), hmac, false, ["verify"]);
    const signature = Uint8Array.from((request.headers.get("x-signature") ?? "").match(/../g) ?? [], (byte) =>
      parseInt(byte, 16),
    );
    if (!(await crypto.subtle.verify("HMAC", key, signature, encoder.encode(body))))
      return new Response("bad signature", { status: 401 });
    const { event, amount } = JSON.parse(body);
    const isNew = await ctx.runMutation(internal.payments.record, { event, amount: BigInt(amount) });
    return new Response(null, { status: isNew ? 201 : 200 });
  }),
});

http.route({
  path: "/stream",
  method: "GET",
  handler: httpAction(async () => {
    const words = ["one ", "word ", "at ", "a ", "time"];
    const stream = new ReadableStream({
      async pull(controller) {
        const word = words.shift();
        if (word === undefined) return controller.close();
        await new Promise((resolve) => setTimeout(resolve, 5));
        controller.enqueue(new TextEncoder().encode(word));
      },
    });
    return new Response(stream, { headers: { "content-type": "text/plain" } });
  }),
});

http.route({
  path: "/binary",
  method: "POST",
  handler: httpAction(async (_ctx, request) => {
    const bytes = new Uint8Array(await (await request.blob()).arrayBuffer());
    return new Response(bytes.reverse(), { headers: { "content-type": "application/octet-stream" } });
  }),
});

http.route({
  path: "/headers",
  method: "GET",
  handler: httpAction(async (_ctx, request) => new Response(`hello ${request.headers.get("x-from")}`)),
});

http.route({
  path: "/fails",
  method: "GET",
  handler: httpAction(async () => {
    throw new Error("broken endpoint");
  }),
});

export default http;

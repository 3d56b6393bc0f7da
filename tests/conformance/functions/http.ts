import { api } from "./_generated/api";
import { httpActionGeneric, httpRouter } from "convex/server";
import { ConvexError } from "convex/values";

const { messages, errors } = api;
const http = httpRouter();

/** Says which route was taken. */
const says = (text: string) => httpActionGeneric(async () => new Response(text));

http.route({ path: "/", method: "GET", handler: says("the root") });
http.route({ path: "/exact", method: "GET", handler: says("exact") });
http.route({ path: "/files/one", method: "GET", handler: says("exact one") });
http.route({ pathPrefix: "/files/", method: "GET", handler: says("files") });
http.route({ pathPrefix: "/files/deep/", method: "GET", handler: says("deep files") });
for (const method of ["GET", "POST", "PUT", "DELETE", "PATCH"] as const)
  http.route({ path: "/method", method, handler: says(method) });
http.route({ path: "/onlyPost", method: "POST", handler: says("posted") });
http.route({
  path: "/cors",
  method: "OPTIONS",
  handler: httpActionGeneric(
    async () =>
      new Response(null, { status: 204, headers: { "access-control-allow-origin": "https://example.org" } }),
  ),
});

http.route({
  path: "/echo",
  method: "POST",
  handler: httpActionGeneric(async (_ctx, request) => {
    const url = new URL(request.url);
    const bytes = await request.arrayBuffer();
    return new Response(bytes, {
      status: Number(url.searchParams.get("status") ?? 200),
      headers: {
        "content-type": request.headers.get("content-type") ?? "none",
        "x-method": request.method,
        "x-path": url.pathname,
        "x-query": url.searchParams.getAll("q").join("|"),
        "x-said": request.headers.get("x-say") ?? "nothing",
        "x-origin": url.origin,
      },
    });
  }),
});
http.route({
  path: "/json",
  method: "POST",
  handler: httpActionGeneric(async (_ctx, request) => {
    const body = (await request.json()) as { n: number };
    return Response.json({ n: body.n + 1 });
  }),
});
http.route({
  path: "/cookies",
  method: "GET",
  handler: httpActionGeneric(async () => {
    const headers = new Headers();
    headers.append("set-cookie", "a=1");
    headers.append("set-cookie", "b=2");
    return new Response("", { headers });
  }),
});
http.route({
  path: "/redirect",
  method: "GET",
  handler: httpActionGeneric(
    async () => new Response(null, { status: 302, headers: { location: "/exact" } }),
  ),
});
http.route({
  path: "/stream",
  method: "GET",
  handler: httpActionGeneric(async () => {
    const encoder = new TextEncoder();
    const body = new ReadableStream({
      async start(controller) {
        for (const word of ["one", "two", "three"]) {
          controller.enqueue(encoder.encode(word));
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
        controller.close();
      },
    });
    return new Response(body);
  }),
});
http.route({
  path: "/messages",
  method: "POST",
  handler: httpActionGeneric(async (ctx, request) => {
    const message = (await request.json()) as { channel: string; body: string };
    await ctx.runMutation(messages.send, message);
    const seen = (await ctx.runQuery(messages.list, { channel: message.channel })) as string[];
    await ctx.scheduler.runAfter(0, messages.send, { ...message, body: `${message.body} later` });
    return Response.json(seen, { status: 201 });
  }),
});

http.route({
  path: "/whoami",
  method: "GET",
  handler: httpActionGeneric(async (ctx, request) => {
    const header = request.headers.get("authorization");
    try {
      return Response.json({ header, identity: await ctx.auth.getUserIdentity() });
    } catch (error) {
      return Response.json({ header, refused: (error as Error).message });
    }
  }),
});

http.route({
  path: "/throwError",
  method: "GET",
  handler: httpActionGeneric(async () => {
    throw new Error("from http");
  }),
});
http.route({
  path: "/throwConvexError",
  method: "GET",
  handler: httpActionGeneric(async () => {
    throw new ConvexError({ code: "from http", n: 1 });
  }),
});
http.route({
  path: "/throwFromMutation",
  method: "GET",
  handler: httpActionGeneric(async (ctx) => {
    await ctx.runMutation(errors.innerMutation, { kind: "data", data: "from a mutation" });
    return new Response("not reached");
  }),
});
http.route({
  path: "/noResponse",
  method: "GET",
  handler: httpActionGeneric(async () => "text" as never),
});

export default http;

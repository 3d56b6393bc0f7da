import { anyApi, httpActionGeneric, httpRouter } from "convex/server";
import { ConvexError } from "convex/values";

const http = httpRouter();

http.route({
  path: "/echo",
  method: "POST",
  handler: httpActionGeneric(async (_ctx, request) => {
    const headers = {
      "x-said": request.headers.get("x-say") ?? "",
      "content-type": "text/plain; charset=utf-8",
    };
    return new Response(`${new URL(request.url).search} ${await request.text()}`, { status: 201, headers });
  }),
});

http.route({
  path: "/files/one",
  method: "GET",
  handler: httpActionGeneric(async () => new Response("exact")),
});
http.route({
  pathPrefix: "/files/",
  method: "GET",
  handler: httpActionGeneric(async () => new Response("prefix")),
});

http.route({
  path: "/notes",
  method: "GET",
  handler: httpActionGeneric(async (ctx, request) => {
    const list = new URL(request.url).searchParams.get("list");
    return Response.json(await ctx.runQuery(anyApi.notes.list, { list }));
  }),
});

http.route({
  path: "/fail",
  method: "GET",
  handler: httpActionGeneric(async () => {
    throw new ConvexError({ code: "from http" });
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

export default http;

import { request } from "node:http";
import { expect, test } from "vitest";
import { section } from "./checklist";
import { api, Follower, useHost } from "./clients";

const clients = useHost();
const get = (path: string, init: RequestInit = {}) =>
  fetch(`${clients.host.siteUrl}${path}`, { redirect: "manual", ...init });
const said = async (path: string, init: RequestInit = {}) => {
  const response = await get(path, init);
  return [response.status, await response.text()];
};

section("HTTP actions", (line) => {
  line('Exact paths before prefixes, "/" works, method match, HEAD through GET, unknown → 404', () => {
    test.each([
      ["/", "the root"],
      ["/exact", "exact"],
      ["/files/one", "exact one"],
      ["/files/two", "files"],
      ["/files/", "files"],
      ["/files/one/more", "files"],
      ["/files/deep/down", "deep files"],
      ["/exact?with=query", "exact"],
    ])("%s", async (path, text) => {
      expect(await said(path)).toEqual([200, text]);
    });

    test("the API's port serves them below /http", async () => {
      const response = await fetch(`${clients.host.url}/http/files/two`);
      expect([response.status, await response.text()]).toEqual([200, "files"]);
    });

    test.each(["GET", "POST", "PUT", "DELETE", "PATCH"])("method %s", async (method) => {
      expect(await said("/method", { method })).toEqual([200, method]);
    });

    test("HEAD goes through GET and has no body", async () => {
      expect(await said("/exact", { method: "HEAD" })).toEqual([200, ""]);
      expect(await said("/nowhere", { method: "HEAD" })).toEqual([404, ""]);
    });

    test("OPTIONS is the router's", async () => {
      const response = await get("/cors", { method: "OPTIONS" });
      expect(response.status).toBe(204);
      expect(response.headers.get("access-control-allow-origin")).toBe("https://example.org");
    });

    test.each(["/nowhere", "/exact/", "/exact/more", "/files", "/onlyPost", "//"])(
      "%s is not there",
      async (path) => {
        expect(await said(path)).toEqual([404, "No matching routes found"]);
      },
    );
  });

  line("Body, headers, query, status pass", () => {
    test("text with everything", async () => {
      const response = await get("/echo?q=1&q=x%20y&status=418", {
        method: "POST",
        body: "ü body",
        headers: { "x-say": "hello", "content-type": "text/x-own" },
      });
      expect(response.status).toBe(418);
      expect(Object.fromEntries(response.headers)).toMatchObject({
        "content-type": "text/x-own",
        "x-method": "POST",
        "x-path": "/echo",
        "x-query": "1|x y",
        "x-said": "hello",
        "x-origin": clients.host.siteUrl,
      });
      expect(await response.text()).toBe("ü body");
    });

    test("bytes, none and 3 MB of them", async () => {
      for (const length of [0, 1, 3_000_000]) {
        const bytes = Uint8Array.from({ length }, (_, index) => (index * 31) % 256);
        const response = await get("/echo", { method: "POST", body: bytes });
        expect(Buffer.from(await response.arrayBuffer()).equals(bytes)).toBe(true);
      }
    });

    test("JSON", async () => {
      const response = await get("/json", { method: "POST", body: JSON.stringify({ n: 1 }) });
      expect(response.headers.get("content-type")).toBe("application/json");
      expect(await response.json()).toEqual({ n: 2 });
    });

    test("several cookies, a redirect and a stream", async () => {
      expect((await get("/cookies")).headers.getSetCookie()).toEqual(["a=1", "b=2"]);
      const redirect = await get("/redirect");
      expect([redirect.status, redirect.headers.get("location")]).toEqual([302, "/exact"]);
      expect(await said("/stream")).toEqual([200, "onetwothree"]);
    });

    test("a body in chunks", async () => {
      const text = await new Promise<string>((resolve, reject) => {
        const sent = request(`${clients.host.siteUrl}/echo`, { method: "POST" }, (response) => {
          let all = "";
          response.on("data", (part) => (all += part)).on("end", () => resolve(all));
        });
        sent.on("error", reject);
        sent.write("one ");
        sent.write("two");
        sent.end();
      });
      expect(text).toBe("one two");
    });
  });

  line("Queries, mutations and the scheduler work in an HTTP action", () => {
    test("what it writes is pushed to subscribers", async () => {
      const channel = "over http";
      const followed = new Follower<string[]>(clients.socket(), api.messages.list, { channel });
      await followed.until((newest) => (newest as string[]).length === 0);
      const response = await get("/messages", {
        method: "POST",
        body: JSON.stringify({ channel, body: "now" }),
      });
      expect([response.status, await response.json()]).toEqual([201, ["now"]]);
      expect(await followed.until((newest) => (newest as string[]).length === 2)).toEqual([
        "now",
        "now later",
      ]);
    });
  });

  line("An Authorization header that is no Convex token is passed on, and getUserIdentity() throws", () => {
    test.each(["Bearer not-a-token", "Basic dXNlcjpwYXNz", "Own scheme", "x"])(
      "%s",
      async (authorization) => {
        const seen = await (await get("/whoami", { headers: { authorization } })).json();
        expect(seen).toEqual({ header: authorization, refused: expect.any(String) });
      },
    );

    test("none is nobody", async () => {
      expect(await (await get("/whoami")).json()).toEqual({ header: null, identity: null });
    });

    test("the admin key may act as a user", async () => {
      const user = Buffer.from(JSON.stringify({ subject: "u", issuer: "https://i" })).toString("base64");
      const authorization = `Convex ${clients.host.adminKey}:${user}`;
      const seen = (await (await get("/whoami", { headers: { authorization } })).json()) as {
        identity: object;
      };
      expect(seen.identity).toMatchObject({ tokenIdentifier: "https://i|u" });
    });
  });

  line(
    'Handler failure: 5xx JSON with code ("[Request ID: …] Server Error: Uncaught …"), trace, and data for ConvexError',
    () => {
      const CODE = String.raw`^\[Request ID: [0-9a-f]{16}\] Server Error: Uncaught `;
      const failing = async (path: string) => {
        const response = await get(path);
        expect(response.status).toBe(500);
        expect(response.headers.get("content-type")).toMatch(/^application\/json/);
        return (await response.json()) as Record<string, unknown>;
      };

      test("an error", async () => {
        const body = await failing("/throwError");
        expect(body).toEqual({
          code: expect.stringMatching(new RegExp(`${CODE}Error: from http$`)),
          trace: expect.stringMatching(/^Uncaught Error: from http\n {4}at .*convex\/http\.ts:\d+:\d+/),
        });
      });

      test("a ConvexError, also one of a mutation", async () => {
        expect(await failing("/throwConvexError")).toMatchObject({
          code: expect.stringMatching(new RegExp(`${CODE}ConvexError: `)),
          trace: expect.stringContaining("http.ts"),
          data: { code: "from http", n: 1 },
        });
        expect(await failing("/throwFromMutation")).toMatchObject({ data: "from a mutation" });
      });

      test("something that is no Response", async () => {
        expect(await failing("/noResponse")).toMatchObject({
          code: expect.stringMatching(/Server Error: Uncaught /),
        });
        expect(await said("/exact"), "and the next request is served").toEqual([200, "exact"]);
      });
    },
  );
});

import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { WebSocket } from "ws";
import { section } from "./checklist";
import { api, failure, Follower, useHost } from "./clients";

const clients = useHost();
const ROOT = path.join(import.meta.dirname, "../..");

let channels = 0;
const newChannel = () => `channel ${(channels += 1)}`;
const send = (channel: string, body: string) => clients.http().mutation(api.messages.send, { channel, body });
const values = (followed: Follower) =>
  followed.seen.map((each) => ("value" in each ? each.value : each.error));

/** How often the host has run a query. */
async function runsOf(path: string): Promise<number> {
  const metrics = await (await fetch(`${clients.host.url}/metrics`)).text();
  return Number(new RegExp(`path="${path}"[^}]*\\} (\\d+)`).exec(metrics)?.[1] ?? 0);
}

section("Subscriptions", (line) => {
  line("First result, then one update per relevant commit", () => {
    test("writes of others, one by one", async () => {
      const channel = newChannel();
      const followed = new Follower(clients.socket(), api.messages.list, { channel });
      await followed.until((newest) => Array.isArray(newest));
      for (const [index, body] of ["a", "b", "c"].entries()) {
        await send(channel, body);
        await followed.until((newest) => (newest as string[]).length === index + 1);
      }
      expect(values(followed)).toEqual([[], ["a"], ["a", "b"], ["a", "b", "c"]]);
      followed.stop();
    });

    test("a commit that changes nothing for it is no update", async () => {
      const [channel, other] = [newChannel(), newChannel()];
      const client = clients.socket();
      const followed = new Follower(client, api.messages.list, { channel });
      const sentinel = new Follower(client, api.messages.list, { channel: other });
      await followed.until(() => true);
      await sentinel.until(() => true);
      await send(other, "elsewhere");
      await sentinel.until((newest) => (newest as string[]).length === 1);
      await clients.http().mutation(api.messages.remove, { channel, body: "nothing" });
      await send(other, "elsewhere again");
      await sentinel.until((newest) => (newest as string[]).length === 2);
      expect(values(followed)).toEqual([[]]);
    });

    test("the same query twice on a client is one subscription with two listeners", async () => {
      const channel = newChannel();
      const client = clients.socket();
      const [first, second] = [1, 2].map(() => new Follower(client, api.messages.count, { channel }));
      await first!.until(() => true);
      await second!.until(() => true);
      const before = await runsOf("messages:count");
      await send(channel, "x");
      await first!.until((newest) => newest === 1);
      await second!.until((newest) => newest === 1);
      expect(await runsOf("messages:count")).toBe(before + 1);
      first!.stop();
      await send(channel, "y");
      await second!.until((newest) => newest === 2);
      expect(first!.last).toBe(1);
    });

    test("two clients see the writes of each other", async () => {
      const channel = newChannel();
      const both = [clients.socket(), clients.socket()];
      const followed = both.map((client) => new Follower(client, api.messages.count, { channel }));
      await Promise.all(both.map((client) => client.mutation(api.messages.send, { channel, body: "x" })));
      await Promise.all(followed.map((each) => each.until((newest) => newest === 2)));
    });
  });

  line("Several subscriptions of a client move together", () => {
    test("no update shows one of them ahead of another", async () => {
      const channel = newChannel();
      const client = clients.socket();
      const list = client.onUpdate(api.messages.list, { channel }, () => {});
      const count = client.onUpdate(api.messages.count, { channel }, () => {});
      const seen: [number, number][] = [];
      const look = () => {
        const [bodies, number] = [list.getCurrentValue(), count.getCurrentValue()] as [string[]?, number?];
        if (bodies !== undefined && number !== undefined) seen.push([bodies.length, number]);
      };
      client.onUpdate(api.messages.list, { channel }, look);
      client.onUpdate(api.messages.count, { channel }, look);
      await Promise.all(Array.from({ length: 20 }, (_, index) => send(channel, String(index))));
      const last = new Follower(client, api.messages.count, { channel });
      await last.until((newest) => newest === 20);
      expect(seen.length).toBeGreaterThan(0);
      expect(seen.filter(([bodies, number]) => bodies !== number)).toEqual([]);
    });
  });

  line(
    "A mutation's promise resolves only after its effect is visible in the client's own subscriptions",
    () => {
      test("ConvexClient", async () => {
        const channel = newChannel();
        const client = clients.socket();
        const followed = new Follower(client, api.messages.count, { channel });
        await followed.until((newest) => newest === 0);
        for (let count = 1; count <= 10; count += 1) {
          await client.mutation(api.messages.send, { channel, body: "x" });
          expect(followed.last).toBe(count);
        }
      });

      test("ConvexReactClient", async () => {
        const channel = newChannel();
        const client = clients.react();
        const watch = client.watchQuery(api.messages.count, { channel });
        await new Promise<void>((resolve) => watch.onUpdate(resolve));
        for (let count = 1; count <= 10; count += 1) {
          await client.mutation(api.messages.send, { channel, body: "x" });
          expect(watch.localQueryResult()).toBe(count);
        }
      });

      test("also of a mutation that failed: what it saw is there", async () => {
        const channel = newChannel();
        const client = clients.socket();
        const followed = new Follower(client, api.messages.count, { channel });
        await followed.until((newest) => newest === 0);
        await send(channel, "x");
        await failure(client.mutation(api.errors.throwMutation, { kind: "plain" }));
        await followed.until((newest) => newest === 1);
      });
    },
  );

  line("A query right after a mutation sees it", () => {
    test.each(["http", "websocket", "react"] as const)("%s", async (name) => {
      const channel = newChannel();
      const client = clients.open(name);
      for (let count = 1; count <= 5; count += 1) {
        await client.mutation(api.messages.send, { channel, body: "x" });
        expect(await client.query(api.messages.count, { channel })).toBe(count);
      }
    });

    test("a query that was there before the mutation was sent, too", async () => {
      const channel = newChannel();
      const client = clients.socket();
      const followed = new Follower(client, api.messages.count, { channel });
      await followed.until((newest) => newest === 0);
      await client.mutation(api.messages.send, { channel, body: "x" });
      expect(await client.query(api.messages.count, { channel })).toBe(1);
    });
  });

  line("One-shot queries do not update later", () => {
    test.each(["websocket", "react"] as const)("%s", async (name) => {
      const channel = newChannel();
      const client = clients.open(name);
      expect(await client.query(api.messages.count, { channel })).toBe(0);
      const sentinel = await client.query(api.messages.list, { channel });
      expect(sentinel).toEqual([]);
      const before = await runsOf("messages:count");
      await client.mutation(api.messages.send, { channel, body: "x" });
      expect(await client.query(api.messages.list, { channel })).toEqual(["x"]);
      expect(await runsOf("messages:count")).toBe(before);
    });
  });

  line("Clients close cleanly: a Node script with one query ends in time, stderr empty", () => {
    const scripts: [string, string][] = [
      [
        "ConvexHttpClient",
        `import { ConvexHttpClient } from "convex/browser"; import { anyApi } from "convex/server";
         console.log(await new ConvexHttpClient(process.argv[1]).query(anyApi.messages.count, { channel: "script" }));`,
      ],
      [
        "ConvexClient",
        `import { ConvexClient } from "convex/browser"; import { anyApi } from "convex/server";
         const client = new ConvexClient(process.argv[1]);
         console.log(await client.query(anyApi.messages.count, { channel: "script" }));
         await client.close();`,
      ],
      [
        "ConvexClient with a subscription",
        `import { ConvexClient } from "convex/browser"; import { anyApi } from "convex/server";
         const client = new ConvexClient(process.argv[1]);
         client.onUpdate(anyApi.messages.count, { channel: "script" }, (count) => {
           console.log(count);
           void client.close();
         });`,
      ],
      [
        "ConvexReactClient",
        `import { ConvexReactClient } from "convex/react"; import { anyApi } from "convex/server";
         const client = new ConvexReactClient(process.argv[1]);
         console.log(await client.query(anyApi.messages.count, { channel: "script" }));
         await client.close();`,
      ],
    ];
    test.each(scripts)("%s", async (_, script) => {
      const child = spawn(process.execPath, ["--input-type=module", "-e", script, clients.host.url], {
        cwd: ROOT,
        stdio: ["ignore", "pipe", "pipe"],
      });
      const ended = once(child, "exit");
      const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
      expect(await ended).toEqual([0, null]);
      expect({ output, errors }).toEqual({ output: "0\n", errors: "" });
    });
  });

  line("A WebSocket mutation that meets a conflict or overload is retried until it succeeds", () => {
    test.each(["throwOcc", "throwOverloaded"])("%s", async (operation) => {
      const channel = newChannel();
      const client = clients.socket();
      expect(await client.query(api.messages.count, { channel })).toBe(0);
      const until = Date.now() + 500;
      expect(await client.mutation(api.conflicts.atFirst, { operation, channel, until })).toBe("done");
      expect(Date.now()).toBeGreaterThanOrEqual(until);
      expect(await client.query(api.messages.count, { channel })).toBe(1);
    });

    test.each([
      ["throwOcc", "OptimisticConcurrencyControlFailure"],
      ["throwOverloaded", "Busy"],
    ])("the HTTP client is told of %s", async (operation, code) => {
      const channel = newChannel();
      const call = clients
        .http()
        .mutation(api.conflicts.atFirst, { operation, channel, until: Date.now() + 60_000 });
      expect(JSON.parse((await failure(call)).message)).toMatchObject({ code, message: expect.any(String) });
      expect(await clients.http().query(api.messages.count, { channel })).toBe(0);
    });
  });

  line(
    "A client comes back after the host was killed, with its subscriptions, its identity and what was on its way",
    () => {
      test("subscriptions", async () => {
        const channel = newChannel();
        const client = clients.socket();
        const followed = new Follower(client, api.messages.list, { channel });
        await client.mutation(api.messages.send, { channel, body: "before" });
        await clients.host.end("SIGKILL");
        await clients.host.start();
        await send(channel, "after");
        await followed.until((newest) => (newest as string[]).length === 2);
        expect(followed.last).toEqual(["before", "after"]);
        await client.mutation(api.messages.send, { channel, body: "own" });
        expect(followed.last).toEqual(["before", "after", "own"]);
      });

      test("a mutation that was called while the host was away runs once", async () => {
        const channel = newChannel();
        const client = clients.socket();
        expect(await client.query(api.messages.count, { channel })).toBe(0);
        await clients.host.end("SIGTERM");
        const sent = [1, 2, 3].map((body) =>
          client.mutation(api.messages.send, { channel, body: String(body) }),
        );
        await clients.host.start();
        await Promise.all(sent);
        expect(await client.query(api.messages.list, { channel })).toEqual(["1", "2", "3"]);
      });

      test("a mutation whose answer was lost is applied once", async () => {
        let losses = 0;
        /** Drops the link instead of the first answer to a mutation. */
        class Losing extends WebSocket {
          override emit(event: string | symbol, ...values: unknown[]): boolean {
            const isAnswer = event === "message" && String(values[0]).includes('"type":"MutationResponse"');
            if (!isAnswer || losses > 0) return super.emit(event, ...values);
            losses += 1;
            this.terminate();
            return true;
          }
        }
        const channel = newChannel();
        const client = clients.socket(false, Losing);
        await client.mutation(api.messages.send, { channel, body: "once" });
        expect(losses).toBe(1);
        expect(await client.query(api.messages.list, { channel })).toEqual(["once"]);
      });

      test("the identity", async () => {
        const client = clients.admin("websocket", { subject: "u", issuer: "https://i" });
        expect(await client.query(api.identity.ofQuery, {})).toMatchObject({
          tokenIdentifier: "https://i|u",
        });
        await clients.host.end("SIGKILL");
        await clients.host.start();
        expect(await client.mutation(api.identity.ofMutation, {})).toMatchObject({
          tokenIdentifier: "https://i|u",
        });
      });
    },
  );
});

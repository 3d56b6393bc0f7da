import { execFile } from "node:child_process";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { ConvexError } from "convex/values";
import { afterAll, beforeAll, expect, test } from "vitest";
import { section } from "./checklist";
import { api, CLIENTS, failure, Follower, useHost } from "./clients";

const clients = useHost();
const ROOT = path.join(import.meta.dirname, "../..");
const run = promisify(execFile);

section("Every client", (line) => {
  line("JavaScript over HTTP, WebSocket and React", () => {
    test.each(CLIENTS)("%s", async (name) => {
      const client = clients.open(name);
      await client.mutation(api.messages.send, { channel: name, body: "ü 漢" });
      expect(await client.query(api.messages.list, { channel: name })).toEqual(["ü 漢"]);
      const value = { n: 5n, bytes: new Uint8Array([0, 255]).buffer, deep: [null, true, 1.5] };
      expect(await client.action(api.values.echoAction, { value })).toEqual(value);
      const error = await failure(client.mutation(api.errors.throwMutation, { kind: "subclass" }));
      expect(error).toBeInstanceOf(ConvexError);
      expect(error).toMatchObject({ data: { code: "refused", size: 7n, list: [null, 1.5] } });
      const plain = await failure(client.query(api.errors.throwQuery, { kind: "plain" }));
      expect(plain.message).toContain("Uncaught Error: plain words");
    });

    test("a subscription", async () => {
      const followed = new Follower(clients.socket(), api.messages.count, { channel: "subscription" });
      await followed.until((newest) => newest === 0);
      await clients.http().mutation(api.messages.send, { channel: "subscription", body: "x" });
      await followed.until((newest) => newest === 1);
    });
  });

  line("Python over WebSocket and HTTP", () => {
    test("both at once", async () => {
      const script = path.join(import.meta.dirname, "python_clients.py");
      const { stdout } = await run(path.join(ROOT, ".venv/bin/python"), [script, clients.host.url]);
      const seen = JSON.parse(stdout) as Record<string, unknown>;
      const each = {
        list: ["ü 漢"],
        echo: String.raw`{'bytes': b'\x00\xff', 'deep': [None, True, 1.5, 3.0], 'n': ConvexInt64(5)}`,
        raised: "{'code': 'refused', 'list': [None, 1.5], 'size': ConvexInt64(7)}",
        text: expect.stringMatching(
          /^\[Request ID: [0-9a-f]{16}\] Server Error\nUncaught Error: plain words\n/,
        ),
      };
      const http = { ...each, raised: expect.stringContaining("'code': 'refused'") }; // this client leaves data encoded
      expect(seen).toEqual({ websocket: each, http, subscription: [0, 1] });
    });
  });

  line("The npm CLI", () => {
    let project = "";
    beforeAll(async () => {
      project = await mkdtemp(path.join(tmpdir(), "cli-"));
      await writeFile(path.join(project, "package.json"), '{ "dependencies": { "convex": "*" } }');
      await symlink(path.join(ROOT, "node_modules"), path.join(project, "node_modules"));
    });
    afterAll(() => rm(project, { recursive: true }));

    const convex = async (...args: string[]) => {
      const cli = path.join(ROOT, "node_modules/convex/bin/main.js");
      const where = ["--url", clients.host.url, "--admin-key", clients.host.adminKey];
      const { stdout } = await run(process.execPath, [cli, ...args, ...where], { cwd: project });
      return JSON.parse(stdout) as unknown;
    };

    test("run calls functions of every kind, internal ones too", async () => {
      expect(await convex("run", "addressing:hiddenQuery")).toBe("hidden query");
      const [sent, echoed] = await Promise.all([
        convex("run", "messages:sendInternal", '{"channel":"cli","body":"ü"}'),
        convex("run", "values:echoAction", '{"value":[1,null]}'),
      ]);
      expect(sent).toMatch(/^[0-9a-z]{31,37}$/);
      expect(echoed).toEqual([1, null]);
      expect(await clients.http().query(api.messages.list, { channel: "cli" })).toEqual(["ü"]);
    });

    test("run acts as a user", async () => {
      const identity = '{"subject":"u","issuer":"https://i"}';
      expect(await convex("run", "--identity", identity, "identity:ofQuery")).toMatchObject({
        tokenIdentifier: "https://i|u",
      });
    });
  });
});

import { expect, test } from "vitest";
import { section } from "./checklist";
import { api, CLIENTS, failure, failures, Follower, useHost } from "./clients";
import { Host } from "./host";

const clients = useHost({ env: { ACTIONS_USER_TIMEOUT_SECS: "4" } });

/** What a host says that is started on the suite's functions with one file more. */
const refusalOf = async (file: string, source: string) =>
  (await failure(Host.serve({ files: { [file]: source } }))).message;

section("Actions", (line) => {
  line("runQuery, runMutation, runAction (nested, repeated), scheduler", () => {
    test.each(CLIENTS)("%s", async (name) => {
      const client = clients.shared(name);
      const channel = `all of ${name}`;
      expect(await client.action(api.acts.everyKind, { channel })).toEqual({
        before: 0,
        after: ["a", "b", "c", "internal"],
        nested: [[["bottom"]]],
      });
      expect(await client.action(api.acts.atOnce, { channel: `${channel} at once` })).toBe(10);
    });

    test("the scheduler", async () => {
      const channel = "scheduled by an action";
      const followed = new Follower(clients.socket(), api.messages.list, { channel });
      const ids = await clients.shared("websocket").action(api.acts.schedules, { channel });
      expect(ids).toEqual([
        expect.stringMatching(/^[0-9a-z]{31,37}$/),
        expect.stringMatching(/^[0-9a-z]{31,37}$/),
      ]);
      await followed.until((newest) => (newest as string[]).length === 2);
      expect((followed.last as string[]).sort()).toEqual(["after", "at"]);
    });

    test("functions that cannot be called say why", async () => {
      const [nowhere, kind, , , args] = (await clients
        .shared("http")
        .action(api.acts.wrongCalls, {})) as string[];
      expect(nowhere).toContain("nowhere");
      expect(kind).toContain("Trying to execute messages.js:send as Query, but it is defined as Mutation.");
      expect(args).toContain("ArgumentValidationError");
    });

    test("actions of one client run at the same time", async () => {
      const client = clients.shared("websocket");
      const started = Date.now();
      await Promise.all(Array.from({ length: 5 }, () => client.action(api.acts.slow, { wait: 400 })));
      expect(Date.now() - started).toBeLessThan(1_800);
    });
  });

  line('"use node" modules, components and file storage are refused with one line', () => {
    test("use node", async () => {
      const said = await refusalOf("inNode.ts", '"use node";\nexport const x = 1;\n');
      expect(said).toMatch(/^the host did not start: signalbox host: .*inNode.*Convex itself.*\n$/);
    });

    test("file storage, when a function asks for it", async () => {
      for (const call of [
        clients.shared("http").mutation(api.acts.uploadUrl, {}),
        clients.shared("http").action(api.acts.storeText, {}),
      ]) {
        expect((await failure(call)).message).toMatch(/no file storage/);
      }
    });

    test("components", async () => {
      const said = await refusalOf(
        "convex.config.ts",
        'import { defineApp, defineComponent } from "convex/server";\nconst app = defineApp();\napp.use(defineComponent("part"));\nexport default app;\n',
      );
      expect(said).toMatch(/^the host did not start: signalbox host: .*convex\.config.*\n$/);
    });
  });

  line("Validators hold for the arguments and return values of actions", () => {
    const unfit = [
      {},
      { name: 1 },
      { name: "n", more: 1 },
      { name: "n", byUser: { nobody: null } },
      { name: "n", either: 1 },
    ];
    test.each(CLIENTS)("arguments, on %s", async (name) => {
      const client = clients.shared(name);
      for (const { message } of await failures(
        unfit.map((args) => client.action(api.validated.anAction, args)),
      ))
        expect(message).toContain("ArgumentValidationError");
      expect(await client.action(api.validated.anAction, { name: "n", either: 5n })).toEqual({
        name: "n",
        either: 5n,
      });
    });

    test.each(CLIENTS)("return values, on %s", async (name) => {
      const client = clients.shared(name);
      const calls = [null, {}, { ok: 1 }, "text"].map((value) =>
        client.action(api.validated.returnsAction, { value }),
      );
      for (const { message } of await failures(calls)) expect(message).toContain("ReturnsValidationError");
      expect(await client.action(api.validated.returnsAction, { value: { ok: false } })).toEqual({
        ok: false,
      });
    });
  });

  line("Identity passes to nested calls", () => {
    const user = { subject: "u1", issuer: "https://i.example.org" };
    test.each(CLIENTS)("%s", async (name) => {
      const client = clients.admin(name, user);
      const token = "https://i.example.org|u1";
      expect(await client.action(api.acts.whoEverywhere, {})).toEqual([token, token, token, token]);
      expect(await client.mutation(api.acts.whoThroughMutation, {})).toEqual([token, token]);
      expect(await clients.shared(name).action(api.acts.whoEverywhere, {})).toEqual([null, null, null, null]);
    });

    test("actions that run at the same time keep theirs", async () => {
      const calls = ["a", "b", "c"].map(async (subject) => {
        const client = clients.admin("http", { subject, issuer: "https://i" });
        return client.action(api.acts.whoSlowly, { wait: 100 });
      });
      expect(await Promise.all(calls)).toEqual(
        ["a", "b", "c"].map((each) => [`https://i|${each}`, `https://i|${each}`]),
      );
    });
  });

  line('Time limit: "Action `NAME` execution timed out (maximum duration …"', () => {
    test("on every client", async () => {
      const late = await failures(
        CLIENTS.map((name) => clients.shared(name).action(api.acts.slow, { wait: 60_000 })),
      );
      for (const { message } of late)
        expect(message).toMatch(/Server Error\nAction `slow` execution timed out \(maximum duration 4s\)/);
      for (const name of CLIENTS)
        expect(await clients.shared(name).action(api.acts.slow, { wait: 1 })).toBe(1);
    });
  });

  line(
    "An uncaught exception outside the promise chain ends only that call, and the runtime works for the next call",
    () => {
      test.each(CLIENTS)("%s", async (name) => {
        const client = clients.shared(name);
        const other = client.action(api.acts.slow, { wait: 300 });
        const { message } = await failure(client.action(api.acts.escapes, { text: "out of the chain" }));
        expect(message).toContain("uncaughtException: out of the chain");
        expect(await other, "another call at the same time").toBe(300);
        expect(await client.action(api.acts.slow, { wait: 1 })).toBe(1);
      });

      test("a rejection that nobody handles", async () => {
        const { message } = await failure(clients.shared("http").action(api.acts.drops, { text: "dropped" }));
        expect(message).toContain("dropped");
        expect(await clients.shared("http").action(api.acts.slow, { wait: 1 })).toBe(1);
      });
    },
  );

  line("process.env.CONVEX_CLOUD_URL and CONVEX_SITE_URL", () => {
    test("in every kind of function", async () => {
      const { url, siteUrl } = clients.host;
      const expected = { cloud: url, site: siteUrl, other: null };
      const client = clients.shared("http");
      expect(await client.action(api.acts.environmentOfAction, {})).toEqual(expected);
      expect(await client.query(api.acts.environmentOfQuery, {})).toEqual(expected);
      expect(await client.mutation(api.acts.environmentOfMutation, {})).toEqual(expected);
    });
  });
});

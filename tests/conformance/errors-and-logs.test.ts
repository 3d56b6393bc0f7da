import { ConvexError } from "convex/values";
import type { Value } from "convex/values";
import { expect, test } from "vitest";
import { section } from "./checklist";
import { api, CLIENTS, failure, failures, Follower, Lines, useHost } from "./clients";

const clients = useHost();

/** The frames of a message, without the words of the client around it. */
const framesOf = (message: string) => message.split("\n").filter((line) => line.startsWith("    at "));

/** The beginning of a message of an error on any client. */
const HEAD = /^(\[CONVEX [QMA]\(errors:\w+\)\] )?\[Request ID: [0-9a-f]{16}\] Server Error\n/;

const REFUSAL = { code: "refused", size: 7n, list: [null, 1.5] };

async function postRaw(kind: string, path: string, args: object) {
  const response = await fetch(`${clients.host.url}/api/${kind}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ path, args, format: "convex_encoded_json" }),
  });
  return (await response.json()) as Record<string, unknown>;
}

section("Errors and logs", (line) => {
  line(
    'Message form: "[Request ID: 16 hex digits] Server Error", newline, "Uncaught NAME: MESSAGE", then frames',
    () => {
      const kinds: [string, string][] = [
        ["plain", "Uncaught Error: plain words"],
        ["lines", "Uncaught Error: first line\nsecond line"],
        ["empty", "Uncaught Error"],
        ["typed", "Uncaught TypeError: Cannot read properties of undefined (reading 'f')"],
        ["specific", "Uncaught Specific: own words"],
      ];
      test.each(kinds)("%s", async (kind, text) => {
        for (const name of CLIENTS) {
          const client = clients.shared(name);
          for (const { message } of await failures([
            client.query(api.errors.throwQuery, { kind }),
            client.mutation(api.errors.throwMutation, { kind }),
            client.action(api.errors.throwAction, { kind }),
          ])) {
            expect(message).toMatch(HEAD);
            const rest = message.replace(HEAD, "");
            expect(rest.slice(0, text.length + 1)).toBe(`${text}\n`);
            const frames = framesOf(message);
            expect(frames[0]).toMatch(/^ {4}at fail \(\.\.\/convex\/errors\.ts:\d+:\d+\)$/);
            expect(frames[1]).toMatch(/^ {4}at handler \(\.\.\/convex\/errors\.ts:\d+:\d+\)$/);
            expect(frames.join(), "no frame of the host").not.toMatch(/prelude|engine|embedded|node:/);
          }
        }
      });

      test.each(CLIENTS)("through calls of functions, on %s", async (name) => {
        const client = clients.shared(name);
        const prefix = { plain: "Uncaught Error", data: "Uncaught ConvexError", specific: "Uncaught Error" };
        for (const [kind, outer] of Object.entries(prefix)) {
          for (const { message } of await failures([
            client.query(api.errors.queryThroughQuery, { kind }),
            client.mutation(api.errors.mutationThroughMutation, { kind }),
            client.action(api.errors.actionThroughMutation, { kind }),
            client.action(api.errors.actionThroughAction, { kind }),
          ])) {
            const rest = message.replace(HEAD, "").replace(/\n {2}Called by client$/, "");
            expect(rest).toMatch(new RegExp(`^${outer}: Uncaught \\w+: .*\n( {4}at .*\n)+\n( {4}at .*\n)*$`));
          }
        }
      });

      test("without frames, each ends its line", async () => {
        const { errorMessage } = await postRaw("query", "errors:nothing", {});
        expect(errorMessage).toMatch(/^.*\n[^\n]*Could not find public function[^\n]*\n$/);
      });

      test("each call has an id of its own", async () => {
        const client = clients.shared("http");
        const errors = await failures(
          [1, 2, 3].map(() => client.query(api.errors.throwQuery, { kind: "plain" })),
        );
        const ids = errors.map(({ message }) => /[0-9a-f]{16}/.exec(message)?.[0]);
        expect(new Set(ids).size).toBe(3);
      });
    },
  );

  line("The same on HTTP, React and simple clients", () => {
    test.each(["query", "mutation", "action"] as const)("%s", async (kind) => {
      const path = `throw${kind[0]!.toUpperCase()}${kind.slice(1)}`;
      const [http, socket, react] = (
        await Promise.all(
          CLIENTS.map((name) => failure(clients.shared(name)[kind](api.errors[path], { kind: "plain" }))),
        )
      ).map(({ message }) => message.replace(/ID: \w+/, "ID: …"));
      expect(socket).toBe(`[CONVEX ${kind[0]!.toUpperCase()}(errors:${path})] ${http}\n  Called by client`);
      expect(react).toBe(socket);
    });
  });

  line(
    "ConvexError (and subclasses) carries its data to the client from queries, mutations and actions",
    () => {
      const data: unknown[] = [
        { code: "x", n: 5n, bytes: new Uint8Array([1, 255]).buffer, deep: { "": [NaN, null] } },
        "words",
        null,
        5,
        7n,
        [],
        "",
        false,
      ];
      test.each(CLIENTS)("%s", async (name) => {
        const client = clients.shared(name);
        for (const each of data) {
          for (const error of await failures([
            client.query(api.errors.throwQuery, { kind: "data", data: each }),
            client.mutation(api.errors.throwMutation, { kind: "data", data: each }),
            client.action(api.errors.throwAction, { kind: "data", data: each }),
          ])) {
            expect(error).toBeInstanceOf(ConvexError);
            expect((error as ConvexError<never>).data).toEqual(each);
            expect(error.message).toMatch(/Uncaught ConvexError(: |\n)/);
          }
        }
      });

      test.each(CLIENTS)("a subclass on %s", async (name) => {
        const client = clients.shared(name);
        for (const error of await failures([
          client.query(api.errors.throwQuery, { kind: "subclass" }),
          client.mutation(api.errors.throwMutation, { kind: "subclass" }),
          client.action(api.errors.throwAction, { kind: "subclass" }),
        ])) {
          expect(error).toBeInstanceOf(ConvexError);
          expect((error as ConvexError<never>).data).toEqual(REFUSAL);
          expect(error.message).toContain("Uncaught Refusal: ");
        }
      });

      test("the message holds the data as text: words as they are, all else as JSON", async () => {
        const client = clients.shared("http");
        const words = await failure(client.query(api.errors.throwQuery, { kind: "data", data: "words" }));
        expect(words.message).toContain("\nUncaught ConvexError: words\n");
        const object = await failure(
          client.query(api.errors.throwQuery, { kind: "data", data: { code: "x" } }),
        );
        expect(object.message).toContain('\nUncaught ConvexError: {"code":"x"}\n');
      });

      test("what a mutation wrote before is gone", async () => {
        expect(await clients.shared("http").query(api.messages.list, { channel: "thrown" })).toEqual([]);
      });
    },
  );

  line(
    "ConvexError passes through nested calls, and instanceof ConvexError holds in a caller's catch",
    () => {
      test.each(CLIENTS)("through, on %s", async (name) => {
        const client = clients.shared(name);
        for (const error of await failures([
          client.query(api.errors.queryThroughQuery, { kind: "subclass" }),
          client.mutation(api.errors.mutationThroughMutation, { kind: "subclass" }),
          client.action(api.errors.actionThroughMutation, { kind: "subclass" }),
          client.action(api.errors.actionThroughAction, { kind: "subclass" }),
        ])) {
          expect(error).toBeInstanceOf(ConvexError);
          expect((error as ConvexError<never>).data).toEqual(REFUSAL);
        }
      });

      test("caught", async () => {
        const client = clients.shared("websocket");
        const caught = {
          isError: true,
          isConvexError: true,
          data: REFUSAL,
          hasData: true,
          message: expect.any(String),
        };
        const args = { kind: "subclass" };
        expect(await client.query(api.errors.caughtInQuery, args)).toEqual(caught);
        expect(await client.mutation(api.errors.caughtInMutation, args)).toEqual(caught);
        expect(await client.action(api.errors.caughtInAction, args)).toEqual([caught, caught, caught]);
        expect(
          await client.query(api.messages.list, { channel: "inner" }),
          "the callee's writes are gone",
        ).toEqual([]);
        expect(await client.query(api.messages.list, { channel: "caught" }), "the caller's stay").toEqual([
          "by the caller",
        ]);
      });
    },
  );

  line("A normal Error has no data", () => {
    test.each(CLIENTS)("%s", async (name) => {
      const client = clients.shared(name);
      for (const error of await failures([
        client.query(api.errors.throwQuery, { kind: "plain" }),
        client.mutation(api.errors.throwMutation, { kind: "plain" }),
        client.action(api.errors.throwAction, { kind: "plain" }),
        client.action(api.errors.actionThroughMutation, { kind: "plain" }),
      ])) {
        expect(error).not.toBeInstanceOf(ConvexError);
        expect(Object.hasOwn(error, "data")).toBe(false);
      }
    });

    test("nor in a caller's catch", async () => {
      const client = clients.shared("http");
      const caught = { isError: true, isConvexError: false, data: null, hasData: false };
      expect(await client.query(api.errors.caughtInQuery, { kind: "plain" })).toMatchObject(caught);
      expect(await client.mutation(api.errors.caughtInMutation, { kind: "plain" })).toMatchObject(caught);
      const seen = await client.action(api.errors.caughtInAction, { kind: "plain" });
      expect(seen).toMatchObject([caught, caught, caught]);
    });

    test("nor in the body of an answer", async () => {
      for (const [kind, path] of [
        ["query", "errors:throwQuery"],
        ["mutation", "errors:throwMutation"],
        ["action", "errors:throwAction"],
      ] as const) {
        const body = await postRaw(kind, path, { kind: "plain" });
        expect(body).toMatchObject({ status: "error", errorMessage: expect.stringContaining("plain words") });
        expect("errorData" in body).toBe(false);
        expect(await postRaw(kind, path, { kind: "data", data: null })).toMatchObject({ errorData: null });
      }
    });
  });

  line("A failing subscription delivers the error and recovers when the query works again", () => {
    test("errors, recovers and errs again", async () => {
      const writer = clients.http();
      const followed = new Follower(clients.socket(), api.errors.failsWhileFull, { channel: "full" });
      await followed.until((newest) => newest === "empty");
      await writer.mutation(api.messages.send, { channel: "full", body: "one" });
      const error = await followed.until((newest) => newest instanceof Error);
      expect(error).toBeInstanceOf(ConvexError);
      expect((error as ConvexError<Value>).data).toEqual({ full: "one" });
      await writer.mutation(api.messages.clear, { channel: "full" });
      await followed.until((newest) => newest === "empty");
      await writer.mutation(api.messages.send, { channel: "full", body: "two" });
      const again = await followed.until((newest) => newest instanceof Error);
      expect((again as ConvexError<Value>).data).toEqual({ full: "two" });
      followed.stop();
    });

    test("one that fails from the start recovers too, and the others of the client go on", async () => {
      const writer = clients.http();
      const client = clients.socket();
      await writer.mutation(api.messages.send, { channel: "full from the start", body: "one" });
      const failing = new Follower(client, api.errors.failsWhileFull, { channel: "full from the start" });
      const other = new Follower(client, api.messages.list, { channel: "full from the start" });
      expect(await failing.until(() => true)).toBeInstanceOf(ConvexError);
      await writer.mutation(api.messages.clear, { channel: "full from the start" });
      await failing.until((newest) => newest === "empty");
      expect(await other.until((newest) => Array.isArray(newest) && newest.length === 0)).toEqual([]);
    });
  });

  line("Log lines come back with success and with failure, level-tagged (\"[LOG] 'text'\")", () => {
    const LINES = [
      "[LOG] 'text' 1 {\n  a: 1\n} [ true, null ] undefined",
      "[DEBUG] 'debug'",
      "[INFO] 'info'",
      "[WARN] 'warn'",
      "[ERROR] 'error'",
      "[LOG] ",
    ];
    test.each([
      ["query", "logs:talkQuery"],
      ["mutation", "logs:talkMutation"],
      ["action", "logs:talkAction"],
    ])("%s over HTTP", async (kind, path) => {
      expect(await postRaw(kind, path, { fails: false })).toMatchObject({
        status: "success",
        logLines: LINES,
      });
      expect(await postRaw(kind, path, { fails: true })).toMatchObject({ status: "error", logLines: LINES });
    });

    test.each(CLIENTS)("the %s client prints them", async (name) => {
      const lines = new Lines();
      const client = clients.open(name, lines);
      await client.mutation(api.logs.talkMutation, { fails: false });
      await failure(client.mutation(api.logs.talkMutation, { fails: true }));
      await client.action(api.logs.talkAction, { fails: false });
      await client.query(api.logs.talkQuery, { fails: false });
      const printed = lines.lines.join("\n");
      expect(printed).toContain("[CONVEX M(logs:talkMutation)] [LOG]");
      expect(printed).toContain("[CONVEX A(logs:talkAction)] [LOG]");
      expect(printed).toContain("[CONVEX Q(logs:talkQuery)] [LOG]");
      expect(printed).toContain("'text' 1 {\n  a: 1\n}");
      expect(printed.split("[WARN]").length - 1).toBe(4);
    });

    test("a call inside a call logs in its place", async () => {
      const { logLines } = await postRaw("mutation", "logs:nested", {});
      expect(logLines).toEqual(["[LOG] 'before'", "[LOG] 'inside'", "[LOG] 'after'"]);
    });

    test("a subscription whose value stays tells new lines", async () => {
      const lines = new Lines();
      const client = clients.socket(lines);
      const followed = new Follower(client, api.logs.watched, { channel: "watched" });
      await followed.until((newest) => newest === "same");
      await client.mutation(api.messages.send, { channel: "watched", body: "news" });
      expect(
        lines.lines.filter((each) => each.includes("Q(logs:watched)")).map((each) => each.split(" ").at(-1)),
      ).toEqual(["'nothing'", "'news'"]);
    });
  });

  line('console.time family gives "label: NNms"', () => {
    test("query", async () => {
      const { logLines } = await postRaw("query", "logs:timedQuery", {});
      expect(logLines).toEqual([
        expect.stringMatching(/^\[INFO\] named: \d+ms 'so far' \{\n {2}n: 1\n\}$/),
        expect.stringMatching(/^\[INFO\] named: \d+ms$/),
        expect.stringMatching(/^\[INFO\] default: \d+ms$/),
      ]);
    });

    test("action", async () => {
      const { logLines } = (await postRaw("action", "logs:timedAction", {})) as { logLines: string[] };
      expect(logLines).toEqual([expect.stringMatching(/^\[INFO\] slow: \d+ms$/)]);
      expect(Number(/\d+/.exec(logLines[0]!)?.[0])).toBeGreaterThanOrEqual(19);
    });

    test("a timer that is not there, or is there already, is warned of", async () => {
      for (const [kind, path] of [
        ["query", "logs:mistimedQuery"],
        ["action", "logs:mistimedAction"],
      ] as const) {
        expect(await postRaw(kind, path, {})).toMatchObject({
          logLines: [
            "[WARN] Timer 'twice' already exists",
            "[WARN] Timer 'gone' does not exist",
            "[WARN] Timer 'gone' does not exist",
          ],
        });
      }
    });
  });
});

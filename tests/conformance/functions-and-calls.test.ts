import { expect, test } from "vitest";
import { section } from "./checklist";
import { api, CLIENTS, failure, failures, useHost } from "./clients";

const clients = useHost();

/** Call a function by its path as text, as a client without generated code does. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
const byPath = (path: string): any => path;

async function post(endpoint: string, body: object, headers: Record<string, string> = {}) {
  const response = await fetch(`${clients.host.url}${endpoint}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

section("Functions and calls", (line) => {
  line(
    "A function is addressed by module path and export; default export by module path alone; sub-folders by slash",
    () => {
      test.each(CLIENTS)("%s", async (name) => {
        const client = clients.shared(name);
        expect(await client.query(byPath("addressing:aQuery"), {})).toBe("a query");
        expect(await client.query(byPath("addressing.js:aQuery"), {})).toBe("a query");
        expect(await client.query(byPath("nested/deep/one:named"), {})).toBe("nested/deep/one:named");
        expect(await client.query(byPath("nested/deep/one"), {})).toBe("nested/deep/one:default");
        expect(await client.query(byPath("nested/deep/one:default"), {})).toBe("nested/deep/one:default");
        expect(await client.query(api.nested.deep.one.named, {})).toBe("nested/deep/one:named");
        expect(await client.query(api.nested.deep.one.default, {})).toBe("nested/deep/one:default");
        expect(await client.mutation(byPath("addUser"), { name: `user of ${name}` })).toMatch(
          /^[0-9a-z]{31,37}$/,
        );
        expect(await client.mutation(api.addUser.default, { name: `user of ${name}` })).toMatch(
          /^[0-9a-z]{31,37}$/,
        );
      });

      test("/api/run takes the path from the URL, with slashes only", async () => {
        const answer = await post("/api/run/nested/deep/one/named", { args: {} });
        expect(answer.body).toMatchObject({ status: "success", value: "nested/deep/one:named" });
      });

      test("a query may come as GET", async () => {
        const response = await fetch(
          `${clients.host.url}/api/query?path=addressing:aQuery&args={}&format=json`,
        );
        expect(await response.json()).toMatchObject({ status: "success", value: "a query" });
      });
    },
  );

  line(
    "Modules with more than one dot in the name, JSON files, declaration files and _generated are not entry points",
    () => {
      test.each([
        "notes.draft:unreachable",
        "data:json",
        "data.json:json",
        "shapes:Shape",
        "shapes.d:Shape",
        "_generated/loose:loose",
      ])("%s is not there", async (path) => {
        const error = await failure(clients.shared("http").query(byPath(path), {}));
        expect(error.message).toMatch(
          /Could not find public function for '|is not a valid path to a Convex function\. Module path .* has an extension/,
        );
      });

      test("what a module imports from a JSON file and a declaration file is there", async () => {
        expect(await clients.shared("http").query(api.addressing.json, {})).toEqual({
          json: "is imported, and is no module of functions",
          sides: 4,
        });
      });
    },
  );

  line("schema and config modules may call Math.random() and Date.now() at load", () => {
    test("the schema of this suite does, and holds", async () => {
      const error = await failure(
        clients.shared("http").mutation(api.validated.writeUser, { user: { name: 1 } }),
      );
      expect(error.message).toContain("does not match the schema");
    });
  });

  line('Unknown or internal function from a client: "Could not find public function"', () => {
    const text = (path: string) =>
      `Could not find public function for '${path}'. Did you forget to run \`npx convex dev\`?`;
    test.each(CLIENTS)("%s", async (name) => {
      const client = clients.shared(name);
      const calls: [string, (path: string) => Promise<unknown>][] = [
        ["addressing:nowhere", (path) => client.query(byPath(path), {})],
        ["nowhere:nowhere", (path) => client.query(byPath(path), {})],
        ["addressing", (path) => client.query(byPath(path), {})],
        ["addressing:nowhere", (path) => client.mutation(byPath(path), {})],
        ["addressing:nowhere", (path) => client.action(byPath(path), {})],
        ["addressing:hiddenQuery", (path) => client.query(byPath(path), {})],
        ["addressing:hiddenMutation", (path) => client.mutation(byPath(path), {})],
        ["addressing:hiddenAction", (path) => client.action(byPath(path), {})],
        ["addressing:helper", (path) => client.query(byPath(path), {})],
      ];
      for (const [path, call] of calls)
        expect((await failure(call(path))).message, path).toContain(text(path));
    });

    test("the message is the same on HTTP and on the WebSocket", async () => {
      const [http, socket] = await Promise.all(
        (["http", "websocket"] as const).map(async (name) => {
          const error = await failure(clients.shared(name).mutation(byPath("addressing:nowhere"), {}));
          return error.message
            .replace(/^\[CONVEX .*?\] /, "")
            .replace(/\[Request ID: .*?\]/, "[Request ID: …]");
        }),
      );
      expect(socket?.replace(/\n {2}Called by client$/, "")).toBe(http);
    });
  });

  line("Wrong kind is an error", () => {
    test.each(CLIENTS)("%s", async (name) => {
      const client = clients.shared(name);
      const calls: [Promise<unknown>, string][] = [
        [
          client.query(byPath("addressing:aMutation"), {}),
          "addressing.js:aMutation as Query, but it is defined as Mutation.",
        ],
        [
          client.query(byPath("addressing:anAction"), {}),
          "addressing.js:anAction as Query, but it is defined as Action.",
        ],
        [
          client.mutation(byPath("addressing:aQuery"), {}),
          "addressing.js:aQuery as Mutation, but it is defined as Query.",
        ],
        [
          client.mutation(byPath("addressing:anAction"), {}),
          "addressing.js:anAction as Mutation, but it is defined as Action.",
        ],
        [
          client.action(byPath("addressing:aQuery"), {}),
          "addressing.js:aQuery as Action, but it is defined as Query.",
        ],
        [
          client.action(byPath("addressing:aMutation"), {}),
          "addressing.js:aMutation as Action, but it is defined as Mutation.",
        ],
      ];
      const errors = await failures(calls.map(([call]) => call));
      for (const [index, [, text]] of calls.entries())
        expect(errors[index]?.message).toContain(`Trying to execute ${text}`);
    });
  });

  line("With the admin key internal functions work", () => {
    test.each(CLIENTS)("%s", async (name) => {
      const client = clients.admin(name);
      expect(await client.query(api.addressing.hiddenQuery, {})).toBe("hidden query");
      expect(await client.mutation(api.addressing.hiddenMutation, {})).toBe("hidden mutation");
      expect(await client.action(api.addressing.hiddenAction, {})).toBe("hidden action");
      expect(await client.query(api.addressing.aQuery, {})).toBe("a query");
    });

    test("/api/function takes any kind", async () => {
      const admin = { authorization: `Convex ${clients.host.adminKey}` };
      for (const [name, value] of [
        ["hiddenQuery", "hidden query"],
        ["hiddenMutation", "hidden mutation"],
        ["hiddenAction", "hidden action"],
        ["aMutation", "a mutation"],
      ] as const) {
        const answer = await post(
          "/api/function",
          { path: `addressing:${name}`, args: {}, format: "json" },
          admin,
        );
        expect(answer.body).toMatchObject({ status: "success", value });
      }
    });

    test("the prefix of a deployment before the key makes no difference, and a wrong key is refused", async () => {
      const [, secret] = clients.host.adminKey.split("|");
      const call = { path: "addressing:hiddenQuery", args: {}, format: "json" };
      const prefixed = { authorization: `Convex prod:${clients.host.adminKey}` };
      expect((await post("/api/query", call, prefixed)).body).toMatchObject({ value: "hidden query" });
      const wrong = { authorization: `Convex signalbox|${secret}x` };
      expect(await post("/api/query", call, wrong)).toMatchObject({
        status: 401,
        body: { code: "BadAdminKey" },
      });
    });
  });

  line("Missing args mean {}", () => {
    test.each(["query", "mutation", "action"])("%s", async (kind) => {
      const path = `addressing:argsOf${kind[0]?.toUpperCase()}${kind.slice(1)}`;
      for (const body of [{ path }, { path, args: {} }, { path, args: [] }, { path, args: [{}] }]) {
        expect((await post(`/api/${kind}`, body)).body).toMatchObject({
          status: "success",
          value: { args: {} },
        });
      }
    });

    test.each(CLIENTS)("%s", async (name) => {
      const client = clients.shared(name);
      expect(await client.query(api.addressing.argsOfQuery)).toEqual({ args: {} });
      expect(await client.mutation(api.addressing.argsOfMutation)).toEqual({ args: {} });
      expect(await client.action(api.addressing.argsOfAction)).toEqual({ args: {} });
    });
  });

  line("A function returning undefined yields null", () => {
    test.each(CLIENTS)("%s", async (name) => {
      const client = clients.shared(name);
      expect(await client.query(api.addressing.undefinedQuery, {})).toBeNull();
      expect(await client.mutation(api.addressing.undefinedMutation, {})).toBeNull();
      expect(await client.action(api.addressing.undefinedAction, {})).toBeNull();
    });
  });

  line(
    "Validators: missing, extra, wrong type, nested object, union, array element, id of another table, record keys: ArgumentValidationError, nothing is written",
    () => {
      const message = () =>
        clients.shared("http").mutation(api.messages.send, { channel: "other table", body: "x" });
      const cases: [string, () => object | Promise<object>, string][] = [
        ["a missing field", () => ({}), "Object is missing the required field `name`."],
        [
          "an extra field",
          () => ({ name: "n", more: 1 }),
          "Object contains extra field `more` that is not in the validator.",
        ],
        [
          "a wrong type",
          () => ({ name: 1 }),
          "Value does not match validator.\nPath: .name\nValue: 1.0\nValidator: v.string()",
        ],
        [
          "a number for an int64 union",
          () => ({ name: "n", either: 1 }),
          "Path: .either\nValue: 1.0\nValidator: v.union(v.string(), v.int64())",
        ],
        ["a nested object", () => ({ name: "n", inner: { deep: { flag: 0 } } }), "Path: .inner.deep.flag"],
        [
          "a nested extra field",
          () => ({ name: "n", inner: { deep: { flag: true, x: 1 } } }),
          "extra field `x`",
        ],
        [
          "an array element",
          () => ({ name: "n", list: [1, "2"] }),
          'Path: .list[1]\nValue: "2"\nValidator: v.float64()',
        ],
        ["null for an optional field", () => ({ name: "n", size: null }), "Path: .size\nValue: null"],
        [
          "a literal",
          () => ({ name: "n", kind: "other" }),
          '`"other"` does not match literal validator `v.literal("fixed")`.',
        ],
        ["text for bytes", () => ({ name: "n", bytes: "AA==" }), "Path: .bytes"],
        [
          "text that is no id",
          () => ({ name: "n", user: "nobody" }),
          'Path: .user\nValue: "nobody"\nValidator: v.id("users")',
        ],
        [
          "an id of another table",
          async () => ({ name: "n", user: await message() }),
          'from table `messages`, which does not match the table name in validator `v.id("users")`.',
        ],
        ["a value of a record", () => ({ name: "n", scores: { a: "1" } }), "Path: .scores"],
        ["a key of a record", () => ({ name: "n", byUser: { nobody: null } }), "Path: .byUser"],
      ];
      test.each(cases)("%s", async (_, build, text) => {
        const args = await build();
        for (const name of CLIENTS) {
          const client = clients.shared(name);
          const calls = [
            client.query(api.validated.aQuery, args),
            client.mutation(api.validated.aMutation, args),
          ];
          for (const { message } of await failures(calls)) {
            expect(message).toContain("ArgumentValidationError");
            expect(message).toContain(text);
          }
        }
        expect(await clients.shared("http").query(api.messages.count, { channel: "validated" })).toBe(0);
      });

      test("what fits comes through, also at the edges", async () => {
        const user = await clients.shared("http").mutation(api.addUser.default, { name: "valid" });
        const args = {
          name: "",
          size: -0,
          inner: { deep: { flag: false } },
          either: 5n,
          list: [],
          user,
          scores: {},
          byUser: { [user as string]: null },
          kind: "fixed",
          bytes: new ArrayBuffer(0),
        };
        for (const name of CLIENTS)
          expect(await clients.shared(name).query(api.validated.aQuery, args)).toEqual(args);
      });

      test("undefined is as if the field were not there", async () => {
        const args = { name: "n", size: undefined };
        expect(await clients.shared("websocket").query(api.validated.aQuery, args)).toEqual({ name: "n" });
      });
    },
  );

  line("Return validators: ReturnsValidationError", () => {
    test.each(CLIENTS)("%s", async (name) => {
      const client = clients.shared(name);
      for (const value of [null, {}, { ok: 1 }, { ok: true, more: 1 }, "text"]) {
        const calls = [
          client.query(api.validated.returnsQuery, { value }),
          client.mutation(api.validated.returnsMutation, { value }),
        ];
        for (const { message } of await failures(calls)) expect(message).toContain("ReturnsValidationError");
      }
      expect(await client.query(api.validated.returnsQuery, { value: { ok: true } })).toEqual({ ok: true });
      expect(await client.query(api.messages.count, { channel: "returned" }), "nothing is written").toBe(0);
    });
  });

  line("A document that does not fit the schema is refused even if the function has no validators", () => {
    const fits = { name: "fitting", contact: { phone: 5n }, tags: ["a"], scores: { maths: 1 } };
    const refused = (table: string) =>
      `Failed to insert or update a document in table "${table}" because it does not match the schema: `;
    const unfit: [string, object][] = [
      ["a missing field", { name: "n" }],
      ["an extra field", { ...fits, more: 1 }],
      ["a wrong type", { ...fits, name: 1 }],
      ["no member of the union", { ...fits, contact: { phone: 5 } }],
      ["two members of the union", { ...fits, contact: { phone: 5n, email: "e" } }],
      ["an array element", { ...fits, tags: [1] }],
      ["a record's value", { ...fits, scores: { maths: "1" } }],
      ["an id that is none", { ...fits, friend: "nobody" }],
    ];
    test.each(unfit)("%s", async (_, user) => {
      const client = clients.shared("websocket");
      const { message } = await failure(client.mutation(api.validated.writeUser, { user }));
      expect(message).toContain(refused("users"));
      expect(await client.query(api.validated.users, { name: "n" })).toEqual([]);
    });

    test("patch and replace are held to it too, and leave the document as it was", async () => {
      const client = clients.shared("http");
      const id = await client.mutation(api.validated.writeUser, { user: fits });
      const calls = [
        client.mutation(api.validated.patchUser, { id, patch: { tags: [1] } }),
        client.mutation(api.validated.patchUser, { id, patch: { more: 1 } }),
        client.mutation(api.validated.replaceUser, { id, user: { name: "alone" } }),
      ];
      for (const { message } of await failures(calls)) expect(message).toContain(refused("users"));
      expect(await client.query(api.validated.users, { name: "fitting" })).toMatchObject([fits]);
    });
  });

  line(
    'Set, Map and other unsupported values: "is not a supported Convex type" from arguments, return values and writes',
    () => {
      const kinds: [string, string][] = [
        ["set", "Set[1]"],
        ["map", 'Map[["a",1]]'],
        ["date", "is not a supported Convex type"],
        ["regexp", "is not a supported Convex type"],
        ["function", "is not a supported Convex type"],
        ["symbol", "is not a supported Convex type"],
        ["instance", "is not a supported Convex type"],
        ["nested", "is not a supported Convex type"],
      ];
      test.each(kinds)("%s", async (kind, text) => {
        for (const name of CLIENTS) {
          const client = clients.shared(name);
          const calls = [
            client.query(api.values.returnUnsupported, { kind }),
            client.mutation(api.values.returnUnsupportedMutation, { kind }),
            client.action(api.values.returnUnsupportedAction, { kind }),
            client.mutation(api.values.writeUnsupported, { kind }),
            client.action(api.values.passUnsupported, { kind }),
          ];
          for (const { message } of await failures(calls)) {
            expect(message).toContain("is not a supported Convex type");
            expect(message).toContain(text);
          }
        }
      });

      test("an argument of a client is refused before it is sent, with the same words", async () => {
        for (const value of [new Set([1]), new Map(), new Date(), /a/, () => 1, { deep: [new Set()] }]) {
          for (const name of CLIENTS) {
            const error = await failure(
              (async () => clients.shared(name).query(api.values.echo, { value }))(),
            );
            expect(error.message).toContain("is not a supported Convex type");
          }
        }
      });

      test("a bigint beyond 64 bits and a key that begins with $ are refused too", async () => {
        const client = clients.shared("http");
        const bigint = await failure(client.query(api.values.returnUnsupported, { kind: "bigBigint" }));
        expect(bigint.message).toContain("does not fit into a 64-bit signed integer");
        const dollar = await failure(client.mutation(api.values.writeUnsupported, { kind: "dollar" }));
        expect(dollar.message).toContain("$key");
      });
    },
  );

  line("int64, bytes, empty keys, unicode and 6 MB strings survive in both directions", () => {
    const bytes = (...values: number[]) => new Uint8Array(values).buffer;
    const values: [string, unknown][] = [
      ["null", null],
      ["int64", 5n],
      ["the smallest int64", -(2n ** 63n)],
      ["the largest int64", 2n ** 63n - 1n],
      ["bytes", bytes(0, 255, 128)],
      ["no bytes", bytes()],
      ["an empty text", ""],
      ["unicode", "ü 漢 🇦🇶 \u0000 \ud83d\ude00 \u2028"],
      ["NaN", NaN],
      ["-Infinity", -Infinity],
      ["-0", -0],
      ["the smallest number", 5e-324],
      ["the largest number", Number.MAX_VALUE],
      ["an empty key", { "": 1 }],
      ["nested empty keys", { "": { "": ["", null] } }],
      ["keys with spaces and signs", { "a b": 1, "a.b": 2, ä: undefined, "~!": 3 }],
      ["empty containers", { array: [], object: {} }],
      ["all together", { n: 5n, list: [bytes(1), { deep: [1n, 2.5, true, false, null] }] }],
    ].map(([name, value]) => [name as string, stripUndefined(value)]);

    test.each(values)("%s", async (_, value) => {
      for (const name of CLIENTS) {
        const client = clients.shared(name);
        expect(await client.query(api.values.echo, { value })).toEqual(value);
        expect(await client.mutation(api.values.echoMutation, { value })).toEqual(value);
        expect(await client.action(api.values.echoAction, { value })).toEqual(value);
        const id = await client.mutation(api.values.store, { value });
        expect(await client.query(api.values.load, { id })).toEqual(value);
      }
    });

    test.each(values)("%s as an argument between functions", async (_, value) => {
      for (const name of CLIENTS) {
        const client = clients.shared(name);
        expect(await client.action(api.values.relay, { value })).toEqual([value, value, value]);
        expect(await client.mutation(api.values.relayInMutation, { value })).toEqual([value, value]);
      }
    });

    test("objects have their fields in order of the names, wherever they come from", async () => {
      const value = { b: { d: 1, c: 2 }, Z: 1, a: [{ y: 1, x: 2 }] };
      const inOrder = '{"Z":1,"a":[{"x":2,"y":1}],"b":{"c":2,"d":1}}';
      for (const name of CLIENTS) {
        const client = clients.shared(name);
        for (const returned of [
          await client.query(api.values.echo, { value }),
          await client.mutation(api.values.echoMutation, { value }),
          await client.action(api.values.echoAction, { value }),
          await client.query(api.values.load, { id: await client.mutation(api.values.store, { value }) }),
        ]) {
          expect(JSON.stringify(returned)).toBe(inOrder);
        }
        expect(await client.query(api.values.print, { value })).toBe(inOrder);
        expect(await client.action(api.values.printInAction, { value })).toBe(inOrder);
      }
    });

    test("functions see int64 as bigint and bytes as ArrayBuffer", async () => {
      const client = clients.shared("websocket");
      const seen = (value: unknown) => client.query(api.values.describe, { value });
      expect(await seen(2n ** 62n)).toEqual({ type: "bigint", isBuffer: false, text: String(2n ** 62n) });
      expect(await seen(bytes(1))).toEqual({ type: "object", isBuffer: true, text: "" });
      expect(await seen(NaN)).toEqual({ type: "number", isBuffer: false, text: "NaN" });
    });

    test.each(CLIENTS)("a text of 6 MB on %s", async (name) => {
      const client = clients.shared(name);
      const text = `ü${"x".repeat(6_000_000)}`;
      expect((await client.query(api.values.echo, { value: text })) === text).toBe(true);
      expect((await client.mutation(api.values.echoMutation, { value: text })) === text).toBe(true);
      expect((await client.action(api.values.echoAction, { value: text })) === text).toBe(true);
    });

    test("a text of 6 MB between functions", async () => {
      const text = "x".repeat(6_000_000);
      expect(await clients.shared("http").action(api.values.relayWhole, { text })).toEqual([
        true,
        true,
        true,
      ]);
    });

    test.each(["", "x", "xx", "xxx"])(
      "characters of four bytes across the parts of a result, behind '%s'",
      async (before) => {
        const value = `${before}${"😀".repeat(1_400_000)}`;
        const echoed = (await clients.shared("websocket").query(api.values.echo, { value })) as string;
        expect(echoed === value).toBe(true);
      },
    );

    test("results just below and above 5 MB, where the WebSocket begins to send a result in parts", async () => {
      for (const length of [5 * 1024 * 1024 - 1000, 5 * 1024 * 1024 + 1, 11_000_000]) {
        const text = (await clients.shared("websocket").query(api.values.long, { length })) as string;
        expect(text.length).toBe(length);
      }
    });
  });
});

function stripUndefined(value: unknown): unknown {
  if (typeof value !== "object" || value === null || value instanceof ArrayBuffer || Array.isArray(value))
    return value;
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined));
}

import type { Value } from "convex/values";
import { beforeAll, expect, test } from "vitest";
import { section } from "./checklist";
import { api, CLIENTS, failure, useHost } from "./clients";
import { filled, newGroup } from "./groups";

const clients = useHost();
const { documents } = api;

section("Mutations and queries", (line) => {
  line("Read your own writes inside a mutation, also of deletes", () => {
    test.each(CLIENTS)("%s", async (name) => {
      const group = newGroup();
      const steps = await clients.shared(name).mutation(documents.readsItsWrites, { group });
      expect(steps).toEqual([[], [1, 2], [0, 1], [0, 5], 5, [5], true, []]);
      expect(await clients.shared(name).query(documents.values, { group })).toEqual([]);
    });
  });

  line(
    "insert, patch (undefined removes a field), replace, delete, get; the forms with the table name as first argument too",
    () => {
      test.each([false, true])("with the table's name: %s", async (named) => {
        const contact = { email: "a@example.org" };
        const same = { isSame: true, hasTime: true };
        expect(await clients.shared("http").mutation(documents.life, { named })).toEqual([
          { fields: { name: "Ada", contact, tags: ["a"], scores: { x: 1 } }, ...same },
          { fields: { name: "Ada", contact, scores: { y: 2 } }, ...same },
          { fields: { name: "Grace", contact: { phone: 5n } }, ...same },
          null,
        ]);
      });

      test.each([
        ["patch", "Update on nonexistent document ID "],
        ["replace", "Replace on nonexistent document ID "],
        ["delete", "Delete on nonexistent document ID "],
      ])("%s of a document that is gone", async (kind, text) => {
        const error = await failure(clients.shared("http").mutation(documents.onGone, { kind }));
        expect(error.message).toMatch(new RegExp(`${text}[0-9a-z]{31,37}`));
      });

      test("get of a document that is gone is null", async () => {
        expect(await clients.shared("http").mutation(documents.onGone, { kind: "get" })).toBe(true);
      });

      test.each(["get", "patch", "replace", "delete"])(
        "%s with the name of another table is refused",
        async (kind) => {
          const { message } = await failure(
            clients.shared("http").mutation(documents.inWrongTable, { kind }),
          );
          expect(message).toMatch(/messages/);
        },
      );

      test("_id and _creationTime may come along if they are the document's own", async () => {
        const seen = await clients.shared("http").mutation(documents.withSystemFields, {});
        expect(seen).toEqual({ name: "Replaced", tags: ["t"], isSame: true });
      });

      test("normalizeId knows the ids of a table", async () => {
        const [id] = (await clients
          .http()
          .mutation(documents.putAll, { group: newGroup(), values: [1] })) as string[];
        expect(await clients.http().query(documents.normalize, { id })).toEqual([id, null]);
        for (const other of ["", "x", `${id}x`, id!.slice(1), "ü"]) {
          expect(await clients.http().query(documents.normalize, { id: other })).toEqual([null, null]);
        }
      });
    },
  );

  line("A thrown error rolls everything back", () => {
    test.each(CLIENTS)("%s", async (name) => {
      const client = clients.shared(name);
      const group = newGroup();
      expect((await failure(client.mutation(documents.writeThenThrow, { group }))).message).toContain(
        "after the writes",
      );
      expect(await client.query(documents.values, { group })).toEqual([]);
      await client.mutation(documents.putAll, { group, values: [1, 2] });
      await failure(client.mutation(documents.editThenThrow, { group }));
      expect(await client.query(documents.values, { group })).toEqual([1, 2]);
    });
  });

  line("Calls are serializable: 4 clients × 20 increments give 80", () => {
    test.each(CLIENTS)("%s", async (name) => {
      const four = [1, 2, 3, 4].map(() => clients.open(name));
      const counts = await Promise.all(
        four.flatMap((client) =>
          Array.from({ length: 20 }, () => client.mutation(documents.increment, { name })),
        ),
      );
      expect(new Set(counts)).toEqual(new Set(Array.from({ length: 80 }, (_, index) => index + 1)));
      expect(await clients.shared("http").query(documents.counter, { name })).toBe(80);
    });

    test("the mutations of one client run in the order in which they were called", async () => {
      const counts = await Promise.all(
        Array.from({ length: 20 }, () =>
          clients.shared("websocket").mutation(documents.increment, { name: "in order" }),
        ),
      );
      expect(counts).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    });
  });

  line("Filters: eq, ranges, and/or, literal true/false, filter before limit", () => {
    let group = "";
    beforeAll(async () => {
      group = await filled(clients, [1, 2, 3, 4, 5]);
    });
    test.each<[string, Value[]]>([
      ["eq 3", [3]],
      ["neq 3", [1, 2, 4, 5]],
      ["gt 2, lte 4", [3, 4]],
      ["gte 2, lt 4", [2, 3]],
      ["1 or 5", [1, 5]],
      ["not 1", [2, 3, 4, 5]],
      ["literal true", [1, 2, 3, 4, 5]],
      ["literal false", []],
      ["no member of and", [1, 2, 3, 4, 5]],
      ["no member of or", []],
      ["literal on the left", [4, 5]],
      ["add", [2]],
      ["sub, mul, div, mod, neg", [2, 4]],
      ["missing field", [1, 2, 3, 4, 5]],
      ["nothing is greater than nothing", []],
      ["cross type", [1, 2, 3, 4, 5]],
    ])("%s", async (filter, values) => {
      expect(await clients.shared("http").query(documents.filtered, { group, filter })).toEqual(values);
    });

    test("a nested field, on values of all types", async () => {
      const mixed = await filled(clients, [null, 7, "deep", { deep: 7 }, { deep: "7" }, [7]]);
      const found = await clients
        .shared("http")
        .query(documents.filtered, { group: mixed, filter: "a nested field" });
      expect(found).toEqual([{ deep: 7 }]);
    });

    test("a limit counts what the filter lets through", async () => {
      expect(await clients.shared("http").query(documents.limited, { group, count: 2 })).toEqual([2, 3]);
      expect(await clients.shared("http").query(documents.limited, { group, count: 9 })).toEqual([
        2, 3, 4, 5,
      ]);
      expect(await clients.shared("http").query(documents.limited, { group, count: 0 })).toEqual([]);
      const twice = { group, count: 9, filterTwice: true };
      expect(await clients.shared("http").query(documents.limited, twice)).toEqual([2, 3, 4]);
    });
  });

  line("Order before or after filter; two orders are an error", () => {
    let group = "";
    beforeAll(async () => {
      group = await filled(clients, [3, 1, 4, 2]);
    });
    test.each([
      ["asc before filter", [3, 4]],
      ["asc after filter", [3, 4]],
      ["desc before filter", [4, 3]],
      ["desc after filter", [4, 3]],
      ["table desc", [2, 4, 1, 3]],
      ["table full scan", [3, 1, 4, 2]],
    ])("%s", async (how, values) => {
      expect(await clients.shared("http").query(documents.ordered, { group, how })).toEqual(values);
    });
    test.each(["twice", "twice around a filter"])("%s", async (how) => {
      const { message } = await failure(clients.shared("http").query(documents.ordered, { group, how }));
      expect(message).toContain("Queries may only specify order at most once");
    });
  });

  line("Index ranges: equality prefix then one range; expressions in any order", () => {
    let group = "";
    const eq = (field: string, value: unknown) => ({ op: "eq", field, value });
    beforeAll(async () => {
      group = newGroup();
      for (const value of [1, 2, 3])
        for (const second of ["a", "b"])
          await clients.http().mutation(documents.putPair, { group, value, second });
    });
    const cases: [string, { op: string; field: string; value: unknown }[], Value[][]][] = [
      ["eq, eq, eq", [eq("value", 2), eq("second", "b")], [[2, "b"]]],
      [
        "eq, eq",
        [eq("value", 2)],
        [
          [2, "a"],
          [2, "b"],
        ],
      ],
      [
        "eq, gt",
        [{ op: "gt", field: "value", value: 2 }],
        [
          [3, "a"],
          [3, "b"],
        ],
      ],
      [
        "eq, gte, lt",
        [
          { op: "gte", field: "value", value: 1 },
          { op: "lt", field: "value", value: 2 },
        ],
        [
          [1, "a"],
          [1, "b"],
        ],
      ],
      ["eq, eq, lte", [eq("value", 3), { op: "lte", field: "second", value: "a" }], [[3, "a"]]],
      [
        "an empty range",
        [
          { op: "gt", field: "value", value: 2 },
          { op: "lt", field: "value", value: 2 },
        ],
        [],
      ],
      [
        "a range upside down",
        [
          { op: "gt", field: "value", value: 3 },
          { op: "lt", field: "value", value: 1 },
        ],
        [],
      ],
    ];
    test.each(cases)("%s", async (_, bounds, pairs) => {
      const found = await clients
        .shared("http")
        .query(documents.ranged, { bounds: [eq("group", group), ...bounds] });
      expect(found).toEqual(pairs);
      const desc = { bounds: [eq("group", group), ...bounds], desc: true };
      expect(await clients.shared("http").query(documents.ranged, desc)).toEqual([...pairs].reverse());
    });

    test("expressions in any order", async () => {
      const bounds = [
        { op: "lt", field: "second", value: "b" },
        eq("value", 2),
        { op: "gte", field: "second", value: "a" },
        eq("group", group),
      ];
      expect(await clients.shared("http").query(documents.ranged, { bounds })).toEqual([[2, "a"]]);
    });
  });

  line(
    "missing < null < int64 < number < boolean < string < bytes < array < object, missing is not null",
    () => {
      const bytes = (...values: number[]) => new Uint8Array(values).buffer;
      const rising: Value[] = [
        null,
        -(2n ** 63n),
        -1n,
        0n,
        1n,
        2n ** 63n - 1n,
        -Infinity,
        -1.5,
        -0,
        0,
        5e-324,
        1,
        Infinity,
        NaN,
        false,
        true,
        "",
        "\u0000",
        "\u0000a",
        "A",
        "a",
        "a\u0000",
        "aa",
        "ä",
        "\uffff",
        "😀",
        bytes(),
        bytes(0),
        bytes(0, 1),
        bytes(1),
        bytes(255),
        [],
        [null],
        [null, 1],
        [1],
        [1, 0],
        ["a"],
        [[]],
        {},
        { a: 1 },
        { a: 1, b: 1 },
        { a: 2 },
        { b: 0 },
      ];
      let group = "";
      beforeAll(async () => {
        // Neither in their order nor against it.
        group = await filled(
          clients,
          rising.map((_, index) => rising[(index * 17) % rising.length]!),
        );
        await clients.http().mutation(documents.putMissing, { group });
      });

      test("in an index", async () => {
        expect(rising.length % 17).not.toBe(0);
        expect(await clients.shared("http").query(documents.values, { group })).toEqual([
          "(missing)",
          ...rising,
        ]);
      });

      test("as bounds of a range", async () => {
        const below = async (op: string, value?: Value) => {
          const bounds = [
            { op: "eq", field: "group", value: group },
            { op, field: "value", value },
          ];
          return ((await clients.shared("http").query(documents.ranged, { bounds })) as Value[]).length;
        };
        const all = rising.length + 1;
        expect(await below("eq", null)).toBe(1);
        expect(await below("eq")).toBe(1);
        expect(await below("gt", null)).toBe(all - 2);
        expect(await below("lt", null)).toBe(1);
        expect(await below("gt")).toBe(all - 1);
        for (const [index, value] of rising.entries()) {
          expect(await below("lt", value), `below the value at ${index}`).toBe(index + 1);
          expect(await below("gte", value), `from the value at ${index}`).toBe(all - index - 1);
        }
      });
    },
  );

  line("Bad ranges are refused with a reason", () => {
    const refused: [string, { op: string; field: string; value: unknown }[], RegExp][] = [
      [
        "a field left out",
        [
          { op: "eq", field: "group", value: "g" },
          { op: "eq", field: "second", value: 1 },
        ],
        /Tried to query index anything\.by_group_and_value_and_second but the query didn't use the index fields in order\./,
      ],
      [
        "not from the first field",
        [{ op: "eq", field: "value", value: 1 }],
        /didn't use the index fields in order\.\nIndex fields: .*group.*value.*second.*_creationTime.*\nQuery fields: .*value/,
      ],
      [
        "equality behind a range",
        [
          { op: "gt", field: "group", value: "g" },
          { op: "eq", field: "value", value: 1 },
        ],
        /didn't use the index fields in order/,
      ],
      [
        "ranges on two fields",
        [
          { op: "gt", field: "group", value: "g" },
          { op: "lt", field: "value", value: 1 },
        ],
        /Upper and lower bounds in `range` can only be applied to a single index field\./,
      ],
      [
        "two lower bounds",
        [
          { op: "gt", field: "group", value: "g" },
          { op: "gte", field: "group", value: "h" },
        ],
        /Already defined lower bound in index range\./,
      ],
      [
        "two upper bounds",
        [
          { op: "lt", field: "group", value: "g" },
          { op: "lte", field: "group", value: "h" },
        ],
        /Already defined upper bound in index range\./,
      ],
      [
        "equality twice",
        [
          { op: "eq", field: "group", value: "g" },
          { op: "eq", field: "group", value: "h" },
        ],
        /group/,
      ],
      [
        "a field that the index has not",
        [{ op: "eq", field: "elsewhere", value: 1 }],
        /The index range included a comparison with "elsewhere", but anything\.by_group_and_value_and_second with fields .* doesn't index this field\./,
      ],
    ];
    test.each(refused)("%s", async (_, bounds, reason) => {
      for (const name of CLIENTS) {
        expect((await failure(clients.shared(name).query(documents.ranged, { bounds }))).message).toMatch(
          reason,
        );
      }
    });

    test("an index that is not there", async () => {
      const { message } = await failure(
        clients.shared("http").query(documents.ranged, { bounds: [], index: "by_nothing" }),
      );
      expect(message).toContain("Index anything.by_nothing not found.");
    });
  });

  line("unique(), first(), take(), for await", () => {
    test("of three", async () => {
      const group = await filled(clients, ["a", "b", "c"]);
      const client = clients.shared("http");
      const end = (how: string, count?: number) => client.query(documents.ends, { group, how, count });
      expect(await end("first")).toBe("a");
      const { message } = await failure(end("unique"));
      expect(message).toMatch(/unique\(\) query returned more than one result/);
      expect(await end("take", 2)).toEqual(["a", "b"]);
      expect(await end("take", 0)).toEqual([]);
      expect(await end("take", 100)).toEqual(["a", "b", "c"]);
      expect(await end("for await")).toEqual(["a", "b", "c"]);
      expect(await end("for await", 1), "left in the middle").toEqual(["a"]);
      for (const count of [-1, 1.5]) expect((await failure(end("take", count))).message).toMatch(/take/);
    });

    test("of one and of none", async () => {
      const one = await filled(clients, ["only"]);
      const client = clients.shared("websocket");
      expect(await client.query(documents.ends, { group: one, how: "unique" })).toBe("only");
      const none = newGroup();
      expect(await client.query(documents.ends, { group: none, how: "unique" })).toBeNull();
      expect(await client.query(documents.ends, { group: none, how: "first" })).toBeNull();
      expect(await client.query(documents.ends, { group: none, how: "take", count: 5 })).toEqual([]);
      expect(await client.query(documents.ends, { group: none, how: "for await" })).toEqual([]);
    });
  });

  line("_creationTime is unique and rising within one mutation, also after a restart", () => {
    const isRising = (times: number[]) =>
      times.every((time, index) => index === 0 || time > times[index - 1]!);

    test("over restarts in good order and by SIGKILL", async () => {
      const group = newGroup();
      const times = () => clients.http().query(documents.creationTimes, { group }) as Promise<number[]>;
      for (const signal of ["SIGTERM", "SIGKILL"] as const) {
        await filled(
          clients,
          Array.from({ length: 300 }, (_, index) => index),
          group,
        );
        await clients.host.end(signal);
        await clients.host.start();
      }
      await filled(clients, [1, 2, 3], group);
      const seen = await times();
      expect(seen).toHaveLength(603);
      expect(isRising(seen)).toBe(true);
      expect(Math.abs(seen.at(-1)! - Date.now())).toBeLessThan(60_000);
    });
  });

  line(
    'A "consistent" query reads as of the client\'s first timestamp while plain queries see the newest state',
    () => {
      test("sees the past", async () => {
        const group = newGroup();
        const ids = (await clients.http().mutation(documents.putAll, { group, values: [1, 2] })) as string[];
        const client = clients.http();
        expect(await client.consistentQuery(documents.values, { group })).toEqual([1, 2]);
        await clients.http().mutation(documents.putAll, { group, values: [3] });
        await clients.http().mutation(documents.remove, { id: ids[0] });
        expect(await client.consistentQuery(documents.values, { group })).toEqual([1, 2]);
        expect(await client.consistentQuery(documents.get, { id: ids[0] })).toMatchObject({ value: 1 });
        expect(await client.query(documents.values, { group })).toEqual([2, 3]);
        expect(await client.query(documents.get, { id: ids[0] })).toBeNull();
        expect(await clients.http().consistentQuery(documents.values, { group })).toEqual([2, 3]);
      });

      test("while others write all the time", async () => {
        const client = clients.http();
        const name = "consistent";
        await clients.http().mutation(documents.increment, { name });
        const first = await client.consistentQuery(documents.counter, { name });
        const writes = Array.from({ length: 20 }, () =>
          clients.http().mutation(documents.increment, { name }),
        );
        const reads = await Promise.all(
          Array.from({ length: 20 }, () => client.consistentQuery(documents.counter, { name })),
        );
        expect(new Set(reads)).toEqual(new Set([first]));
        await Promise.all(writes);
        expect(await client.query(documents.counter, { name })).toBe(21);
      });
    },
  );
});

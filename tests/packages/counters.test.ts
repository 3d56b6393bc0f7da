/** Packages that keep numbers: @convex-dev/sharded-counter, rate-limiter and aggregate. */

import { ConvexError } from "convex/values";
import { describe, expect, test } from "vitest";
import { api, failure, Follower, useHost } from "../conformance/clients";
import { functionsOf } from "./packages";

describe("sharded-counter", () => {
  const clients = useHost({ functions: functionsOf("sharded-counter") });

  test("counts what many clients add at once, and tells who watches", async () => {
    const seen = new Follower<number>(clients.socket(), api.public.count, { name: "visits" });
    const adders = Array.from({ length: 4 }, async () => {
      const client = clients.http();
      for (let n = 0; n < 20; n++) await client.mutation(api.public.add, { name: "visits", count: 1 });
    });
    await Promise.all(adders);
    await seen.until((count) => count === 80);
    await clients.http().mutation(api.public.rebalance, { name: "visits", shards: 4 });
    expect(await clients.http().query(api.public.count, { name: "visits" })).toBe(80);
    expect(
      await clients.http().query(api.public.estimateCount, { name: "visits", shards: 4, readFromShards: 2 }),
    ).toBe(80);
  });

  test("spreads over its shards, and starts anew", async () => {
    const http = clients.http();
    const shards = new Set<number>();
    for (let n = 0; n < 60; n++)
      shards.add(await http.mutation(api.public.add, { name: "spread", count: 1, shards: 4 }));
    expect([...shards].sort()).toEqual([0, 1, 2, 3]);
    await http.mutation(api.public.reset, { name: "spread" });
    expect(await http.query(api.public.count, { name: "spread" })).toBe(0);
  });
});

describe("rate-limiter", () => {
  const clients = useHost({ functions: functionsOf("rate-limiter") });
  const bucket = { kind: "token bucket", rate: 1, period: 60_000, capacity: 3 };

  test("lets a burst through and no more, each key for itself", async () => {
    const http = clients.http();
    const take = (key: string) => http.mutation(api.lib.rateLimit, { name: "send", key, config: bucket });
    for (let n = 0; n < 3; n++) expect(await take("ada")).toMatchObject({ ok: true });
    const refused = await take("ada");
    expect(refused.ok).toBe(false);
    expect(refused.retryAfter).toBeGreaterThan(50_000);
    expect(await take("bob")).toMatchObject({ ok: true });
    await http.mutation(api.lib.resetRateLimit, { name: "send", key: "ada" });
    expect(await take("ada")).toMatchObject({ ok: true });
  });

  test("takes exactly as many as there are, whoever asks at once", async () => {
    const asked = Array.from({ length: 10 }, () =>
      clients.http().mutation(api.lib.rateLimit, { name: "race", config: { ...bucket, capacity: 4 } }),
    );
    expect((await Promise.all(asked)).filter(({ ok }) => ok)).toHaveLength(4);
  });

  test("throws data that says when to come again", async () => {
    const http = clients.http();
    const config = { kind: "fixed window", rate: 1, period: 60_000, start: 0 };
    const args = { name: "hard", config, throws: true };
    await http.mutation(api.lib.rateLimit, args);
    const error = await failure(http.mutation(api.lib.rateLimit, args));
    expect(error).toBeInstanceOf(ConvexError);
    expect((error as ConvexError<never>).data).toMatchObject({
      kind: "RateLimited",
      name: "hard",
      retryAfter: expect.any(Number),
    });
    expect(await http.query(api.lib.checkRateLimit, { name: "hard", config })).toMatchObject({ ok: false });
    expect((await http.query(api.lib.getValue, { name: "hard", config })).value).toBe(0);
  });
});

describe("aggregate", () => {
  const clients = useHost({ functions: functionsOf("aggregate") });

  /** Numbers below `bound`, the same each time. */
  function shuffled(bound: number) {
    return Array.from({ length: bound }, (_, i) => (i * 37) % bound);
  }

  test("answers as a sorted list does, after inserts, changes and deletes", async () => {
    const http = clients.http();
    await http.mutation(api.public.init, { maxNodeSize: 4, rootLazy: false });
    for (const key of shuffled(60))
      await http.mutation(api.public.insert, { key, value: `v${key}`, summand: key });
    for (let key = 0; key < 60; key += 3) await http.mutation(api.public.delete_, { key });
    await http.mutation(api.public.replace, { currentKey: 1, newKey: 1000, value: "moved", summand: 5 });
    const keys = shuffled(60)
      .filter((key) => key % 3 !== 0 && key !== 1)
      .concat(1000)
      .sort((a, b) => a - b);
    const sum = keys.reduce((total, key) => total + (key === 1000 ? 5 : key), 0);

    await http.query(api.btree.validate, {});
    expect(await http.query(api.btree.aggregateBetween, {})).toEqual({ count: keys.length, sum });
    const between = keys.filter((key) => key > 10 && key < 40);
    expect((await http.query(api.btree.aggregateBetween, { k1: 10, k2: 40 })).count).toBe(
      between.filter((key) => key !== 10 && key !== 40).length,
    );
    for (const offset of [0, 7, keys.length - 1]) {
      expect((await http.query(api.btree.atOffset, { offset })).k).toBe(keys[offset]);
      expect(await http.query(api.btree.offset, { key: keys[offset] })).toBe(offset);
    }
    expect((await http.query(api.btree.atNegativeOffset, { offset: 0 })).k).toBe(1000);
    expect(await http.query(api.btree.get, { key: 3 })).toBeNull();
    expect((await failure(http.mutation(api.public.delete_, { key: 3 }))).message).toContain(
      "DELETE_MISSING_KEY",
    );
  });

  test("keys of every kind stand in Convex's order, namespaces apart", async () => {
    const http = clients.http();
    const ordered = [null, -1n, 7n, -0.5, 0, 2.5, false, true, "", "a", "b", [1], [1, 2], { a: 1 }, { b: 0 }];
    const namespace = "kinds";
    for (const key of ordered.toReversed())
      await http.mutation(api.public.insert, { key, value: 0, namespace });
    const found = [];
    for (let offset = 0; offset < ordered.length; offset++)
      found.push((await http.query(api.btree.atOffset, { offset, namespace })).k);
    expect(found).toEqual(ordered);
    expect((await http.query(api.btree.aggregateBetween, { namespace: "empty" })).count).toBe(0);
  });
});

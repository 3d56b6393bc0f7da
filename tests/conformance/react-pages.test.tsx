// @vitest-environment jsdom
/** Hooks of npm convex, of its part for Next.js and of convex-helpers, under writes that come in at random moments. */

import { act, cleanup, renderHook, waitFor } from "@testing-library/react";
import { usePaginatedQuery as useHelpersPages, useQuery as useQueryWithStatus } from "convex-helpers/react";
import { SessionProvider, useSessionMutation, useSessionQuery } from "convex-helpers/react/sessions";
import { fetchAction, fetchMutation, fetchQuery, preloadedQueryResult, preloadQuery } from "convex/nextjs";
import { ConvexProvider, usePaginatedQuery, usePreloadedQuery, useQuery } from "convex/react";
import type { ReactNode } from "react";
import { afterEach, describe, expect, test } from "vitest";
import { api, failure, useHost } from "./clients";
import { AUTH_CONFIG, ISSUERS, token } from "./tokens";

const FUNCTIONS = `
import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
const read = (ctx, { list, how }) => {
  switch (how) {
    case "desc": return ctx.db.query("items").order("desc").filter((q) => q.eq(q.field("list"), list));
    case "filter": return ctx.db.query("items").filter((q) => q.and(q.eq(q.field("list"), list), q.eq(q.field("even"), true)));
    case "index": return ctx.db.query("items").withIndex("by_rank", (q) => q.eq("list", list).gt("rank", 10).lt("rank", 90));
    case "descIndex": return ctx.db.query("items").withIndex("by_rank", (q) => q.eq("list", list)).order("desc");
    case "search": return ctx.db.query("items").withSearchIndex("by_text", (q) => q.search("text", "item").eq("list", list));
  }
};
export const page = query((ctx, { paginationOpts, ...wanted }) => read(ctx, wanted).paginate(paginationOpts));
export const all = query((ctx, wanted) => read(ctx, wanted).collect());
export const write = mutation(async (ctx, { list, rank }) => {
  const found = await ctx.db.query("items").withIndex("by_rank", (q) => q.eq("list", list).eq("rank", rank)).unique();
  if (found !== null) await ctx.db.delete(found._id);
  else await ctx.db.insert("items", { list, rank, even: rank % 2 === 0, text: "item " + rank });
});
export const mine = query((ctx, { sessionId }) => ctx.db.query("owned").filter((q) => q.eq(q.field("sessionId"), sessionId)).collect());
export const own = mutation((ctx, { sessionId, what }) => ctx.db.insert("owned", { sessionId, what }));
`;
const SCHEMA = `
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
export default defineSchema({
  items: defineTable({ list: v.string(), rank: v.number(), even: v.boolean(), text: v.string() })
    .index("by_rank", ["list", "rank"])
    .searchIndex("by_text", { searchField: "text", filterFields: ["list"] }),
}, { strictTableNameTypes: false });
`;

const clients = useHost({
  files: { "auth.config.ts": AUTH_CONFIG, "items.ts": FUNCTIONS, "schema.ts": SCHEMA },
});
afterEach(cleanup);

const wait = { timeout: 15_000 };
let lists = 0;
const newList = () => `list ${(lists += 1)}`;
const write = (list: string, rank: number) => clients.http().mutation(api.items.write, { list, rank });

function provider({ children }: { children: ReactNode }) {
  return <ConvexProvider client={client()}>{children}</ConvexProvider>;
}
let shared: ReturnType<typeof clients.react> | null = null;
const client = () => (shared ??= clients.react());

/** mulberry32 */
function randomFrom(seed: number) {
  let state = seed;
  return (below: number) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

describe.each(["desc", "filter", "index", "descIndex", "search"])("pages of a query with %s", (how) => {
  test.each([
    ["npm convex", usePaginatedQuery],
    ["convex-helpers", useHelpersPages],
  ])("are those of the whole, whatever is written while they load, with %s", async (_, usePages) => {
    const list = newList();
    const random = randomFrom(how.length * 7919);
    for (let i = 0; i < 30; i++) await write(list, random(100));
    const { result } = renderHook(
      () =>
        usePages(api.items.page, { list, how }, { initialNumItems: 3 }) as ReturnType<
          typeof usePaginatedQuery
        >,
      { wrapper: provider },
    );
    await waitFor(() => expect(result.current.status).not.toBe("LoadingFirstPage"), wait);
    let writing = true;
    const writes = (async () => {
      for (let i = 0; i < 40; i++) await write(list, random(100));
      writing = false;
    })();
    while (writing || result.current.status !== "Exhausted") {
      act(() => result.current.loadMore(1 + random(4)));
      await act(() => new Promise((resolve) => setTimeout(resolve, 5)));
    }
    await writes;
    const all = (await clients.http().query(api.items.all, { list, how })) as { rank: number }[];
    const ranks = (rows: { rank: number }[]) => rows.map(({ rank }) => rank);
    await waitFor(() => expect(ranks(result.current.results as never)).toEqual(ranks(all)), wait);
    expect(all.length).toBeGreaterThan(3);
  });
});

test("a query that was prewarmed is there at the first render", async () => {
  const list = newList();
  await write(list, 1);
  const react = clients.react();
  react.prewarmQuery({ query: api.items.all, args: { list, how: "desc" }, extendSubscriptionFor: 10_000 });
  const local = react.watchQuery(api.items.all, { list, how: "desc" });
  await expect.poll(() => local.localQueryResult()).toHaveLength(1);
  const seen: unknown[] = [];
  renderHook(() => seen.push(useQuery(api.items.all, { list, how: "desc" })), {
    wrapper: ({ children }) => <ConvexProvider client={react}>{children}</ConvexProvider>,
  });
  expect(seen[0]).toHaveLength(1);
});

describe("convex/nextjs", () => {
  const options = () => ({ url: clients.host.url, skipConvexDeploymentUrlCheck: true });

  test("preloads a query that the page then follows", async () => {
    const list = newList();
    await write(list, 1);
    const preloaded = await preloadQuery(api.items.all, { list, how: "desc" }, options());
    expect(preloadedQueryResult(preloaded)).toHaveLength(1);
    const { result } = renderHook(() => usePreloadedQuery(preloaded), { wrapper: provider });
    expect(result.current).toHaveLength(1);
    await write(list, 2);
    await waitFor(() => expect(result.current).toHaveLength(2), wait);
  });

  test("calls functions of each kind, with a user's token and without", async () => {
    const user = token({ issuer: ISSUERS.ec, claims: { sub: "ada" } });
    const whoami = api.identity.ofQuery;
    expect(await fetchQuery(whoami, {}, options())).toBeNull();
    expect(await fetchQuery(whoami, {}, { ...options(), token: user })).toMatchObject({ subject: "ada" });
    const list = newList();
    await fetchMutation(api.items.write, { list, rank: 1 }, options());
    expect(await fetchQuery(api.items.all, { list, how: "desc" }, options())).toMatchObject([{ rank: 1 }]);
    const error = await failure(fetchAction(api.errors.throwAction, { kind: "data", data: 1n }, options()));
    expect(error).toMatchObject({ name: "ConvexError", data: 1n });
  });
});

describe("convex-helpers", () => {
  test("useQuery with its status", async () => {
    const list = newList();
    const { result } = renderHook(() => useQueryWithStatus(api.items.all, { list, how: "desc" }), {
      wrapper: provider,
    });
    expect(result.current).toMatchObject({ status: "pending", isPending: true, data: undefined });
    await waitFor(() => expect(result.current).toMatchObject({ status: "success", data: [] }), wait);
    const failed = renderHook(() => useQueryWithStatus(api.errors.throwQuery, { kind: "plain" }), {
      wrapper: provider,
    });
    await waitFor(
      () => expect(failed.result.current).toMatchObject({ status: "error", isError: true }),
      wait,
    );
    expect(String(failed.result.current.error)).toContain("plain words");
  });

  test("sessions", async () => {
    const { result } = renderHook(
      () => ({ mine: useSessionQuery(api.items.mine), own: useSessionMutation(api.items.own) }),
      {
        wrapper: ({ children }) => (
          <ConvexProvider client={client()}>
            <SessionProvider>{children}</SessionProvider>
          </ConvexProvider>
        ),
      },
    );
    await waitFor(() => expect(result.current.mine).toEqual([]), wait);
    await act(() => result.current.own({ what: "x" } as never));
    await waitFor(() => expect(result.current.mine).toMatchObject([{ what: "x" }]), wait);
  });
});

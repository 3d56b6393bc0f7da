// @vitest-environment jsdom
import { act, cleanup, render, renderHook, screen, waitFor } from "@testing-library/react";
import {
  Authenticated,
  AuthLoading,
  ConvexProvider,
  ConvexProviderWithAuth,
  Unauthenticated,
  useAction,
  useConvexAuth,
  useConvexConnectionState,
  useMutation,
  usePaginatedQuery,
  useQueries,
  useQuery,
} from "convex/react";
import type { ConvexReactClient } from "convex/react";
import type { OptimisticLocalStore } from "convex/browser";
import { Component } from "react";
import type { ReactNode } from "react";
import { afterEach, expect, test } from "vitest";
import { section } from "./checklist";
import { api, failure, useHost } from "./clients";
import { AUTH_CONFIG, ISSUERS, token } from "./tokens";

const clients = useHost({ files: { "auth.config.ts": AUTH_CONFIG } });
afterEach(cleanup);

let channels = 0;
const newChannel = () => `channel ${(channels += 1)}`;
const send = (channel: string, body: string) => clients.http().mutation(api.messages.send, { channel, body });
const sendAll = (channel: string, bodies: string[]) =>
  clients.http().mutation(api.messages.sendMany, { channel, bodies });

const wrapper =
  (client: ConvexReactClient) =>
  ({ children }: { children: ReactNode }) => <ConvexProvider client={client}>{children}</ConvexProvider>;

/** Run a hook below a provider of a new client; `seen` has what it gave at each render. */
function hook<Result, Props>(use: (props: Props) => Result, initialProps?: Props) {
  const seen: Result[] = [];
  const rendered = renderHook(
    (props: Props) => {
      const result = use(props);
      seen.push(result);
      return result;
    },
    { wrapper: wrapper(clients.react()), ...(initialProps === undefined ? {} : { initialProps }) },
  );
  const until = (wanted: unknown) =>
    waitFor(() => expect(rendered.result.current).toEqual(wanted), { timeout: 10_000 });
  return { ...rendered, seen, until };
}

const bodies = (results: { body: string }[]) => results.map(({ body }) => body).join("");

const distinct = (values: unknown[]) =>
  values.filter((value, index) => index === 0 || JSON.stringify(value) !== JSON.stringify(values[index - 1]));

class Boundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state = { error: null as Error | null };
  static getDerivedStateFromError = (error: Error) => ({ error });
  override render = () =>
    this.state.error === null ? this.props.children : <p>caught: {this.state.error.message}</p>;
}

section("React", (line) => {
  line('useQuery is undefined first, then has the value, and every later one; "skip" asks nothing', () => {
    test("updates", async () => {
      const channel = newChannel();
      const { seen, until } = hook(() => useQuery(api.messages.list, { channel }));
      await until([]);
      await send(channel, "a");
      await until(["a"]);
      await send(channel, "b");
      await until(["a", "b"]);
      expect(distinct(seen)).toEqual([undefined, [], ["a"], ["a", "b"]]);
    });

    test("other arguments are another query", async () => {
      const [one, two] = [newChannel(), newChannel()];
      await send(two, "two");
      const { rerender, seen, until } = hook((channel) => useQuery(api.messages.list, { channel }), one);
      await until([]);
      rerender(two);
      await until(["two"]);
      expect(distinct(seen)).toEqual([undefined, [], undefined, ["two"]]);
    });

    test("skip", async () => {
      const channel = newChannel();
      const { rerender, seen, until } = hook(
        (args: "skip" | { channel: string }) => useQuery(api.messages.count, args),
        "skip" as "skip" | { channel: string },
      );
      expect(distinct(seen)).toEqual([undefined]);
      rerender({ channel });
      await until(0);
      rerender("skip");
      await until(undefined);
    });

    test("two components with one query show the same", async () => {
      const channel = newChannel();
      const Count = () => <p>{String(useQuery(api.messages.count, { channel }))}</p>;
      const Wrapper = wrapper(clients.react());
      render(
        <Wrapper>
          <Count />
          <Count />
        </Wrapper>,
      );
      await waitFor(() => expect(screen.getAllByText("0")).toHaveLength(2));
      await send(channel, "x");
      await waitFor(() => expect(screen.getAllByText("1")).toHaveLength(2));
    });
  });

  line("useQuery throws what its query throws, and an error boundary sees it", () => {
    test("its message has the server's form", async () => {
      const Broken = () => <p>{useQuery(api.errors.throwQuery, { kind: "plain" })}</p>;
      const Wrapper = wrapper(clients.react());
      const silence = console.error;
      console.error = () => {}; // React reports what a boundary catches
      try {
        render(
          <Wrapper>
            <Boundary>
              <Broken />
            </Boundary>
          </Wrapper>,
        );
        const { textContent } = await screen.findByText(/caught:/);
        expect(textContent).toMatch(
          /^caught: \[CONVEX Q\(errors:throwQuery\)\] \[Request ID: [0-9a-f]{16}\] Server Error\nUncaught Error: plain words\n/,
        );
      } finally {
        console.error = silence;
      }
    });
  });

  line("useQueries follows several queries at once, errors among them", () => {
    test("values and an error", async () => {
      const channel = newChannel();
      const queries = {
        list: { query: api.messages.list, args: { channel } },
        count: { query: api.messages.count, args: { channel } },
        broken: { query: api.errors.throwQuery, args: { kind: "plain" } },
      };
      const { seen, until } = hook(() => useQueries(queries));
      await until({ list: [], count: 0, broken: expect.any(Error) });
      await send(channel, "x");
      await until({ list: ["x"], count: 1, broken: expect.any(Error) });
      const ahead = seen.filter(
        ({ list, count }) => list !== undefined && count !== undefined && list.length !== count,
      );
      expect(ahead, "they move together").toEqual([]);
    });
  });

  line("useMutation and useAction give what their function gives", () => {
    test("values and errors", async () => {
      const { result } = hook(() => ({
        send: useMutation(api.messages.send),
        echo: useAction(api.values.echoAction),
        fail: useMutation(api.errors.throwMutation),
      }));
      await act(async () => {
        expect(await result.current.send({ channel: newChannel(), body: "x" })).toMatch(/^[0-9a-z]{31,37}$/);
        expect(await result.current.echo({ value: { n: 5n } })).toEqual({ n: 5n });
        const error = await failure(result.current.fail({ kind: "data", data: { code: "x" } }));
        expect(error).toMatchObject({ data: { code: "x" } });
      });
    });

    test("its effect is there once the promise is resolved", async () => {
      const channel = newChannel();
      const { result, until } = hook(() => ({
        count: useQuery(api.messages.count, { channel }),
        send: useMutation(api.messages.send),
      }));
      await until({ count: 0, send: expect.any(Function) });
      for (let count = 1; count <= 3; count += 1) {
        await act(() => result.current.send({ channel, body: "x" }));
        expect(result.current.count).toBe(count);
      }
    });
  });

  line(
    "An optimistic update shows at once and gives way to the server's value; it is rolled back when the mutation fails",
    () => {
      const optimistic =
        (channel: string, body: string) =>
        (store: OptimisticLocalStore): void => {
          const list = store.getQuery(api.messages.list, { channel }) as string[] | undefined;
          if (list !== undefined) store.setQuery(api.messages.list, { channel }, [...list, body]);
        };

      test("gives way", async () => {
        const channel = newChannel();
        const { result, seen, until } = hook(() => ({
          list: useQuery(api.messages.list, { channel }),
          send: useMutation(api.messages.send).withOptimisticUpdate(optimistic(channel, "guess")),
        }));
        await until({ list: [], send: expect.any(Function) });
        let sent: Promise<unknown> = Promise.resolve();
        act(() => void (sent = result.current.send({ channel, body: "truth" })));
        expect(result.current.list, "before the host can have answered").toEqual(["guess"]);
        await act(() => sent);
        expect(result.current.list).toEqual(["truth"]);
        expect(distinct(seen.map(({ list }) => list))).toEqual([undefined, [], ["guess"], ["truth"]]);
      });

      test("is rolled back", async () => {
        const channel = newChannel();
        const { result, seen, until } = hook(() => ({
          list: useQuery(api.messages.list, { channel }),
          fail: useMutation(api.errors.throwMutation).withOptimisticUpdate(optimistic(channel, "guess")),
        }));
        await until({ list: [], fail: expect.any(Function) });
        let failed: Promise<unknown> = Promise.resolve();
        act(() => void (failed = failure(result.current.fail({ kind: "plain" }))));
        expect(result.current.list).toEqual(["guess"]);
        await act(() => failed);
        await until({ list: [], fail: expect.any(Function) });
        expect(distinct(seen.map(({ list }) => list))).toEqual([undefined, [], ["guess"], []]);
      });

      test("stays over other writes, and several in a row keep their order", async () => {
        const channel = newChannel();
        const { result, seen, until } = hook(() => ({
          list: useQuery(api.messages.list, { channel }),
          send: useMutation(api.messages.send).withOptimisticUpdate((store, { body }: { body: string }) =>
            optimistic(channel, body)(store),
          ),
        }));
        await until({ list: [], send: expect.any(Function) });
        let sent: Promise<unknown> = Promise.resolve();
        act(
          () =>
            void (sent = Promise.all(["a", "b", "c"].map((body) => result.current.send({ channel, body })))),
        );
        expect(result.current.list).toEqual(["a", "b", "c"]);
        await act(() => sent);
        expect(result.current.list).toEqual(["a", "b", "c"]);
        const lists = seen
          .map(({ list }) => list as string[] | undefined)
          .filter((list) => list !== undefined);
        expect(lists.every((list) => "abc".startsWith(list.join("")))).toBe(true);
      });
    },
  );

  line(
    "usePaginatedQuery loads more, keeps its pages while documents come and go, and tells its status",
    () => {
      test("to the end", async () => {
        const channel = newChannel();
        await sendAll(channel, [..."abcdefg"]);
        const { result, seen } = hook(() =>
          usePaginatedQuery(api.messages.page, { channel }, { initialNumItems: 3 }),
        );
        expect(result.current).toMatchObject({ status: "LoadingFirstPage", isLoading: true, results: [] });
        await waitFor(() => expect(result.current.status).toBe("CanLoadMore"));
        expect(bodies(result.current.results)).toBe("abc");
        act(() => result.current.loadMore(2));
        expect(result.current).toMatchObject({ status: "LoadingMore", isLoading: true });
        await waitFor(() => expect(bodies(result.current.results)).toBe("abcde"));
        act(() => result.current.loadMore(10));
        await waitFor(() => expect(result.current.status).toBe("Exhausted"));
        expect(bodies(result.current.results)).toBe("abcdefg");
        expect(distinct(seen.map(({ status }) => status))).toEqual([
          "LoadingFirstPage",
          "CanLoadMore",
          "LoadingMore",
          "CanLoadMore",
          "LoadingMore",
          "Exhausted",
        ]);
        await send(channel, "h");
        await waitFor(() => expect(bodies(result.current.results)).toBe("abcdefgh"));
      });

      test("pages shrink and leave neither gap nor double", async () => {
        const channel = newChannel();
        await sendAll(channel, [..."abcdef"]);
        const { result } = hook(() =>
          usePaginatedQuery(api.messages.page, { channel }, { initialNumItems: 2 }),
        );
        await waitFor(() => expect(result.current.status).toBe("CanLoadMore"));
        act(() => result.current.loadMore(2));
        await waitFor(() => expect(bodies(result.current.results)).toBe("abcd"));
        for (const [gone, left] of [
          ["b", "acd"],
          ["c", "ad"],
          ["a", "d"],
        ] as const) {
          await clients.http().mutation(api.messages.remove, { channel, body: gone });
          await waitFor(() => expect(bodies(result.current.results)).toBe(left));
        }
        act(() => result.current.loadMore(10));
        await waitFor(() => expect(bodies(result.current.results)).toBe("def"));
      });

      test("an empty list covers everything later", async () => {
        const channel = newChannel();
        const { result } = hook(() =>
          usePaginatedQuery(api.messages.page, { channel }, { initialNumItems: 1 }),
        );
        await waitFor(() => expect(result.current.status).toBe("Exhausted"));
        await sendAll(channel, [..."abc"]);
        await waitFor(() => expect(bodies(result.current.results)).toBe("abc"));
        expect(result.current.status).toBe("Exhausted");
      });

      test("other arguments begin anew", async () => {
        const [one, two] = [newChannel(), newChannel()];
        await sendAll(one, [..."abc"]);
        await sendAll(two, [..."xyz"]);
        const { result, rerender } = hook(
          (channel) => usePaginatedQuery(api.messages.page, { channel }, { initialNumItems: 2 }),
          one,
        );
        await waitFor(() => expect(bodies(result.current.results)).toBe("ab"));
        rerender(two);
        await waitFor(() => expect(bodies(result.current.results)).toBe("xy"));
      });
    },
  );

  line("usePaginatedQuery splits a page that is too long, unseen", () => {
    test("as documents come", async () => {
      const channel = newChannel();
      await sendAll(channel, [..."abcd"]);
      const { result, seen } = hook(() =>
        usePaginatedQuery(api.messages.narrowPage, { channel }, { initialNumItems: 9 }),
      );
      const all = () => bodies(result.current.results);
      await waitFor(() => expect(all()).toBe("abcd"));
      await sendAll(channel, [..."efghijkl"]);
      act(() => result.current.loadMore(9));
      await waitFor(() => expect(all()).toMatch(/^abcdefgh/));
      act(() => result.current.loadMore(9));
      await waitFor(() => expect(all()).toBe("abcdefghijkl"));
      await clients.http().mutation(api.messages.remove, { channel, body: "b" });
      await waitFor(() => expect(all()).toBe("acdefghijkl"));
      const shown = seen.map(({ results }) => bodies(results)).filter((text) => text !== "");
      expect(shown.every((text) => /^ab?c/.test(text))).toBe(true);
    });
  });

  line("useConvexConnectionState sees the host go and come back", () => {
    test("over a kill", async () => {
      const channel = newChannel();
      const { result, until } = hook(() => ({
        count: useQuery(api.messages.count, { channel }),
        isConnected: useConvexConnectionState().isWebSocketConnected,
      }));
      await until({ count: 0, isConnected: true });
      await clients.host.end("SIGKILL");
      await until({ count: 0, isConnected: false });
      await clients.host.start();
      await until({ count: 0, isConnected: true });
      await send(channel, "x");
      await waitFor(() => expect(result.current.count).toBe(1));
    });
  });

  line("ConvexProviderWithAuth: loading, signed in, signed out", () => {
    function App({ auth, client }: { auth: () => ReturnType<typeof signedOut>; client: ConvexReactClient }) {
      return (
        <ConvexProviderWithAuth client={client} useAuth={auth}>
          <AuthLoading>loading</AuthLoading>
          <Unauthenticated>signed out</Unauthenticated>
          <Authenticated>
            <Who />
          </Authenticated>
        </ConvexProviderWithAuth>
      );
    }
    function Who() {
      const identity = useQuery(api.identity.ofQuery, {}) as { subject: string } | null | undefined;
      return <p>{`${useConvexAuth().isAuthenticated} ${identity?.subject}`}</p>;
    }
    const value = token({ issuer: ISSUERS.rsa, claims: { sub: "ada" } });
    const fetchAccessToken = async (): Promise<string | null> => value;
    const fetchBadToken = async (): Promise<string | null> =>
      token({ issuer: "https://unknown.example.org" });
    const signedOut = () => ({ isLoading: false, isAuthenticated: false, fetchAccessToken });
    const loading = () => ({ isLoading: true, isAuthenticated: false, fetchAccessToken });
    const signedIn = () => ({ isLoading: false, isAuthenticated: true, fetchAccessToken });
    const refused = () => ({ isLoading: false, isAuthenticated: true, fetchAccessToken: fetchBadToken });

    test("in this order", async () => {
      const client = clients.react();
      const { rerender } = render(<App auth={loading} client={client} />);
      await screen.findByText("loading");
      rerender(<App auth={signedOut} client={client} />);
      await screen.findByText("signed out");
      rerender(<App auth={signedIn} client={client} />);
      await screen.findByText("true ada");
      rerender(<App auth={signedOut} client={client} />);
      await screen.findByText("signed out");
    });

    test("a token that the host refuses is as none", async () => {
      render(<App auth={refused} client={clients.react()} />);
      await screen.findByText("signed out");
    });
  });
});

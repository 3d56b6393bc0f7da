/** Live reads and verbs of the control plane, with the session's key. */
import { useConvex, useMutation } from "convex/react";
import type { OptimisticUpdate } from "convex/browser";
import {
  getFunctionName,
  type FunctionArgs,
  type FunctionReference,
  type FunctionReturnType,
  type OptionalRestArgs,
} from "convex/server";
import { useCallback, useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { useRead, type Read } from "../hooks";
import { useSession } from "./session";
import { useSay } from "./parts/say";
import { messageOf } from "./text";

type Query = FunctionReference<"query">;
type Mutation = FunctionReference<"mutation">;
type Keyless<F extends Query | Mutation> = Omit<FunctionArgs<F>, "key">;

export type Live<T> = Read<T>;

/** A query that is run again whenever something that it has read changes. `args` null: not now. */
export function useLive<Q extends Query>(query: Q, args: Keyless<Q> | null): Live<FunctionReturnType<Q>> {
  const { key } = useSession();
  return useRead(query, args === null ? null : { key, ...args });
}

/** As `useLive`; while another query of the same kind loads, what the last one gave stays. */
export function useSteady<Q extends Query>(query: Q, args: Keyless<Q>): Live<FunctionReturnType<Q>> {
  const live = useLive(query, args);
  const [last, setLast] = useState(live.data);
  if (live.data !== undefined && live.data !== last) setLast(live.data);
  return { ...live, data: live.data ?? (live.error === null ? last : undefined) };
}

/** What a query gave when it was last asked, and when that was. */
export type Asked<T> = { data: T; at: number };

/**
 * A query that is asked again after each `everyMs` while the page is seen, and whenever `cause` changes: for what changes so
 * often that a subscription would cost a call for each change. Of a refusal a subscription beside it tells.
 */
export function useAsked<Q extends Query>(
  query: Q,
  args: Keyless<Q>,
  everyMs: number,
  cause: unknown,
): Asked<FunctionReturnType<Q>> | undefined {
  const { key } = useSession();
  const convex = useConvex();
  const [asked, setAsked] = useState<Asked<FunctionReturnType<Q>>>();
  const name = getFunctionName(query);
  const text = JSON.stringify({ key, ...args });
  useEffect(() => {
    let over = false;
    let due = 0;
    const ask = async () => {
      if (document.visibilityState !== "visible" || Date.now() < due) return;
      due = Infinity; // one at a time: without a connection it takes as long as that
      const all = JSON.parse(text) as FunctionArgs<Q>;
      const data = await convex
        .query(query, ...([all] as unknown as OptionalRestArgs<Q>))
        .catch(() => undefined);
      due = Date.now() + everyMs;
      if (!over && data !== undefined) setAsked({ data: data, at: Date.now() });
    };
    const look = () => void ask();
    look();
    const timer = setInterval(look, everyMs / 10);
    document.addEventListener("visibilitychange", look);
    return () => {
      over = true;
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps -- query and args are what their texts say
  }, [convex, name, text, everyMs, cause]);
  return asked;
}

/**
 * A mutation that a person asks for. What it would do may be shown at once; a refusal takes that back and is said in a line.
 * @returns of the function: what the control plane answered, null when it refused
 */
export function useVerb<M extends Mutation>(
  mutation: M,
  optimistic?: OptimisticUpdate<FunctionArgs<M>>,
): (args: Keyless<M>) => Promise<FunctionReturnType<M> | null> {
  const { key } = useSession();
  const say = useSay();
  const plain = useMutation(mutation);
  const call = useMemo(
    () => (optimistic === undefined ? plain : plain.withOptimisticUpdate(optimistic as never)),
    [plain, optimistic],
  );
  return useCallback(
    async (args) => {
      try {
        return await call(...([{ key, ...args }] as unknown as OptionalRestArgs<M>));
      } catch (error) {
        say("error", messageOf(error));
        return null;
      }
    },
    [call, key, say],
  );
}

const ticking = new Set<() => void>();
let clock: ReturnType<typeof setInterval> | undefined;
let tickedAt = Date.now();

/** The same for a second, so that what is rendered within it agrees. */
function timeNow(): number {
  if (Date.now() - tickedAt >= 1_000) tickedAt = Date.now();
  return tickedAt;
}

/** One clock for all that shows a time: thousands of rows may. */
function onTick(tick: () => void): () => void {
  clock ??= setInterval(() => {
    tickedAt = Date.now();
    for (const each of ticking) each();
  }, 1_000);
  ticking.add(tick);
  return () => {
    ticking.delete(tick);
    if (ticking.size > 0) return;
    clearInterval(clock);
    clock = undefined;
  };
}

/** What a function makes of the time now, looked at each second: queries do not run anew because time passes. */
export const useTime = <T extends string | number>(of: (now: number) => T): T =>
  useSyncExternalStore(onTick, () => of(timeNow()));

/** The time now, to the second. */
export const useNow = (): number => useTime((now) => now);

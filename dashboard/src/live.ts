/** Live reads and verbs of the control plane, with the session's key. */
import { useMutation } from "convex/react";
import type { OptimisticUpdate } from "convex/browser";
import type { FunctionArgs, FunctionReference, FunctionReturnType, OptionalRestArgs } from "convex/server";
import { useCallback, useEffect, useMemo, useState } from "react";
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

/** The time now, again after each `everyMs`: queries do not run anew because time passes. */
export function useNow(everyMs = 1_000): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

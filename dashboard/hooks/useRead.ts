import { useQueries } from "convex/react";
import {
  getFunctionName,
  type FunctionArgs,
  type FunctionReference,
  type FunctionReturnType,
} from "convex/server";
import { useMemo } from "react";

export type Read<T> = {
  /** What the query last gave; undefined while it is not known, or failed. */
  data: T | undefined;
  error: Error | null;
};

/**
 * A subscription to a query, whose errors are given and not thrown.
 *
 * @param args - plain JSON; null: not now
 */
export function useRead<Q extends FunctionReference<"query">>(
  query: Q,
  args: FunctionArgs<Q> | null,
): Read<FunctionReturnType<Q>> {
  const name = getFunctionName(query);
  const text = JSON.stringify(args);
  const queries = useMemo(
    () => (args === null ? {} : { it: { query, args } }),
    // eslint-disable-next-line react-hooks/exhaustive-deps -- they are what their texts say
    [name, text],
  );
  const { it } = useQueries(queries) as { it?: FunctionReturnType<Q> | Error };
  return it instanceof Error ? { data: undefined, error: it } : { data: it, error: null };
}

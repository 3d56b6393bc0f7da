/**
 * Where in the dashboard somebody is: behind the `#` of the address, so that the same files work on any server, in any folder,
 * and a link to a task is a link to the page itself.
 */
import { useCallback, useSyncExternalStore } from "react";

export type Route = { path: readonly string[]; query: URLSearchParams };

/** Read `#/tasks/ID?status=failed`. What is not one of ours is the overview. */
export function parseRoute(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  return { path: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a page; what is empty or null is left out of its query. */
export function hrefOf(
  path: readonly string[],
  query: Record<string, string | null | undefined> = {},
): string {
  const given = Object.entries(query).filter((pair): pair is [string, string] => !!pair[1]);
  const search = new URLSearchParams(given).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${search === "" ? "" : `?${search}`}`;
}

export const taskHref = (task: string): string => hrefOf(["tasks", task]);
export const compareHref = (task: string, other: string): string => hrefOf(["tasks", task, "compare", other]);

function subscribe(changed: () => void): () => void {
  addEventListener("hashchange", changed);
  return () => removeEventListener("hashchange", changed);
}

export function useRoute(): Route {
  return parseRoute(useSyncExternalStore(subscribe, () => location.hash));
}

/** Change the query of this page, in place: the way back leads to the page before. */
export function useSetQuery(): (change: Record<string, string | null>) => void {
  return useCallback((change) => {
    const { path, query } = parseRoute(location.hash);
    history.replaceState(null, "", hrefOf(path, { ...Object.fromEntries(query), ...change }));
    dispatchEvent(new HashChangeEvent("hashchange"));
  }, []);
}

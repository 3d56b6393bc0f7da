import { useMutation } from "convex/react";
import { useEffect, useState } from "react";
import { api } from "../../convex/_generated/api";
import { TAIL_CHUNKS } from "../../convex/constants";
import type { RunState, TaskStatus } from "../../convex/validators";
import { appendChunks, textOf, type Segment } from "./stream";
import { useRead } from "./useRead";

const WATCH_MS = 60_000; // how long a watch lasts
const WATCH_AGAIN_MS = 45_000; // renewed with time to spare

export type Stream = {
  /** What the model and the agent have written so far. */
  text: string;
  /** All of it, with reasoning and log lines, by call and attempt. */
  segments: readonly Segment[];
  /** Of the run; null until it is known. */
  state: RunState | null;
  /** Everything that was written before this page was opened has come. */
  loaded: boolean;
  error: Error | null;
};

type Pages = { run: string | null; sealed: readonly Segment[]; after: number };

/**
 * The text of a task's run as it is written. Full pages are read once and kept; only the page that still grows is subscribed
 * to, so a long text is never sent again. While the task runs and this page is visible, its worker is asked to send at once.
 *
 * @param of - a task as `useTask` gives it, or one of its earlier runs; null: nothing yet
 * @param key - of a role that may look: viewer, submit or operator
 */
export function useStream(
  of: { task: string; run: string | null; status?: TaskStatus } | null,
  key: string,
): Stream {
  const run = of?.run ?? null;
  const [kept, setKept] = useState<Pages>({ run, sealed: [], after: -1 });
  const pages = kept.run === run ? kept : { run, sealed: [], after: -1 };
  const { after } = pages;
  const { data: page, error } = useRead(api.runs.tail, run === null ? null : { key, run, after });
  const fresh = page?.chunks.filter((chunk) => chunk.run === run && chunk.seq > after) ?? [];
  const segments = appendChunks(pages.sealed, fresh);
  const last = fresh.at(-1);
  if (last !== undefined && fresh.length >= TAIL_CHUNKS) setKept({ run, sealed: segments, after: last.seq });

  useWatch(of?.status === "running" ? of.task : null, run, key);
  return {
    text: textOf(segments),
    segments,
    state: page?.state ?? null,
    loaded: page !== undefined && page.chunks.length < TAIL_CHUNKS,
    error,
  };
}

/** Say that somebody looks at a task's live run, and go on saying so while this page is visible. */
function useWatch(task: string | null, run: string | null, key: string): void {
  const watch = useMutation(api.runs.watch);
  useEffect(() => {
    if (task === null || run === null) return;
    let until = 0;
    const look = () => {
      if (document.visibilityState !== "visible" || Date.now() < until) return;
      until = Date.now() + WATCH_AGAIN_MS;
      void watch({ key, task, forMs: WATCH_MS }).catch(() => {}); // the text comes all the same, only later
    };
    look();
    const timer = setInterval(look, WATCH_AGAIN_MS / 9);
    document.addEventListener("visibilitychange", look);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, [watch, task, run, key]);
}

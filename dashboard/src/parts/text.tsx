/** Text from elsewhere: models, tools, agents, submitters. It is shown, never done. */
import { memo, useLayoutEffect, useRef, useState } from "react";
import type { Segment } from "../../hooks";
import { pretty, visible, count } from "../text";

const SHOWN_CHARS = 40_000; // of a text; the browser would lay out the rest with every token
const CODE_CHARS = 10_000; // of an input or output, until the rest is asked for
const SLICE_CHARS = 4_096; // what is laid out again when a text grows
const STICK_PX = 40; // so near to its end a pane follows the text

/** The end of the segments, at most `most` characters, and how many are left out before it. Pure. */
export function endOf(
  segments: readonly Segment[],
  most: number,
): { shown: readonly Segment[]; left: number } {
  let room = most;
  for (let at = segments.length - 1; at >= 0; at--) {
    const { text } = segments[at]!;
    if (text.length > room) {
      const before = segments.slice(0, at).reduce((sum, segment) => sum + segment.text.length, 0);
      // In whole slices: else every slice would be another one with each token.
      const from = Math.ceil((text.length - room) / SLICE_CHARS) * SLICE_CHARS;
      const start = /[\udc00-\udfff]/.test(text.charAt(from)) ? from + 1 : from;
      const cut = { ...segments[at]!, text: text.slice(start) };
      return { shown: [cut, ...segments.slice(at + 1)], left: before + start };
    }
    room -= text.length;
  }
  return { shown: segments, left: 0 };
}

/** A text in pieces of a fixed size, of which only the last grows; no character is cut in two. Pure. */
export function slicesOf(text: string): string[] {
  const slices: string[] = [];
  for (let at = 0; at < text.length;) {
    let end = at + SLICE_CHARS;
    if (/[\ud800-\udbff]/.test(text.charAt(end - 1))) end += 1;
    slices.push(text.slice(at, end));
    at = end;
  }
  return slices;
}

const Slice = memo(function Slice({ text }: { text: string }) {
  return <span>{visible(text)}</span>;
});

const LABELS = { reasoning: "Reasoning", log: "Log" } as const;

const Piece = memo(function Piece({ kind, text }: Pick<Segment, "kind" | "text">) {
  const slices = slicesOf(text).map((slice, at) => <Slice key={at} text={slice} />);
  if (kind === "text") return slices;
  return (
    <span className={`aside-text ${kind}`}>
      <b>{LABELS[kind]}</b> {slices}
    </span>
  );
});

/** What a run has written, following its end unless somebody has scrolled up. */
export function StreamText({
  segments,
  live,
  label,
}: {
  segments: readonly Segment[];
  live: boolean;
  label: string;
}) {
  const pane = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const [most, setMost] = useState(SHOWN_CHARS);
  const { shown, left } = endOf(segments, most);
  useLayoutEffect(() => {
    const { current } = pane;
    if (current !== null && follows.current && live) current.scrollTop = current.scrollHeight;
  }, [segments, live]);
  return (
    <div
      ref={pane}
      className={live ? "stream live" : "stream"}
      role="region"
      aria-label={label}
      tabIndex={0}
      onScroll={({ currentTarget: at }) =>
        (follows.current = at.scrollHeight - at.scrollTop - at.clientHeight < STICK_PX)
      }
    >
      {left === 0 ? null : (
        <button className="button quiet" onClick={() => setMost(most + 4 * SHOWN_CHARS)}>
          Show more of the {count(left)} characters before this
        </button>
      )}
      {shown.map((segment, at) => (
        <Piece key={at} kind={segment.kind} text={segment.text} />
      ))}
    </div>
  );
}

/** A JSON text, or another one that is not to be broken. */
export function Code({ text, label }: { text: string; label: string }) {
  const [whole, setWhole] = useState<string | null>(null); // the text that was asked for in full
  const shown = visible(pretty(text));
  const cut = whole === text ? shown : shown.slice(0, CODE_CHARS);
  return (
    <pre className="code" role="region" aria-label={label} tabIndex={0}>
      {cut}
      {cut.length === shown.length ? null : (
        <button className="button quiet" onClick={() => setWhole(text)}>
          Show all {count(shown.length)} characters
        </button>
      )}
    </pre>
  );
}

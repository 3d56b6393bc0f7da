/** Text from elsewhere: models, tools, agents, submitters. It is shown, never done. */
import { memo, useLayoutEffect, useRef, useState } from "react";
import type { Segment } from "../../hooks";
import { pretty, visible, count } from "../text";

const TAIL_CHARS = 16_000; // of a text whose end is followed; the browser lays all of them out with every token
const HELD_CHARS = 40_000; // of one that somebody has scrolled up in, until more is asked for
const MORE_CHARS = 160_000;
const CODE_CHARS = 10_000; // of an input or output, until the rest is asked for
const SLICE_CHARS = 512; // how finely a text is cut
const STICK_PX = 40; // so near to its end a pane follows the text

/** Where a slice of a text begins: neither a character nor the end of a line is cut in two. */
const edgeOf = (text: string, slice: number): number => {
  const at = slice * SLICE_CHARS;
  return /[\r\ud800-\udbff]/.test(text.charAt(at - 1)) ? at + 1 : at;
};

/** A segment that is shown, whole or from one of its slices on. `index`: its place among all segments. */
export type ShownSegment = { index: number; firstSlice: number; segment: Segment };

/** The end of the segments, at most `most` characters, and how many are left out before it. Pure. */
export function endOf(
  segments: readonly Segment[],
  most: number,
): { shown: readonly ShownSegment[]; left: number } {
  const shown: ShownSegment[] = [];
  let room = most;
  for (let index = segments.length - 1; index >= 0; index--) {
    const segment = segments[index]!;
    const { length } = segment.text;
    if (length > room) {
      // In whole slices: else every slice would be another one with each token.
      const firstSlice = Math.ceil((length - room) / SLICE_CHARS);
      const cut = Math.min(length, edgeOf(segment.text, firstSlice));
      if (cut < length) shown.push({ index, firstSlice, segment });
      return { shown: shown.reverse(), left: lengthOf(segments.slice(0, index)) + cut };
    }
    room -= length;
    shown.push({ index, firstSlice: 0, segment });
  }
  return { shown: shown.reverse(), left: 0 };
}

const lengthOf = (segments: readonly Segment[]): number =>
  segments.reduce((sum, { text }) => sum + text.length, 0);

/** A text in pieces of a fixed size, of which only the last grows; no character is cut in two. Pure. */
export function slicesOf(text: string, firstSlice = 0): string[] {
  const slices: string[] = [];
  for (let slice = firstSlice, at = edgeOf(text, slice); at < text.length; slice++) {
    const end = edgeOf(text, slice + 1);
    slices.push(text.slice(at, end));
    at = end;
  }
  return slices;
}

const grown = new Set<HTMLElement>();

/** Scroll to the end, all panes together once they have grown: a look at the layout between two of them would cost a layout. */
function scrollToEnd(pane: HTMLElement): void {
  if (grown.size === 0)
    queueMicrotask(() => {
      for (const at of grown) at.scrollTop = at.scrollHeight;
      grown.clear();
    });
  grown.add(pane);
}

/** One text node. What is added to its end is added in place, so that the browser shapes only that. */
const Slice = memo(function Slice({ text }: { text: string }) {
  const at = useRef<HTMLSpanElement>(null);
  useLayoutEffect(() => {
    const span = at.current!;
    const next = visible(text);
    const node = span.firstChild;
    // A translation, say, may have put something else there.
    const isOurs = node instanceof Text && span.lastChild === node && next.startsWith(node.data);
    if (isOurs) node.appendData(next.slice(node.length));
    else span.textContent = next;
  }, [text]);
  return <span ref={at} />;
});

const LABELS = { reasoning: "Reasoning", log: "Log" } as const;

const Piece = memo(function Piece({ kind, text, firstSlice }: PieceProps) {
  const slices = slicesOf(text, firstSlice).map((slice, at) => <Slice key={firstSlice + at} text={slice} />);
  if (kind === "text") return slices;
  return (
    <span className={`aside-text ${kind}`}>
      <b>{LABELS[kind]}</b> {slices}
    </span>
  );
});
type PieceProps = Pick<Segment, "kind" | "text"> & { firstSlice: number };

/**
 * What a run has written, following its end unless somebody has scrolled up: what is looked at then stays until they are back
 * at the end.
 *
 * @param props.tail - how many characters of it are there while its end is followed
 */
export function StreamText({
  segments,
  live,
  label,
  tail = TAIL_CHARS,
}: {
  segments: readonly Segment[];
  live: boolean;
  label: string;
  tail?: number;
}) {
  const pane = useRef<HTMLDivElement>(null);
  const [held, setHeld] = useState<number | null>(null); // how many are left out since the end was left; null: it is followed
  const [most, setMost] = useState(HELD_CHARS);
  const follows = live && held === null;
  const { shown, left } = endOf(
    segments,
    held === null ? tail : Math.min(Math.max(lengthOf(segments) - held, tail), most),
  );
  useLayoutEffect(() => {
    if (follows && pane.current !== null) scrollToEnd(pane.current);
  }, [segments, follows]);
  return (
    <div
      ref={pane}
      className={live ? "stream live" : "stream"}
      role="region"
      aria-label={label}
      tabIndex={0}
      onScroll={({ currentTarget: at }) => {
        const isAtEnd = at.scrollHeight - at.scrollTop - at.clientHeight < STICK_PX;
        setHeld((now) => (isAtEnd && live ? null : (now ?? left)));
      }}
    >
      {left === 0 ? null : (
        <button
          className="button quiet"
          onClick={() => {
            setHeld(Math.max(0, left - MORE_CHARS));
            setMost(most + MORE_CHARS);
          }}
        >
          Show more of the {count(left)} characters before this
        </button>
      )}
      {shown.map(({ index, firstSlice, segment: { kind, text } }) => (
        <Piece key={index} kind={kind} text={text} firstSlice={firstSlice} />
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

/** What stands where data are not: loading, nothing, an error; and the pieces that pages share. */
import { Component, type ReactNode } from "react";
import type { RunState, TaskStatus } from "../../../convex/validators";
import { useTime, type Live } from "../live";
import { messageOf, span, stamp, visible } from "../text";

export function Loading({ rows = 3 }: { rows?: number }) {
  return (
    <div role="status" className="loading">
      <span className="unseen">Loading</span>
      {Array.from({ length: rows }, (_, at) => (
        <div key={at} className="bone" aria-hidden="true" />
      ))}
    </div>
  );
}

export const Empty = ({ children }: { children: ReactNode }) => <p className="empty">{children}</p>;

export function Problem({ error, hint }: { error: unknown; hint?: ReactNode }) {
  return (
    <div role="alert" className="problem">
      <p>{visible(messageOf(error))}</p>
      {hint === undefined ? null : <p>{hint}</p>}
    </div>
  );
}

/** A live read: its state of loading, its error, or what it gave. */
export function Shown<T>({
  live,
  rows,
  children,
}: {
  live: Live<T>;
  rows?: number;
  children: (data: T) => ReactNode;
}) {
  if (live.error !== null) return <Problem error={live.error} />;
  if (live.data === undefined) return <Loading {...(rows === undefined ? {} : { rows })} />;
  return children(live.data);
}

/** Catches what a page throws, so that the frame around it stays. */
export class Fence extends Component<{ children: ReactNode }, { error: unknown }> {
  override state: { error: unknown } = { error: null };

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  override render() {
    if (this.state.error === null) return this.props.children;
    return (
      <>
        <Problem error={this.state.error} hint="This part of the page could not be shown." />
        <button className="button" onClick={() => this.setState({ error: null })}>
          Try again
        </button>
      </>
    );
  }
}

export const words = (name: string): string => name.replaceAll("_", " ");

const TONES: Partial<Record<TaskStatus | RunState, string>> = {
  ...{ running: "active", assigned: "active", succeeded: "good", failed: "bad", lost: "bad" },
  ...{
    waiting_event: "waits",
    waiting_approval: "waits",
    sleeping: "waits",
    waiting: "waits",
    delayed: "waits",
    paused: "waits",
  },
};

/** A task's status or a run's state: told by its word, and by a colour beside it. */
export const Status = ({ of }: { of: TaskStatus | RunState }) => (
  <span className={`badge ${TONES[of] ?? "still"}`}>{words(of)}</span>
);

export const Tag = ({ tone = "still", children }: { tone?: string; children: ReactNode }) => (
  <span className={`badge ${tone}`}>{children}</span>
);

/** How long ago something was; it goes on counting. */
export function Ago({ at }: { at: number }) {
  const age = useTime((now) => span(now - at));
  return (
    <time dateTime={new Date(at).toISOString()} title={stamp(at)}>
      {age} ago
    </time>
  );
}

/** How long something has lasted, or took. */
export function Lasted({ from, to }: { from: number; to: number | null }) {
  return to === null ? <Counting from={from} /> : span(to - from);
}

function Counting({ from }: { from: number }) {
  return useTime((now) => span(now - from));
}

export const Panel = ({
  title,
  aside,
  children,
}: {
  title: string;
  aside?: ReactNode;
  children: ReactNode;
}) => (
  <section className="panel" aria-label={title}>
    <header>
      <h2>{title}</h2>
      {aside}
    </header>
    <Fence>{children}</Fence>
  </section>
);

export function Facts({ of }: { of: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {of.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** A table that scrolls by itself on a narrow screen, also by keyboard. */
export function Table({ label, head, children }: { label: string; head: ReactNode[]; children: ReactNode }) {
  return (
    <div className="scroll" role="region" aria-label={label} tabIndex={0}>
      <table>
        <thead>
          <tr>
            {head.map((name, at) => (
              <th key={at} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

/** What a task was forked from and what was forked from it, each with a way to see both side by side. */
import { api } from "../../../convex/_generated/api";
import type { ForkLinks } from "../../../convex/dashboard.validators";
import { useLive } from "../live";
import { compareHref, taskHref } from "../route";
import { visible } from "../text";
import { Panel, Shown, Status, Tag } from "./states";

/** Nothing shows of a task that is no fork and has none. */
export function Forks({ task }: { task: string }) {
  const live = useLive(api.dashboard.forks, { task });
  const { data } = live;
  if (data === undefined ? live.error === null : data.of === null && data.forks.length === 0) return null;
  return (
    <Panel title="Forks">
      <Shown live={live} rows={1}>
        {({ of, forks, more }) => (
          <>
            {of === null ? null : <Origin task={task} of={of} />}
            {forks.length === 0 ? null : (
              <>
                <h3>Forked from it</h3>
                <ul className="plain">
                  {forks.map(({ task: fork, status, at }) => (
                    <li key={fork} className="moment-head">
                      <a className="mono" href={taskHref(fork)}>
                        {fork.slice(0, 12)}
                      </a>
                      <Status of={status} /> <span className="quiet-text">{fromStep(at)}</span>
                      <a href={compareHref(task, fork)}>Compare</a>
                    </li>
                  ))}
                </ul>
                {more ? <p className="quiet-text">The newest are shown.</p> : null}
              </>
            )}
          </>
        )}
      </Shown>
    </Panel>
  );
}

const fromStep = (at: string | null): string => (at === null ? "from its start" : `from ${visible(at)} on`);

function Origin({ task, of }: { task: string; of: NonNullable<ForkLinks["of"]> }) {
  const { task: origin, status, at, effects, changed } = of;
  return (
    <>
      <p className="moment-head">
        <span>
          It is a fork of{" "}
          <a className="mono" href={taskHref(origin)}>
            {origin.slice(0, 12)}
          </a>
        </span>
        {status === null ? <Tag>gone</Tag> : <Status of={status} />}
        <span className="quiet-text">{fromStep(at)}</span>
        {status === null ? null : <a href={compareHref(origin, task)}>Compare</a>}
      </p>
      <p className="quiet-text">
        {changed.length === 0 ? "Nothing was changed for it" : `Changed for it: ${changed.join(", ")}`}.{" "}
        {effects === "forbid"
          ? "It has no effects outside: recorded results stand in for them."
          : "It may have effects outside."}
      </p>
    </>
  );
}

import { useState } from "react";
import { api } from "../../../convex/_generated/api";
import type { TaskLinks } from "../../../convex/group.validators";
import type { EventView, TaskView } from "../../../convex/validators";
import { useStream } from "../../hooks";
import { Approvals } from "../parts/approvals";
import { Cost } from "../parts/cost";
import { Forks } from "../parts/forks";
import { useAsked, useLive, useVerb } from "../live";
import { cancelled, hasEnded, paused, resumed, retried } from "../optimistic";
import {
  Ago,
  Empty,
  Facts,
  Lasted,
  Loading,
  Panel,
  Problem,
  Shown,
  Status,
  Tag,
  words,
} from "../parts/states";
import { Code, StreamText } from "../parts/text";
import { Timeline } from "../parts/timeline";
import { Why } from "../parts/why";
import { hrefOf, taskHref } from "../route";
import { maySubmit, useSession } from "../session";
import { count, span, stamp, visible } from "../text";

const CLOCKS_MS = 5_000; // how old what is said of a silent run may be

export function TaskPage({ task: id }: { task: string }) {
  const { data: task, error } = useLive(api.tasks.get, { task: id });
  if (error !== null) return <Problem error={error} />;
  if (task === undefined) return <Loading rows={6} />;
  if (task === null) return <Gone id={id} />;
  return (
    <>
      <div className="heading">
        <h1>
          <span className="quiet-text">Task of</span> {visible(task.agent)}
        </h1>
        <Status of={task.status} />
      </div>
      <p className="mono quiet-text">{task.task}</p>
      <Actions task={task} />
      <Summary task={task} />
      <Approvals task={task.task} />
      {hasEnded(task.status) || task.status === "running" ? null : (
        <Panel title="Why it waits">
          <Why task={task.task} />
        </Panel>
      )}
      {task.error === null || task.status === "succeeded" ? null : <Failure task={task} />}
      {task.run === null ? null : <Current task={task} />}
      <Timeline task={task} />
      <div className="columns">
        <Texts task={task} />
        <Links task={task.task} />
        <Forks task={task.task} />
      </div>
      <History task={task.task} />
    </>
  );
}

function Gone({ id }: { id: string }) {
  return (
    <>
      <h1>This task is gone</h1>
      <p>
        There is no task <code>{visible(id)}</code>. What has ended is deleted after its time, 30 days unless
        the deployment says otherwise, and archived before if that is set up.{" "}
        <a href={hrefOf(["tasks"])}>Go to the tasks</a>
      </p>
    </>
  );
}

function Actions({ task }: { task: TaskView }) {
  const { caller } = useSession();
  const cancel = useVerb(api.tasks.cancel, cancelled);
  const retry = useVerb(api.tasks.retry, retried);
  const pause = useVerb(api.tasks.pause, paused);
  const resume = useVerb(api.tasks.resume, resumed);
  const [asked, setAsked] = useState(false);
  if (!maySubmit(caller)) return null;
  const { status } = task;
  const args = { task: task.task };
  const stop = async () => {
    setAsked(true);
    if ((await cancel(args)) === null) setAsked(false);
  };
  return (
    <div className="actions" role="group" aria-label="What to do with the task">
      {hasEnded(status) ? null : (
        <button
          className="button danger"
          disabled={asked && status === "running"}
          onClick={() => void stop()}
        >
          {asked && status === "running" ? "Cancelling…" : "Cancel"}
        </button>
      )}
      {hasEnded(status) && status !== "succeeded" ? (
        <button className="button" onClick={() => (setAsked(false), void retry(args))}>
          Retry
        </button>
      ) : null}
      {status === "paused" ? (
        <button className="button" onClick={() => void resume(args)}>
          Resume
        </button>
      ) : hasEnded(status) ? null : (
        <button className="button" onClick={() => void pause(args)}>
          Pause
        </button>
      )}
    </div>
  );
}

function Summary({ task }: { task: TaskView }) {
  const { usage } = task;
  const tokens = (value: number | null) => (value === null ? "?" : count(value));
  return (
    <Facts
      of={[
        ["Queue", visible(task.queue)],
        ["Attempt", `${task.attempt} of ${task.maxAttempts}`],
        ["Priority", task.priority],
        ["Submitted", <Ago at={task.submittedAt} />],
        ["Waited", <Lasted from={task.submittedAt} to={task.startedAt ?? task.endedAt} />],
        [
          "Since its start",
          task.startedAt === null ? "not begun" : <Lasted from={task.startedAt} to={task.endedAt} />,
        ],
        ["Model", usage.model === null ? "none yet" : visible(usage.model)],
        [
          "Tokens",
          usage.calls === 0
            ? "none yet"
            : `${tokens(usage.inputTokens)} in, ${tokens(usage.outputTokens)} out`,
        ],
        ["Cost", <Cost task={task} />],
      ]}
    />
  );
}

function Failure({ task }: { task: TaskView }) {
  const causes = useLive(api.tasks.causes, { task: task.task });
  return (
    <Panel title="What went wrong">
      <p className="bad-text">
        <strong>{visible(task.error!.code)}</strong>{" "}
        <span className="long">{visible(task.error!.message)}</span>
      </p>
      <Shown live={causes} rows={1}>
        {(found) =>
          found.length < 1 ? null : (
            <ul className="plain">
              {found.map(({ code, count, message, lastAttempt, lastAt }) => (
                <li key={code}>
                  <strong>{visible(code)}</strong> in {count} {count === 1 ? "attempt" : "attempts"}, the last
                  of them {lastAttempt}
                  {lastAt === null ? null : <>, {stamp(lastAt)}</>}:{" "}
                  <span className="long">{visible(message)}</span>
                </li>
              ))}
            </ul>
          )
        }
      </Shown>
    </Panel>
  );
}

/** The live run, or the last one: its progress and its text. */
function Current({ task }: { task: TaskView }) {
  const { key } = useSession();
  const stream = useStream(task, key);
  const live = task.status === "running";
  const said = useLive(api.tasks.state, live ? { task: task.task, clocks: false } : null);
  const progress = said.data?.progress ?? null;
  return (
    <Panel
      title={live ? "What it writes" : "What it wrote"}
      aside={
        live ? <Tag tone="active">live</Tag> : <span className="quiet-text">attempt {task.attempt}</span>
      }
    >
      {progress === null ? null : (
        <p>
          {visible(progress.message)}{" "}
          {progress.total === null ? (
            count(progress.done)
          ) : (
            <progress max={progress.total} value={progress.done} aria-label="Progress" />
          )}
        </p>
      )}
      {live ? <Silence task={task.task} /> : null}
      {stream.error === null ? null : <Problem error={stream.error} />}
      {stream.segments.length === 0 ? (
        stream.loaded ? (
          <Empty>{live ? "Nothing yet." : "It wrote nothing."}</Empty>
        ) : stream.error === null ? (
          <Loading rows={2} />
        ) : null
      ) : (
        <StreamText segments={stream.segments} live={live} label="What the run writes" />
      )}
    </Panel>
  );
}

/** How long a live run has said nothing, asked now and then: its worker's heartbeat changes with each sync. */
function Silence({ task }: { task: string }) {
  const clocks = useAsked(api.tasks.state, { task }, CLOCKS_MS, task)?.data.clocks;
  if (clocks?.silentMs == null) return null;
  return (
    <p className="quiet-text">
      Silent for {span(clocks.silentMs)}
      {clocks.on === null ? null : <>, in {clocks.name === null ? clocks.on : visible(clocks.name)}</>}
    </p>
  );
}

function Texts({ task }: { task: TaskView }) {
  return (
    <>
      <Panel title="Input">
        <Part task={task.task} of="input" />
      </Panel>
      <Panel title="Output">
        {task.output !== null ? (
          <Code text={task.output} label="Output" />
        ) : task.largeOutput ? (
          <Part task={task.task} of="output" />
        ) : (
          <Empty>{hasEnded(task.status) ? "It has none." : "Not yet."}</Empty>
        )}
      </Panel>
    </>
  );
}

/** A text that may be kept in parts: the first is shown, the others when they are asked for. */
function Part({ task, of }: { task: string; of: "input" | "output" }) {
  const [index, setIndex] = useState(0);
  const part = useLive(api.tasks.part, { task, of, index });
  return (
    <Shown live={part} rows={1}>
      {(found) =>
        found === null ? (
          <Empty>There is none.</Empty>
        ) : (
          <>
            <Code text={found.text} label={of === "input" ? "Input" : "Output"} />
            {found.parts < 2 ? null : (
              <div className="actions">
                <button className="button" disabled={index === 0} onClick={() => setIndex(index - 1)}>
                  Part before
                </button>
                <span>
                  part {index + 1} of {found.parts}
                </span>
                <button
                  className="button"
                  disabled={index + 1 >= found.parts}
                  onClick={() => setIndex(index + 1)}
                >
                  Next part
                </button>
              </div>
            )}
          </>
        )
      }
    </Shown>
  );
}

function Links({ task }: { task: string }) {
  const links = useLive(api.tasks.links, { task });
  const { data } = links;
  if (data !== undefined && isAlone(data)) return null;
  return (
    <Panel title="Hangs together with">
      <Shown live={links} rows={1}>
        {({ parent, after, dependents, children, more }) => (
          <>
            {parent === null ? null : (
              <p>
                Submitted by <a href={taskHref(parent)}>the run of another task</a>
              </p>
            )}
            <TaskLinkList title="Comes after" of={after} />
            <TaskLinkList title="Comes before" of={dependents} />
            <TaskLinkList title="Children" of={children} />
            {more ? <p className="quiet-text">There are more than are shown.</p> : null}
          </>
        )}
      </Shown>
    </Panel>
  );
}

const isAlone = ({ parent, after, dependents, children }: TaskLinks) =>
  parent === null && after.length + dependents.length + children.length === 0;

function TaskLinkList({ title, of }: { title: string; of: TaskLinks["children"] }) {
  if (of.length === 0) return null;
  return (
    <>
      <h3>{title}</h3>
      <ul className="plain">
        {of.map(({ task, agent, status }) => (
          <li key={task}>
            <a href={taskHref(task)}>{visible(agent)}</a> <Status of={status} />
          </li>
        ))}
      </ul>
    </>
  );
}

function History({ task }: { task: string }) {
  const history = useLive(api.tasks.history, { task });
  return (
    <Panel title="History">
      <Shown live={history}>
        {({ events, cursor }) => (
          <ol className="plain events">
            {events.map((event, at) => (
              <li key={at}>
                <time className="quiet-text" dateTime={new Date(event.at).toISOString()}>
                  {stamp(event.at)}
                </time>{" "}
                {words(event.type)} <span className="quiet-text long">{dataOf(event)}</span>
              </li>
            ))}
            {cursor === null ? null : (
              <li className="quiet-text">and more: signalbox tasks history {task}</li>
            )}
          </ol>
        )}
      </Shown>
    </Panel>
  );
}

const dataOf = ({ data }: EventView): string =>
  Object.entries(data)
    .map(([name, value]) => visible(`${name} ${String(value)}`))
    .join(", ");

import { useLive } from "../live";
import { api } from "../../../convex/_generated/api";
import type { TaskRow } from "../../../convex/dashboard.validators";
import { useStream, useTask } from "../../hooks";
import { Empty, Lasted, Shown, Status } from "../parts/states";
import { StreamText } from "../parts/text";
import { hrefOf, taskHref } from "../route";
import { useSession } from "../session";
import { visible } from "../text";

const PANES = 20; // streams side by side
const PANE_CHARS = 2_000; // of each while its end is followed: some pages of a pane, and what twenty of them can be laid out in a frame

/** What runs now, token by token. */
export function LivePage() {
  const running = useLive(api.dashboard.tasks, {
    filter: { status: "running" },
    paginationOpts: { numItems: PANES, cursor: null },
  });
  return (
    <>
      <h1>Live</h1>
      <Shown live={running}>
        {({ page, isDone }) =>
          page.length === 0 ? (
            <Empty>
              Nothing runs now. What comes shows here by itself.{" "}
              <a href={hrefOf(["tasks"])}>Go to the tasks</a>
            </Empty>
          ) : (
            <>
              <div className="panes">
                {inOrder(page).map((row) => (
                  <Pane key={row.task} row={row} />
                ))}
              </div>
              {isDone ? null : (
                <p>
                  More than {PANES} run.{" "}
                  <a href={hrefOf(["tasks"], { status: "running" })}>See all of them</a>
                </p>
              )}
            </>
          )
        }
      </Shown>
    </>
  );
}

/** By when they began, so that a pane keeps its place while its task changes. */
const inOrder = (rows: readonly TaskRow[]): TaskRow[] =>
  [...rows].sort((a, b) => (a.startedAt ?? 0) - (b.startedAt ?? 0) || (a.task < b.task ? -1 : 1));

function Pane({ row }: { row: TaskRow }) {
  const { key } = useSession();
  const { task } = useTask(row.task, key);
  const { segments } = useStream(task ?? null, key);
  return (
    <article className="panel pane" aria-label={`${row.agent}, live`}>
      <header>
        <a href={taskHref(row.task)}>{visible(row.agent)}</a>
        <Status of={task?.status ?? row.status} />
        <span className="quiet-text">
          {row.startedAt === null ? null : <Lasted from={row.startedAt} to={row.endedAt} />}
        </span>
      </header>
      {segments.length === 0 ? (
        <Empty>Nothing yet.</Empty>
      ) : (
        <StreamText segments={segments} live tail={PANE_CHARS} label={`What ${row.agent} writes`} />
      )}
    </article>
  );
}

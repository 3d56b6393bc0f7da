import { usePaginatedQuery } from "convex/react";
import { memo, useCallback, useEffect, useRef, useState } from "react";
import { api } from "../../../convex/_generated/api";
import { DASHBOARD_PAGE } from "../../../convex/constants";
import type { ListFilter, TaskRow } from "../../../convex/dashboard.validators";
import type { TaskStatus } from "../../../convex/validators";
import { useLive, useVerb } from "../live";
import { cancelled, hasEnded, retried } from "../optimistic";
import { BulkVerb } from "../parts/bulk";
import { useSay } from "../parts/say";
import { Ago, Empty, Fence, Loading, Status, Table, Tag, words } from "../parts/states";
import { SubmitDialog } from "../parts/submit";
import { WhyDialog } from "../parts/why";
import { taskHref, useRoute, useSetQuery } from "../route";
import { maySubmit, useSession } from "../session";
import { visible } from "../text";

// Half of what may be read for a page: a page that grows at its head is cut in two before it is twice as long.
const PAGE = DASHBOARD_PAGE / 2;

export const STATUSES: readonly TaskStatus[] = [
  ...([
    "running",
    "pending",
    "delayed",
    "waiting",
    "waiting_event",
    "waiting_approval",
    "sleeping",
    "paused",
  ] as const),
  ...(["succeeded", "failed", "cancelled", "skipped"] as const),
];

/** The filter that an address names; what is not a status is none. */
export function filterOf(query: URLSearchParams): ListFilter {
  const status = STATUSES.find((known) => known === query.get("status"));
  const given = (name: "tenant" | "queue" | "agent" | "code") => {
    const value = query.get(name);
    return value ? { [name]: value } : {};
  };
  return {
    ...(status === undefined ? {} : { status }),
    ...{ ...given("tenant"), ...given("queue"), ...given("agent"), ...given("code") },
  };
}

export function TasksPage() {
  const { query } = useRoute();
  const { caller } = useSession();
  const filter = filterOf(query);
  return (
    <>
      <div className="heading">
        <h1>Tasks</h1>
        {maySubmit(caller) ? <SubmitDialog /> : null}
      </div>
      <Filters filter={filter} />
      <Fence key={JSON.stringify(filter)}>
        <TaskList filter={filter} />
      </Fence>
    </>
  );
}

function Filters({ filter }: { filter: ListFilter }) {
  const setQuery = useSetQuery();
  const agents = useLive(api.agents.list, {});
  return (
    <form
      className="filters"
      role="search"
      aria-label="Filter tasks"
      onSubmit={(event) => event.preventDefault()}
    >
      <label>
        Status
        <select value={filter.status ?? ""} onChange={({ target }) => setQuery({ status: target.value })}>
          <option value="">all</option>
          {STATUSES.map((status) => (
            <option key={status} value={status}>
              {words(status)}
            </option>
          ))}
        </select>
      </label>
      {(["agent", "queue", "code", "tenant"] as const).map((name) => (
        <TextFilter
          key={name}
          label={name === "code" ? "Error code" : `${name[0]!.toUpperCase()}${name.slice(1)}`}
          value={filter[name] ?? ""}
          options={name === "agent" ? (agents.data?.map((agent) => agent.name) ?? []) : []}
          onChange={(value) => setQuery({ [name]: value })}
        />
      ))}
    </form>
  );
}

const TYPING_MS = 300;

function TextFilter(given: {
  label: string;
  value: string;
  options: string[];
  onChange: (value: string) => void;
}) {
  const { label, value, options, onChange } = given;
  const [typed, setTyped] = useState(value);
  const [seen, setSeen] = useState(value);
  if (seen !== value) {
    setSeen(value); // the address has changed
    setTyped(value);
  }
  useEffect(() => {
    if (typed === value) return;
    const timer = setTimeout(() => onChange(typed.trim()), TYPING_MS);
    return () => clearTimeout(timer);
  }, [typed, value, onChange]);
  const list = `filter-${label}`;
  return (
    <label>
      {label}
      <input
        value={typed}
        onChange={({ target }) => setTyped(target.value)}
        list={options.length > 0 ? list : undefined}
        placeholder={label === "Tenant" ? "default" : "all"}
        spellCheck={false}
      />
      {options.length === 0 ? null : (
        <datalist id={list}>
          {options.map((option) => (
            <option key={option} value={option} />
          ))}
        </datalist>
      )}
    </label>
  );
}

function TaskList({ filter }: { filter: ListFilter }) {
  const { key, caller } = useSession();
  const { results, status, loadMore } = usePaginatedQuery(
    api.dashboard.tasks,
    { key, filter },
    { initialNumItems: PAGE },
  );
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const rows = results;
  const toggle = useCallback(
    (task: string) =>
      setChosen((now) => {
        const next = new Set(now);
        if (!next.delete(task)) next.add(task);
        return next;
      }),
    [],
  );
  if (status === "LoadingFirstPage") return <Loading rows={8} />;
  const may = maySubmit(caller);
  return (
    <>
      {may ? (
        <Verbs
          filter={filter}
          rows={rows.filter((row) => chosen.has(row.task))}
          onDone={() => setChosen(new Set())}
        />
      ) : null}
      {rows.length === 0 && status === "Exhausted" ? (
        <Empty>
          {Object.keys(filter).length === 0
            ? "There are no tasks yet. Submit one here, or with: signalbox submit AGENT --input '…'"
            : "No task is as the filter says."}
        </Empty>
      ) : (
        <Table
          label="Tasks"
          head={[
            ...(may ? [<span className="unseen">Choose</span>] : []),
            "Task",
            "Status",
            "Agent",
            "Queue",
            "Attempt",
            "Submitted",
            "What of it",
          ]}
        >
          {rows.map((row) => (
            <Row key={row.task} row={row} chosen={chosen.has(row.task)} toggle={may ? toggle : null} />
          ))}
        </Table>
      )}
      <More shown={rows.length} status={status} more={() => loadMore(PAGE)} />
    </>
  );
}

const Row = memo(function Row({
  row,
  chosen,
  toggle,
}: {
  row: TaskRow;
  chosen: boolean;
  toggle: ((task: string) => void) | null;
}) {
  const { task, agent, queue, status, attempt, maxAttempts, error, submittedAt, cancelRequested } = row;
  return (
    <tr data-task={task}>
      {toggle === null ? null : (
        <td>
          <input
            type="checkbox"
            checked={chosen}
            onChange={() => toggle(task)}
            aria-label={`Choose ${task}`}
          />
        </td>
      )}
      <td>
        <a href={taskHref(task)} className="mono">
          {task.slice(0, 12)}
        </a>
      </td>
      <td>
        <Status of={status} />{" "}
        {cancelRequested && !hasEnded(status) ? <Tag tone="waits">cancelling</Tag> : null}
      </td>
      <td>{visible(agent)}</td>
      <td>{visible(queue)}</td>
      <td>
        {attempt} <span className="quiet-text">of {maxAttempts}</span>
      </td>
      <td>
        <Ago at={submittedAt} />
      </td>
      <td className="wide">
        {error !== null && status !== "succeeded" ? (
          <span className="line" title={visible(error.message)}>
            {visible(`${error.code}: ${error.message}`)}
          </span>
        ) : hasEnded(status) || status === "running" ? null : (
          <WhyDialog task={task} />
        )}
      </td>
    </tr>
  );
});

/** What can be done with the chosen tasks, or with all that the filter names. */
function Verbs({ filter, rows, onDone }: { filter: ListFilter; rows: TaskRow[]; onDone: () => void }) {
  const cancel = useVerb(api.tasks.cancel, cancelled);
  const retry = useVerb(api.tasks.retry, retried);
  const say = useSay();
  const open = rows.filter((row) => !hasEnded(row.status));
  const over = rows.filter((row) => row.status !== "succeeded" && hasEnded(row.status));
  const each = async (some: TaskRow[], verb: typeof cancel, said: string) => {
    const answers = await Promise.all(some.map(({ task }) => verb({ task })));
    const done = answers.filter((answer) => answer !== null).length;
    if (done > 0) say("done", `${said}: ${done}`);
    onDone();
  };
  return (
    <div className="actions" role="group" aria-label="What to do with tasks">
      {rows.length === 0 ? (
        <>
          <BulkVerb verb="cancel" filter={filter} />
          <BulkVerb verb="retry" filter={filter} />
        </>
      ) : (
        <>
          <button
            className="button danger"
            disabled={open.length === 0}
            onClick={() => void each(open, cancel, "Cancelled")}
          >
            Cancel {open.length} chosen
          </button>
          <button
            className="button"
            disabled={over.length === 0}
            onClick={() => void each(over, retry, "Retried")}
          >
            Retry {over.length} chosen
          </button>
          <button className="button quiet" onClick={onDone}>
            Choose none
          </button>
        </>
      )}
    </div>
  );
}

const MOST_EMPTY = 3;

/** Reads on as the end of the list comes into view; by hand where the last pages had nothing that the filter names. */
function More({ shown, status, more }: { shown: number; status: string; more: () => void }) {
  const end = useRef<HTMLDivElement>(null);
  const before = useRef<number | null>(null); // how many there were when it began to read on
  const empty = useRef(0); // pages in a row that brought nothing
  useEffect(() => {
    if (status === "LoadingMore") before.current ??= shown;
    const at = end.current;
    if (at === null || status !== "CanLoadMore") return;
    if (before.current !== null) empty.current = shown > before.current ? 0 : empty.current + 1;
    before.current = null;
    if (empty.current >= MOST_EMPTY) return;
    // The last entry counts: a busy page is told of several moments at once, the oldest of them first.
    const observer = new IntersectionObserver((moments) => {
      if (moments.at(-1)?.isIntersecting) more();
    });
    observer.observe(at);
    return () => observer.disconnect();
  }, [status, shown, more]);
  return (
    <div ref={end} className="more">
      {status === "LoadingMore" ? <Loading rows={1} /> : null}
      {status === "CanLoadMore" ? (
        <button className="button" onClick={more}>
          Look further back
        </button>
      ) : null}
    </div>
  );
}

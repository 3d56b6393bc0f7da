import { api } from "../../../convex/_generated/api";
import type { Beat, WorkerRow } from "../../../convex/dashboard.validators";
import type { PageProps } from "../frame";
import { useAsked, useLive, useNow, useVerb, type Live } from "../live";
import { drained } from "../optimistic";
import { Confirm } from "../parts/confirm";
import { Empty, Facts, Shown, Table, Tag } from "../parts/states";
import { hrefOf } from "../route";
import { mayOperate, useSession } from "../session";
import { span, visible } from "../text";

const BEATS_MS = 10_000; // how old the clocks that are shown may be
const LATE_MS = { busy: 15_000, idle: 150_000 };

type Worker = WorkerRow & {
  /** How it was when that was last asked, and when it was; null: it is gone, an endpoint, or not known yet. */
  beat: (Beat & { askedAt: number }) | null;
};

/** Workers as they come, go and drain, live; their clocks as of some seconds ago, whatever there is to do for them. */
function useWorkers(): Live<{ workers: Worker[]; more: boolean }> {
  const { data, error } = useLive(api.dashboard.workers, {});
  const beats = useAsked(api.dashboard.beats, {}, BEATS_MS, data);
  if (data === undefined) return { data, error };
  const workers = data.workers.map((row): Worker => {
    const beat = row.live ? beats?.data.find(({ name }) => name === row.name) : undefined;
    return { ...row, beat: beat === undefined ? null : { ...beat, askedAt: beats!.at } };
  });
  return { data: { workers, more: data.more }, error };
}

export function WorkersPage({ name }: PageProps) {
  if (name !== undefined) return <WorkerPage name={name} />;
  return (
    <>
      <h1>Workers</h1>
      <WorkerTable />
    </>
  );
}

export function WorkerTable({ liveOnly = false }: { liveOnly?: boolean }) {
  const workers = useWorkers();
  return (
    <Shown live={workers}>
      {({ workers, more }) => {
        const rows = liveOnly ? workers.filter((row) => row.live) : workers;
        if (rows.length === 0)
          return <Empty>No worker is here. Start one: signalbox worker --agents examples.first_light</Empty>;
        return (
          <>
            <Table
              label="Workers"
              head={[
                "Worker",
                "State",
                "Process",
                "Inbox",
                "Silent runs",
                "Room for",
                "Queues",
                ...(liveOnly ? [] : [""]),
              ]}
            >
              {rows.map((row) => (
                <Row key={row.name} row={row} withVerb={!liveOnly} />
              ))}
            </Table>
            {more ? <p className="quiet-text">There are more than are shown.</p> : null}
          </>
        );
      }}
    </Shown>
  );
}

function Row({ row, withVerb }: { row: Worker; withVerb: boolean }) {
  const clocks = row.beat?.clocks ?? null;
  return (
    <tr data-worker={row.name}>
      <td>
        <a href={hrefOf(["workers", row.name])}>{visible(row.name)}</a>
      </td>
      <td>
        <State of={row} />
      </td>
      <td>
        <Heard of={row} />
      </td>
      <td>{clocks === null ? "–" : `${span(clocks.inboxAgeMs)} ago`}</td>
      <td>{clocks === null ? "–" : clocks.silent.length === 0 ? "none" : clocks.silent.length}</td>
      <td>{row.capacity}</td>
      <td>{row.queues.map(visible).join(", ")}</td>
      {withVerb ? (
        <td>
          <Drain of={row} />
        </td>
      ) : null}
    </tr>
  );
}

const State = ({ of: { live, draining, beat, endpoint } }: { of: Worker }) =>
  !live ? (
    <Tag>gone</Tag>
  ) : draining ? (
    <Tag tone="waits">draining</Tag>
  ) : endpoint ? (
    <Tag tone="active">endpoint</Tag>
  ) : beat === null ? (
    <Tag tone="good">here</Tag>
  ) : beat.busy ? (
    <Tag tone="active">at work</Tag>
  ) : (
    <Tag tone="good">idle</Tag>
  );

/** Its process's clock: a busy worker is heard every few seconds, an idle one once a minute. */
function Heard({ of: { beat } }: { of: Worker }) {
  const now = useNow();
  if (beat === null) return "–";
  const late = beat.askedAt - beat.at > (beat.busy ? LATE_MS.busy : LATE_MS.idle);
  return <span className={late ? "bad-text" : undefined}>{span(now - beat.at)} ago</span>;
}

function Drain({ of: { name, live, draining, endpoint } }: { of: Worker }) {
  const { caller } = useSession();
  const drain = useVerb(api.dashboard.drain, drained);
  if (!live || draining || endpoint || !mayOperate(caller)) return null;
  return (
    <Confirm
      trigger="Drain…"
      title={`Drain ${name}`}
      verb="Drain it"
      onConfirm={() => drain({ worker: name })}
    >
      <p>It is given nothing more, finishes what it holds and leaves. To have it back, start it again.</p>
    </Confirm>
  );
}

function WorkerPage({ name }: { name: string }) {
  const workers = useWorkers();
  return (
    <>
      <Shown live={workers}>
        {({ workers }) => {
          const row = workers.find((worker) => worker.name === name);
          if (row === undefined)
            return (
              <>
                <h1>{visible(name)}</h1>
                <Empty>
                  No worker of this name is known any more.{" "}
                  <a href={hrefOf(["workers"])}>Go to the workers</a>
                </Empty>
              </>
            );
          return <WorkerFacts row={row} />;
        }}
      </Shown>
    </>
  );
}

function WorkerFacts({ row }: { row: Worker }) {
  const clocks = row.beat?.clocks ?? null;
  return (
    <>
      <div className="heading">
        <h1>{visible(row.name)}</h1>
        <State of={row} />
      </div>
      <div className="actions">
        <Drain of={row} />
      </div>
      <Facts
        of={[
          ["Process heard", <Heard of={row} />],
          ["Inbox loop turned", clocks === null ? "not told" : `${span(clocks.inboxAgeMs)} before that`],
          ["Room for", `${row.capacity} runs`],
          ["Queues", row.queues.map(visible).join(", ")],
          ["Labels", row.labels.length === 0 ? "none" : row.labels.map(visible).join(", ")],
          ["Agents", row.agents],
          ["Plays agents of models", row.llm ? "yes" : "no"],
          ["Version", visible(row.version)],
        ]}
      />
      <h2>Silent runs</h2>
      {clocks === null || clocks.silent.length === 0 ? (
        <Empty>None: all that it holds moves.</Empty>
      ) : (
        <ul className="plain">
          {clocks.silent.map(({ run, ms, on, name, attempt }) => (
            <li key={run}>
              <span className="mono">{run.slice(0, 12)}</span> for {span(ms)}, in{" "}
              {name === null ? on : visible(name)}
              {attempt === null ? null : <>, try {attempt}</>}
            </li>
          ))}
        </ul>
      )}
      <p>
        <a href={hrefOf(["tasks"], { status: "running" })}>Tasks that run</a>
      </p>
    </>
  );
}

import { useState } from "react";
import { api } from "../../../convex/_generated/api";
import type { ScheduleView } from "../../../convex/schedule.validators";
import type { PageProps } from "../frame";
import { randomId } from "../id";
import { useLive, useNow, useVerb } from "../live";
import { schedulePaused, scheduleResumed } from "../optimistic";
import { useSay } from "../parts/say";
import { Ago, Empty, Facts, Panel, Problem, Shown, Table, Tag } from "../parts/states";
import { Code } from "../parts/text";
import { hrefOf, taskHref } from "../route";
import { maySubmit, useSession } from "../session";
import { span, stamp, visible } from "../text";

export function SchedulesPage({ name }: PageProps) {
  return name === undefined ? <ScheduleList /> : <SchedulePage name={name} />;
}

/** When a schedule fires, in words. Pure. */
export function timing({
  cron,
  timeZone,
  everyMs,
  at,
}: Pick<ScheduleView, "cron" | "timeZone" | "everyMs" | "at">): string {
  if (cron !== null) return `${cron} (${timeZone ?? "UTC"})`;
  if (everyMs !== null) return `every ${span(everyMs)}`;
  return at === null ? "never" : `once, ${stamp(at)}`;
}

function ScheduleList() {
  const [cursors, setCursors] = useState<readonly (string | null)[]>([null]);
  const schedules = useLive(api.schedules.list, { cursor: cursors.at(-1)! });
  return (
    <>
      <h1>Schedules</h1>
      <Shown live={schedules}>
        {({ schedules, cursor }) =>
          schedules.length === 0 && cursors.length === 1 ? (
            <Empty>
              Nothing is scheduled. Add one: signalbox schedules set nightly --cron @daily AGENT --input '…'
            </Empty>
          ) : (
            <>
              <Table label="Schedules" head={["Schedule", "When", "Agent", "Next", "Last", "Fired", ""]}>
                {schedules.map((row) => (
                  <Row key={row.schedule} row={row} />
                ))}
              </Table>
              <div className="actions">
                {cursors.length === 1 ? null : (
                  <button className="button" onClick={() => setCursors(cursors.slice(0, -1))}>
                    Page before
                  </button>
                )}
                {cursor === null ? null : (
                  <button className="button" onClick={() => setCursors([...cursors, cursor])}>
                    Next page
                  </button>
                )}
              </div>
            </>
          )
        }
      </Shown>
    </>
  );
}

function Row({ row }: { row: ScheduleView }) {
  return (
    <tr data-schedule={row.name}>
      <td>
        <a href={hrefOf(["schedules", row.name])}>{visible(row.name)}</a>
      </td>
      <td>{timing(row)}</td>
      <td>{visible(row.template.agent ?? row.template.capability ?? "")}</td>
      <td>
        <Next of={row} />
      </td>
      <td>{row.lastRunAt === null ? "never" : <LastRun of={row} />}</td>
      <td>{row.fired}</td>
      <td>
        <Verbs of={row} />
      </td>
    </tr>
  );
}

function Next({ of: { enabled, nextRunAt } }: { of: ScheduleView }) {
  const now = useNow();
  if (!enabled) return <Tag tone="waits">paused</Tag>;
  if (nextRunAt === null) return <Tag>over</Tag>;
  return <span title={stamp(nextRunAt)}>in {span(nextRunAt - now)}</span>;
}

const LastRun = ({ of: { lastRunAt, lastTask } }: { of: ScheduleView }) =>
  lastTask === null ? (
    <Ago at={lastRunAt!} />
  ) : (
    <a href={taskHref(lastTask)}>
      <Ago at={lastRunAt!} />
    </a>
  );

function Verbs({ of: { name, tenant, enabled } }: { of: ScheduleView }) {
  const { caller } = useSession();
  const pause = useVerb(api.schedules.pause, schedulePaused);
  const resume = useVerb(api.schedules.resume, scheduleResumed);
  const runNow = useVerb(api.schedules.runNow);
  const say = useSay();
  if (!maySubmit(caller)) return null;
  const run = async () => {
    const answer = await runNow({ tenant, name, request: randomId() });
    if (answer === null) return;
    if (answer.ok) say("done", `${name} runs now`);
    else say("error", answer.message);
  };
  return (
    <div className="actions tight">
      <button className="button" aria-label={`Run now: ${name}`} onClick={() => void run()}>
        Run now
      </button>
      <button
        className="button"
        aria-label={`${enabled ? "Pause" : "Resume"}: ${name}`}
        onClick={() => void (enabled ? pause : resume)({ tenant, name })}
      >
        {enabled ? "Pause" : "Resume"}
      </button>
    </div>
  );
}

const PREVIEWED = 10;

function SchedulePage({ name }: { name: string }) {
  const schedule = useLive(api.schedules.get, { name });
  return (
    <>
      <h1>{visible(name)}</h1>
      <Shown live={schedule}>
        {(row) =>
          row === null ? (
            <Empty>
              No schedule of this name. <a href={hrefOf(["schedules"])}>Go to the schedules</a>
            </Empty>
          ) : (
            <>
              <Verbs of={row} />
              <Facts
                of={[
                  ["When", timing(row)],
                  ["Next", <Next of={row} />],
                  ["Last", row.lastRunAt === null ? "never" : <LastRun of={row} />],
                  ["Fired", row.fired],
                  ["While one still runs", row.overlap.replaceAll("_", " ")],
                  ["Dropped for that", row.overlapped],
                  ["What was missed", `${row.catchUp.policy}, up to ${span(row.catchUp.windowMs)} late`],
                  ["Agent", visible(row.template.agent ?? row.template.capability ?? "")],
                ]}
              />
              {row.lastError === null ? null : <Problem error={new Error(row.lastError.message)} />}
              <Panel title="Input">
                <Code text={row.template.input} label="Input" />
              </Panel>
              {row.nextRunAt === null ? null : <Preview name={name} after={row.nextRunAt} />}
            </>
          )
        }
      </Shown>
    </>
  );
}

function Preview({ name, after }: { name: string; after: number }) {
  const times = useLive(api.schedules.preview, { of: { name }, count: PREVIEWED, after: after - 1 });
  return (
    <Panel title="The next runs">
      <Shown live={times}>
        {(found) => (
          <ol className="plain">
            {found.map((at) => (
              <li key={at}>{stamp(at)}</li>
            ))}
          </ol>
        )}
      </Shown>
    </Panel>
  );
}

import { lazy, Suspense, useState } from "react";
import { api } from "../../../convex/_generated/api";
import { useLive, useSteady, useTime } from "../live";
import { Ago, Empty, Facts, Loading, Panel, Shown, Table } from "../parts/states";
import { hourOf, MINUTE_MS, minutesOf, perRun, sumOf, type Minute } from "../minutes";
import { hrefOf, taskHref } from "../route";
import { useSession } from "../session";
import { count, dollars, span, visible } from "../text";
import { WorkerTable } from "./workers";

const Chart = lazy(() => import("../parts/chart"));

export function OverviewPage() {
  const { queues } = useSession().caller;
  return (
    <>
      <h1>Overview</h1>
      {queues === null ? <Hour scope="all" /> : <QueueHour queues={queues} />}
      <div className="columns">
        <Panel title="Queues">
          <Queues />
        </Panel>
        <Panel title="Failures" aside={<a href={hrefOf(["tasks"], { status: "failed" })}>All</a>}>
          <Failures />
        </Panel>
      </div>
      <Panel title="Workers" aside={<a href={hrefOf(["workers"])}>All</a>}>
        <WorkerTable liveOnly />
      </Panel>
    </>
  );
}

/** The last hour of one of the queues that a key is bound to: what is counted over all queues is not shown to it. */
function QueueHour({ queues }: { queues: string[] }) {
  const [queue, choose] = useState(queues[0]);
  if (queue === undefined) return null;
  return (
    <>
      {queues.length === 1 ? null : (
        <label>
          Queue{" "}
          <select value={queue} onChange={(event) => choose(event.target.value)}>
            {queues.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
      )}
      <Hour key={queue} scope={`queue:${queue}`} />
    </>
  );
}

/** Throughput, latency and tokens of the last hour, by the minute. */
export function Hour({ scope }: { scope: string }) {
  const minute = useTime((now) => Math.floor(now / MINUTE_MS));
  const { from, to } = hourOf(minute * MINUTE_MS);
  const stats = useSteady(api.stats.read, { scope, from, to });
  return (
    <Shown live={stats} rows={4}>
      {(rows) => <Figures minutes={minutesOf(rows, from, to)} />}
    </Shown>
  );
}

function Figures({ minutes }: { minutes: Minute[] }) {
  const sum = sumOf(minutes);
  const ended = sum.succeeded + sum.failed + sum.cancelled;
  return (
    <section aria-label="The last hour">
      <Facts
        of={[
          ["Submitted, last hour", count(sum.submitted)],
          ["Succeeded", count(sum.succeeded)],
          ["Failed", <span className={sum.failed > 0 ? "bad-text" : undefined}>{count(sum.failed)}</span>],
          ["Retries", count(sum.retried)],
          ["Mean wait", sum.started === 0 ? "none began" : span(sum.waitMs / sum.started)],
          ["Mean run", ended === 0 ? "none ended" : span(perRun(sum))],
          ["Model calls", count(sum.modelCalls)],
          ["Spent", dollars(sum.costMicros)],
          ["Tokens in, out", `${count(sum.inputTokens)}, ${count(sum.outputTokens)}`],
        ]}
      />
      <div className="charts">
        <Suspense fallback={<Loading rows={3} />}>
          <Chart
            title="Tasks that ended, each minute"
            minutes={minutes}
            lines={[
              { name: "succeeded", tone: "good", of: (minute) => minute.succeeded },
              { name: "failed", tone: "bad", of: (minute) => minute.failed },
              { name: "cancelled", tone: "still", of: (minute) => minute.cancelled },
            ]}
          />
          <Chart
            title="Mean seconds in line, and at work"
            minutes={minutes}
            lines={[
              {
                ...{ name: "in line", tone: "waits" },
                of: (minute) => (minute.started === 0 ? null : minute.waitMs / minute.started / 1_000),
              },
              {
                ...{ name: "at work", tone: "active" },
                of: (minute) => {
                  const ms = perRun(minute);
                  return Number.isFinite(ms) ? ms / 1_000 : null;
                },
              },
            ]}
          />
          <Chart
            title="Tokens, each minute"
            minutes={minutes}
            lines={[
              { name: "in", tone: "still", of: (minute) => minute.inputTokens },
              { name: "out", tone: "active", of: (minute) => minute.outputTokens },
            ]}
          />
        </Suspense>
      </div>
    </section>
  );
}

function Queues() {
  const queues = useLive(api.dashboard.queues, {});
  return (
    <Shown live={queues}>
      {({ queues, more }) =>
        queues.length === 0 ? (
          <Empty>Nothing waits for a worker.</Empty>
        ) : (
          <>
            <Table label="Queues" head={["Queue", "In line", "Oldest"]}>
              {queues.map(({ queue, waiting, more, oldestAt }) => (
                <tr key={queue} data-queue={queue}>
                  <td>
                    <a href={hrefOf(["tasks"], { status: "pending", queue })}>{visible(queue)}</a>
                  </td>
                  <td>
                    {waiting}
                    {more ? " or more" : ""}
                  </td>
                  <td>
                    <Ago at={oldestAt} />
                  </td>
                </tr>
              ))}
            </Table>
            {more ? <p className="quiet-text">There are more queues in use.</p> : null}
          </>
        )
      }
    </Shown>
  );
}

function Failures() {
  const failures = useLive(api.dashboard.failures, {});
  return (
    <Shown live={failures}>
      {({ causes, counted }) =>
        counted === 0 ? (
          <Empty>No task has failed.</Empty>
        ) : (
          <>
            <p className="quiet-text">Of the last {counted} that failed:</p>
            <ul className="plain">
              {causes.map(({ code, count, newest: [newest] }) => (
                <li key={code}>
                  <a href={hrefOf(["tasks"], { status: "failed", code })}>{visible(code)}</a> {count}
                  {newest === undefined ? null : (
                    <a className="line quiet-text" href={taskHref(newest.task)}>
                      {visible(newest.message)}
                    </a>
                  )}
                </li>
              ))}
            </ul>
          </>
        )
      }
    </Shown>
  );
}

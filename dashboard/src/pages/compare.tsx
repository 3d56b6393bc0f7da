/** Two tasks side by side: what they have cost, how long they took, what they did, and where they part. */
import type { ReactNode } from "react";
import { api } from "../../../convex/_generated/api";
import type { Compared } from "../../../convex/fork.validators";
import type { TaskStatus } from "../../../convex/validators";
import { tokensOf } from "../parts/cost";
import { Empty, Loading, Panel, Problem, Status, Table } from "../parts/states";
import { Code } from "../parts/text";
import { useLive } from "../live";
import { hrefOf, taskHref } from "../route";
import { codeOf, dollars, span, visible } from "../text";

export function ComparePage({ task, other }: { task: string; other: string }) {
  const { data, error } = useLive(api.tasks.compare, { task, other });
  if (error !== null)
    return codeOf(error) === "not_found" ? <GoneOf error={error} /> : <Problem error={error} />;
  if (data === undefined) return <Loading rows={6} />;
  const [first, second] = data.tasks as [Compared, Compared];
  return (
    <>
      <h1>Two tasks side by side</h1>
      <Panel title="What they took">
        <Table
          label="What they took"
          head={["", <Side key="first" of={first} />, <Side key="second" of={second} />]}
        >
          {ROWS.map(([name, shown]) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td className="half">{shown(first)}</td>
              <td className="half">{shown(second)}</td>
            </tr>
          ))}
        </Table>
        <p className="quiet-text">
          {data.parts === null
            ? "They have taken the same steps, with the same results."
            : `They part at the step ${visible(data.parts)}.`}
          {data.sameOutput ? " Their outputs are the same." : null}
          {first.more || second.more ? " The first steps of each count: there are more." : null}
        </p>
      </Panel>
      <div className="columns">
        {[first, second].map((side, at) => (
          <Panel key={side.task} title={at === 0 ? "Output of the first" : "Output of the second"}>
            <Output of={side} number={at + 1} />
          </Panel>
        ))}
      </div>
    </>
  );
}

function GoneOf({ error }: { error: Error }) {
  return (
    <>
      <h1>One of the two tasks is gone</h1>
      <Problem error={error} />
      <p>
        What has ended is deleted after its time. <a href={hrefOf(["tasks"])}>Go to the tasks</a>
      </p>
    </>
  );
}

const Side = ({ of: { task, agent } }: { of: Compared }) => (
  <a className="half" href={taskHref(task)}>
    {visible(agent)} <span className="mono">{task.slice(0, 12)}</span>
  </a>
);

const ROWS: [string, (of: Compared) => ReactNode][] = [
  ["Status", ({ status }) => <Status of={status as TaskStatus} />],
  ["Time", ({ ms }) => (ms === null ? "not over" : span(ms))],
  ["Runs", ({ runs }) => runs],
  ["Turns", ({ turns, replayed }) => (replayed === 0 ? turns : `${turns}; ${replayed} steps were copied`)],
  [
    "Tools",
    ({ tools }) =>
      tools.length === 0 ? "none" : tools.map(({ tool, calls }) => `${visible(tool)} × ${calls}`).join(", "),
  ],
  ["Model", ({ usage: { model } }) => (model === null ? "none" : visible(model))],
  ["Tokens", ({ turns, usage }) => (turns === 0 ? "none" : tokensOf(usage))],
  [
    "Cost",
    ({ turns, usage: { costMicros } }) =>
      costMicros !== null ? dollars(costMicros) : turns === 0 ? "none" : "no price is known",
  ],
  ["Error", ({ error }) => (error === null ? "none" : `${visible(error.code)}: ${visible(error.message)}`)],
];

function Output({ of: { task, output, largeOutput }, number }: { of: Compared; number: number }) {
  if (output !== null) return <Code text={output} label={`Output ${number}`} />;
  if (!largeOutput) return <Empty>It has none.</Empty>;
  return (
    <p>
      It is large: <a href={taskHref(task)}>see it with its task</a>
    </p>
  );
}

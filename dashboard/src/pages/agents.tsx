import type { FunctionReturnType } from "convex/server";
import { api } from "../../../convex/_generated/api";
import type { PageProps } from "../frame";
import { useLive } from "../live";
import { Empty, Facts, Panel, Shown, Table, Tag } from "../parts/states";
import { SubmitDialog } from "../parts/submit";
import { Code } from "../parts/text";
import { hrefOf } from "../route";
import { maySubmit, useSession } from "../session";
import { span, visible } from "../text";
import { Hour } from "./overview";

type Agent = FunctionReturnType<typeof api.agents.list>[number];

export function AgentsPage({ name }: PageProps) {
  const agents = useLive(api.agents.list, {});
  return (
    <>
      <h1>{name === undefined ? "Agents" : visible(name)}</h1>
      <Shown live={agents}>
        {(all) => {
          if (name === undefined) return <AgentTable agents={all} />;
          const agent = all.find((known) => known.name === name);
          if (agent !== undefined) return <AgentView agent={agent} />;
          return (
            <Empty>
              No agent of this name is registered. <a href={hrefOf(["agents"])}>Go to the agents</a>
            </Empty>
          );
        }}
      </Shown>
    </>
  );
}

function AgentTable({ agents }: { agents: Agent[] }) {
  if (agents.length === 0)
    return (
      <Empty>
        No agent is registered. A worker brings its own; signalbox agents sync FILE adds those of a model.
      </Empty>
    );
  return (
    <Table label="Agents" head={["Agent", "Played by", "What it does", "Can", "Attempts"]}>
      {agents.map((agent) => (
        <tr key={agent.name} data-agent={agent.name}>
          <td>
            <a href={hrefOf(["agents", agent.name])}>{visible(agent.name)}</a>
          </td>
          <td>
            <Player of={agent} />
          </td>
          <td className="wide">{visible(agent.description)}</td>
          <td>{agent.capabilities.map(visible).join(", ")}</td>
          <td>{agent.retry.maxAttempts}</td>
        </tr>
      ))}
    </Table>
  );
}

const Player = ({ of: { kind, executor } }: { of: Agent }) =>
  executor.kind === "http" ? (
    <Tag tone="active">endpoint {visible(executor.endpoint)}</Tag>
  ) : kind === "llm" ? (
    <Tag tone="good">a model</Tag>
  ) : (
    <Tag>Python</Tag>
  );

function AgentView({ agent }: { agent: Agent }) {
  const { caller } = useSession();
  const { llm, retry } = agent;
  return (
    <>
      <p>{visible(agent.description)}</p>
      <div className="actions">
        {maySubmit(caller) ? <SubmitDialog agent={agent.name} /> : null}
        <a className="button" href={hrefOf(["tasks"], { agent: agent.name })}>
          Its tasks
        </a>
      </div>
      <Facts
        of={[
          ["Played by", <Player of={agent} />],
          ["Attempts", retry.maxAttempts],
          ["Waits between them", `${span(retry.initialMs)}, times ${retry.base}, up to ${span(retry.maxMs)}`],
          ["Time limit", agent.timeoutMs === null ? "none" : span(agent.timeoutMs)],
          [
            "Can",
            agent.capabilities.length === 0 ? "nothing by name" : agent.capabilities.map(visible).join(", "),
          ],
          ...(llm === null
            ? []
            : ([["Model", llm.model === null ? "its worker's" : visible(llm.model)]] as [string, string][])),
        ]}
      />
      {llm === null ? null : (
        <Panel title="Prompt">
          <Code text={llm.prompt} label="Prompt" />
        </Panel>
      )}
      {caller.queues === null ? (
        <>
          <h2>The last hour</h2>
          <Hour scope={`agent:${agent.name}`} />
        </>
      ) : null}
    </>
  );
}

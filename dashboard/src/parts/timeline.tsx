/** What became of a task, in the order of time: its attempts, their model calls, and what was done for good. */
import { useState } from "react";
import { api } from "../../../convex/_generated/api";
import type { AttemptView, CallRow, StepRow } from "../../../convex/dashboard.validators";
import type { StepState } from "../../../convex/step.validators";
import type { TaskView } from "../../../convex/validators";
import { useStream } from "../../hooks";
import { useLive } from "../live";
import { hrefOf } from "../route";
import { useSession } from "../session";
import { count, dollars, span, stamp, visible } from "../text";
import { tokensOf } from "./cost";
import { Empty, Lasted, Loading, Panel, Problem, Shown, Status, Tag, words } from "./states";
import { Code, StreamText } from "./text";

export type Moment =
  | { kind: "attempt"; at: number; attempt: AttemptView }
  | { kind: "call"; at: number; call: CallRow }
  | { kind: "step"; at: number; step: StepRow };

/**
 * Attempts and, between them, their model calls and what was done for good, in the order of time. A call stands where it began:
 * its worker tells the time since its run's start, and of the call only after its end, with the step that came of it. Pure.
 */
export function momentsOf(
  attempts: readonly AttemptView[],
  calls: readonly CallRow[],
  steps: readonly StepRow[],
): Moment[] {
  const begun = new Map(attempts.map(({ run, startedAt, assignedAt }) => [run, startedAt ?? assignedAt]));
  const startOf = ({ run, startedMs, ms, keptAt }: CallRow) => {
    const latest = keptAt - ms;
    const from = begun.get(run);
    return from === undefined ? latest : Math.max(from, Math.min(from + startedMs, latest));
  };
  return [
    ...attempts.map((attempt): Moment => ({ kind: "attempt", at: attempt.assignedAt, attempt })),
    ...calls.map((call): Moment => ({ kind: "call", at: startOf(call), call })),
    ...steps.map((step): Moment => ({ kind: "step", at: step.keptAt, step })),
  ].sort((a, b) => a.at - b.at);
}

export function Timeline({ task }: { task: TaskView }) {
  const attempts = useLive(api.dashboard.attempts, { task: task.task });
  const calls = useLive(api.dashboard.calls, { task: task.task });
  const steps = useLive(api.dashboard.steps, { task: task.task });
  const live = {
    data:
      attempts.data !== undefined && calls.data !== undefined && steps.data !== undefined
        ? {
            moments: momentsOf(attempts.data.attempts, calls.data.calls, steps.data.steps),
            more: attempts.data.more || calls.data.more || steps.data.more,
          }
        : undefined,
    error: attempts.error ?? calls.error ?? steps.error,
  };
  return (
    <Panel title="Timeline">
      <Shown live={live}>
        {({ moments, more }) =>
          moments.length === 0 ? (
            <Empty>No attempt yet.</Empty>
          ) : (
            <>
              {more ? <p className="quiet-text">The last of it is shown: all of it is too much.</p> : null}
              <ol className="timeline">
                {moments.map((moment) => (
                  <Shape key={keyOf(moment)} of={moment} task={task} />
                ))}
              </ol>
            </>
          )
        }
      </Shown>
    </Panel>
  );
}

function Shape({ of, task }: { of: Moment; task: TaskView }) {
  if (of.kind === "attempt") return <Attempt of={of.attempt} task={task} />;
  if (of.kind === "call") return <Call of={of.call} at={of.at} />;
  return <Step of={of.step} />;
}

function keyOf(moment: Moment): string {
  if (moment.kind === "attempt") return moment.attempt.run;
  if (moment.kind === "step") return `step ${moment.step.key}`;
  const { run, call, attempt } = moment.call;
  return `call ${run} ${call} ${attempt}`;
}

function Attempt({ of, task }: { of: AttemptView; task: TaskView }) {
  const { attempt, run, state, worker, assignedAt, endedAt, error, usage } = of;
  const [open, setOpen] = useState(false);
  return (
    <li className="moment">
      <div className="moment-head">
        <strong>Attempt {attempt}</strong> <Status of={state} />
        <span className="quiet-text">
          {worker === null ? (
            "by a worker that is forgotten"
          ) : (
            <a href={hrefOf(["workers", worker])}>{visible(worker)}</a>
          )}
          , {stamp(assignedAt)}, <Lasted from={assignedAt} to={endedAt} />
          {usage === null || usage.calls === 0 ? null : (
            <>
              , {usage.calls} model {usage.calls === 1 ? "call" : "calls"}
            </>
          )}
          {usage?.costMicros === undefined ? null : <>, {dollars(usage.costMicros)}</>}
        </span>
      </div>
      <Fault of={error} />
      {run === task.run ? null : (
        <details onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
          <summary>What it wrote</summary>
          {open ? <Written task={task.task} run={run} attempt={attempt} /> : null}
        </details>
      )}
    </li>
  );
}

function Fault({ of }: { of: { code: string; message: string } | null }) {
  if (of === null) return null;
  return (
    <p className="bad-text">
      <strong>{visible(of.code)}</strong> <span className="long">{visible(of.message)}</span>
    </p>
  );
}

function Written({ task, run, attempt }: { task: string; run: string; attempt: number }) {
  const { key } = useSession();
  const { segments, loaded, error } = useStream({ task, run }, key);
  if (error !== null) return <Problem error={error} />;
  if (!loaded) return <Loading rows={1} />;
  if (segments.length === 0) return <Empty>It wrote nothing.</Empty>;
  return <StreamText segments={segments} live={false} label={`What attempt ${attempt} wrote`} />;
}

const CALL_TONES = { succeeded: "good", failed: "bad", superseded: "waits", cancelled: "still" } as const;

/** One attempt at a model call. What a superseded one had written was taken back when the next began. */
function Call({ of, at }: { of: CallRow; at: number }) {
  const { call, attempt, model, ms, state, error, usage, costMicros, estimated } = of;
  const told = [
    stamp(at),
    span(ms),
    ...(usage === null ? [] : [tokensOf(usage)]),
    ...(usage !== null && usage.reasoningTokens > 0
      ? [`${count(usage.reasoningTokens)} of them reasoning`]
      : []),
    ...(costMicros === null ? [] : [dollars(costMicros)]),
    ...(estimated ? ["estimated"] : []),
  ];
  return (
    <li className="moment small" data-call={`${call}.${attempt}`}>
      <div className="moment-head">
        <span>
          Model call {call}
          {attempt === 1 ? null : <>, attempt {attempt}</>}
        </span>
        <span className="mono long">{visible(model)}</span>
        <Tag tone={CALL_TONES[state]}>{state}</Tag>
        <span className="quiet-text">{told.join(", ")}</span>
      </div>
      <Fault of={error} />
    </li>
  );
}

const STATES: Record<StepState, { tone: string; says: string | null }> = {
  intended: { tone: "active", says: "it was about to begin, and its result has not come" },
  done: { tone: "good", says: null },
  in_doubt: { tone: "bad", says: "nobody knows whether it happened; a person says" },
};

/** What a second call with the same arguments does. */
const EFFECTS = {
  pure: "changes nothing outside",
  idempotent: "twice is as once",
  keyed: "its key makes a repeat harmless",
  reconcilable: "it can be looked up whether it happened",
  unsafe: "is not to be repeated blindly",
} as const;

function Step({ of }: { of: StepRow }) {
  const { key, kind, over, endsAt, result, cut, keptAt, effect, state, usage, copied } = of;
  const told = [
    stamp(keptAt),
    ...(copied ? ["copied from the task that this is a fork of"] : []),
    ...(state === null ? [] : [STATES[state].says]),
    ...(over || (state !== null && state !== "done")
      ? []
      : [endsAt === null ? "not over" : `until ${stamp(endsAt)}`]),
    ...(usage === null || (usage.inputTokens === null && usage.outputTokens === null)
      ? []
      : [tokensOf(usage)]),
    ...(usage?.costMicros == null ? [] : [dollars(usage.costMicros)]),
  ];
  return (
    <li className="moment small" data-step={key}>
      <div className="moment-head">
        <span className="mono long">{visible(key)}</span>{" "}
        <Tag tone={state === null && over ? "good" : state === null ? "waits" : "still"}>{words(kind)}</Tag>
        {effect === null ? null : (
          <span title={EFFECTS[effect]}>
            <Tag tone={effect === "unsafe" ? "waits" : "still"}>{effect}</Tag>
          </span>
        )}
        {state === null ? null : <Tag tone={STATES[state].tone}>{words(state)}</Tag>}
        <span className="quiet-text">{told.filter((part) => part !== null).join(", ")}</span>
      </div>
      {result === null ? (
        cut ? (
          <p className="quiet-text">Its result is too large to be shown here.</p>
        ) : null
      ) : (
        <details>
          <summary>Its result{cut ? ", the beginning" : ""}</summary>
          <Code text={result} label={`Result of ${key}`} />
        </details>
      )}
    </li>
  );
}

import { useState } from "react";
import { api } from "../../../convex/_generated/api";
import type { ApprovalView } from "../../../convex/approval.validators";
import { useLive, useVerb } from "../live";
import { randomId } from "../id";
import { mayOperate, useSession } from "../session";
import { messageOf, stamp, visible } from "../text";
import { Panel, Problem, Shown, Tag, words } from "./states";
import { Code } from "./text";

const ASKED = {
  tool: "wants to call",
  spend: "wants to spend beyond its budget:",
  in_doubt: "does not know whether this happened:",
  agent: "asks:",
} as const;

const TONES = {
  asked: "waits",
  approved: "good",
  refused: "bad",
  expired: "still",
  withdrawn: "still",
} as const;

/** What a task asks people, and what they have said. Nothing shows where nothing was asked. */
export function Approvals({ task }: { task: string }) {
  const live = useLive(api.approvals.list, { task });
  if (live.data?.approvals.length === 0 || live.data === undefined) return null;
  return (
    <Panel title="What it asks people">
      <Shown live={live}>
        {({ approvals }) => (
          <ul className="plain">
            {approvals.map((approval) => (
              <Approval key={approval.approval} of={approval} />
            ))}
          </ul>
        )}
      </Shown>
    </Panel>
  );
}

function Approval({ of }: { of: ApprovalView }) {
  const { tool, args, why, state, expiresAt, decidedAt, decidedByLabel, note } = of;
  return (
    <li className="moment">
      <div className="moment-head">
        <span>
          It {ASKED[why]} <strong className="long">{visible(tool)}</strong>
        </span>
        <Tag tone={TONES[state]}>{words(state)}</Tag>
        <span className="quiet-text">
          {decidedAt === null ? `until ${stamp(expiresAt)}` : stamp(decidedAt)}
          {decidedByLabel === null ? null : `, by ${visible(decidedByLabel)}`}
        </span>
      </div>
      {args === null ? <LargeArguments of={of} /> : <Code text={args} label={`Arguments of ${tool}`} />}
      {note === null || note === "" ? null : <p className="long">{visible(note)}</p>}
      {state === "asked" ? <Decision of={of} /> : null}
    </li>
  );
}

/** The list leaves out what is large; whoever decides is shown it all the same. */
function LargeArguments({ of: { approval, tool } }: { of: ApprovalView }) {
  const live = useLive(api.approvals.get, { approval });
  return (
    <Shown live={live} rows={1}>
      {({ args }) => <Code text={args ?? ""} label={`Arguments of ${tool}`} />}
    </Shown>
  );
}

/** The decision is bound to the arguments that were shown: of others the control plane refuses it. */
function Decision({ of: { approval, argsHash, tool, why } }: { of: ApprovalView }) {
  const { caller } = useSession();
  const decide = useVerb(api.approvals.decide);
  const [note, setNote] = useState("");
  const [result, setResult] = useState("");
  const [problem, setProblem] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  if (!mayOperate(caller)) return <p className="quiet-text">An operator decides.</p>;
  const say = async (decision: "approve" | "refuse", given: { result?: string } = {}) => {
    setBusy(true);
    const more = note.trim() === "" ? given : { ...given, note: note.trim() };
    await decide({ approval, argsHash, decision, request: randomId(), ...more });
    setBusy(false);
  };
  const sayHappened = () => {
    const wrong = objectionToResult(result);
    setProblem(wrong === null ? null : new Error(wrong));
    if (wrong === null) void say("approve", { result: result.trim() });
  };
  return (
    <>
      <label>
        Note
        <input value={note} onChange={({ target }) => setNote(target.value)} placeholder="for the record" />
      </label>
      {why === "in_doubt" ? (
        <label>
          If it happened: what came of it, as JSON
          <textarea
            rows={2}
            className="mono"
            value={result}
            onChange={({ target }) => setResult(target.value)}
            placeholder='"done", or null if nothing came of it'
            spellCheck={false}
          />
        </label>
      ) : null}
      {problem === null ? null : <Problem error={problem} />}
      <div className="actions" role="group" aria-label={`Decide on ${tool}`}>
        {why === "in_doubt" ? (
          <button className="button solid" disabled={busy} onClick={sayHappened}>
            It happened: go on with this
          </button>
        ) : null}
        <button
          className={why === "in_doubt" ? "button" : "button solid"}
          disabled={busy}
          onClick={() => void say("approve")}
        >
          {why === "in_doubt" ? "It did not happen: run it" : "Approve"}
        </button>
        <button className="button danger" disabled={busy} onClick={() => void say("refuse")}>
          {why === "in_doubt" ? "Fail the task" : "Refuse"}
        </button>
      </div>
    </>
  );
}

/** What is wrong with what somebody says came of a call, in a line; null: nothing that can be seen here. Pure. */
export function objectionToResult(text: string): string | null {
  if (text.trim() === "") return "Say what came of it, as JSON: null if nothing did.";
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return `What came of it is not JSON: ${messageOf(error)}. A text needs quotes around it.`;
  }
}

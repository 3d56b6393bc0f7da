import { Dialog } from "@base-ui/react/dialog";
import { useState, type SubmitEvent } from "react";
import { api } from "../../../convex/_generated/api";
import { useLive, useVerb } from "../live";
import { taskHref } from "../route";
import { messageOf } from "../text";
import { useSay } from "./say";
import { Problem } from "./states";

/** A form that submits a task, and leads to it. */
export function SubmitDialog({ agent: given = "" }: { agent?: string }) {
  const [open, setOpen] = useState(false);
  return (
    <Dialog.Root open={open} onOpenChange={setOpen}>
      <Dialog.Trigger className="button solid">Submit a task</Dialog.Trigger>
      <Dialog.Portal>
        <Dialog.Backdrop className="backdrop" />
        <Dialog.Popup className="dialog">
          <Dialog.Title className="dialog-title">Submit a task</Dialog.Title>
          <SubmitForm agent={given} onDone={() => setOpen(false)} />
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

function SubmitForm({ agent: given, onDone }: { agent: string; onDone: () => void }) {
  const agents = useLive(api.agents.list, {});
  const submit = useVerb(api.tasks.submit);
  const say = useSay();
  const [agent, setAgent] = useState(given);
  const [input, setInput] = useState("");
  const [queue, setQueue] = useState("");
  const [priority, setPriority] = useState("0");
  const [problem, setProblem] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);

  const send = async (event: SubmitEvent) => {
    event.preventDefault();
    const wrong = objection({ agent, input, priority });
    setProblem(wrong === null ? null : new Error(wrong));
    if (wrong !== null) return;
    setBusy(true);
    const spec = { agent: agent.trim(), input: input.trim(), priority: Number(priority) };
    const answers = await submit({ tasks: [queue.trim() === "" ? spec : { ...spec, queue: queue.trim() }] });
    setBusy(false);
    const [answer] = answers ?? [];
    if (answer === undefined) return; // said already
    if (!answer.ok) return setProblem(new Error(answer.message));
    say("done", "Submitted");
    onDone();
    location.hash = taskHref(answer.task);
  };
  return (
    <form className="form" onSubmit={(event) => void send(event)} noValidate>
      <label>
        Agent
        <input
          value={agent}
          onChange={({ target }) => setAgent(target.value)}
          list="submit-agents"
          spellCheck={false}
        />
        <datalist id="submit-agents">
          {agents.data?.map(({ name, description }) => (
            <option key={name} value={name}>
              {description}
            </option>
          ))}
        </datalist>
      </label>
      <label>
        Input, as JSON
        <textarea
          rows={5}
          className="mono"
          value={input}
          onChange={({ target }) => setInput(target.value)}
          placeholder='"What is a lease?"'
          spellCheck={false}
        />
      </label>
      <div className="pair">
        <label>
          Queue
          <input
            value={queue}
            onChange={({ target }) => setQueue(target.value)}
            placeholder="default"
            spellCheck={false}
          />
        </label>
        <label>
          Priority
          <input inputMode="numeric" value={priority} onChange={({ target }) => setPriority(target.value)} />
        </label>
      </div>
      {problem === null ? null : <Problem error={problem} />}
      <div className="actions end">
        <Dialog.Close className="button" type="button">
          Close
        </Dialog.Close>
        <button className="button solid" disabled={busy}>
          {busy ? "Submitting…" : "Submit"}
        </button>
      </div>
    </form>
  );
}

/** What is wrong with what was typed, in a line; null: nothing that can be seen here. Pure. */
export function objection({
  agent,
  input,
  priority,
}: {
  agent: string;
  input: string;
  priority: string;
}): string | null {
  if (agent.trim() === "") return "Name an agent.";
  try {
    JSON.parse(input);
  } catch (error) {
    return `The input is not JSON: ${messageOf(error)}. A text needs quotes around it.`;
  }
  if (!/^-?\d+$/.test(priority.trim())) return "The priority is a whole number.";
  return null;
}

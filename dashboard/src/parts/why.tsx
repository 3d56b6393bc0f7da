import { Dialog } from "@base-ui/react/dialog";
import { useState } from "react";
import { api } from "../../../convex/_generated/api";
import { useLive } from "../live";
import { stamp, visible } from "../text";
import { Shown } from "./states";

/** Why a task does not run now, what would change that, and when time alone does. */
export function Why({ task }: { task: string }) {
  const why = useLive(api.tasks.why, { task });
  return (
    <Shown live={why} rows={1}>
      {({ reasons }) => (
        <ul className="reasons">
          {reasons.map(({ code, message, clears, at }) => (
            <li key={code}>
              <strong>{visible(message)}</strong>
              <span>{visible(clears)}</span>
              {at === null ? null : <span className="quiet-text">{stamp(at)}</span>}
            </li>
          ))}
        </ul>
      )}
    </Shown>
  );
}

export function WhyDialog({ task }: { task: string }) {
  const [open, setOpen] = useState(false);
  return (
    <Dialog.Root open={open} onOpenChange={setOpen}>
      <Dialog.Trigger className="button quiet">Why does it wait?</Dialog.Trigger>
      <Dialog.Portal>
        <Dialog.Backdrop className="backdrop" />
        <Dialog.Popup className="dialog">
          <Dialog.Title className="dialog-title">Why it waits</Dialog.Title>
          <Why task={task} />
          <div className="actions end">
            <Dialog.Close className="button">Close</Dialog.Close>
          </div>
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

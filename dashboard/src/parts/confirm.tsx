/** A dialog that asks before something that cannot be taken back. */
import { AlertDialog } from "@base-ui/react/alert-dialog";
import { useState, type ReactNode } from "react";

export function Confirm({
  trigger,
  title,
  children,
  verb,
  onConfirm,
  onOpen,
}: {
  /** Its words; the button opens the dialog. */
  trigger: string;
  title: string;
  children: ReactNode;
  /** What the button says that does it. */
  verb: string;
  onConfirm: () => Promise<unknown>;
  onOpen?: () => void;
}) {
  const [open, setOpen] = useState(false);
  const [busy, setBusy] = useState(false);
  const confirm = async () => {
    setBusy(true);
    await onConfirm();
    setBusy(false);
    setOpen(false);
  };
  return (
    <AlertDialog.Root
      open={open}
      onOpenChange={(next) => {
        if (busy) return;
        setOpen(next);
        if (next) onOpen?.();
      }}
    >
      <AlertDialog.Trigger className="button danger">{trigger}</AlertDialog.Trigger>
      <AlertDialog.Portal>
        <AlertDialog.Backdrop className="backdrop" />
        <AlertDialog.Popup className="dialog">
          <AlertDialog.Title className="dialog-title">{title}</AlertDialog.Title>
          <AlertDialog.Description render={<div />}>{children}</AlertDialog.Description>
          <div className="actions end">
            <AlertDialog.Close className="button" disabled={busy}>
              Keep as it is
            </AlertDialog.Close>
            <button className="button danger solid" disabled={busy} onClick={() => void confirm()}>
              {busy ? "Working…" : verb}
            </button>
          </div>
        </AlertDialog.Popup>
      </AlertDialog.Portal>
    </AlertDialog.Root>
  );
}

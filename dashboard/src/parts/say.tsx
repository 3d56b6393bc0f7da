/** Lines that come and go: what was done, what was refused. Screen readers are told of them. */
import { Toast } from "@base-ui/react/toast";
import { useCallback, type ReactNode } from "react";
import { visible } from "../text";

export type Say = (kind: "done" | "error", text: string) => void;

export function useSay(): Say {
  const { add } = Toast.useToastManager();
  return useCallback(
    (kind, text) =>
      void add({
        ...{ type: kind, description: visible(text), timeout: kind === "error" ? 10_000 : 4_000 },
        priority: kind === "error" ? "high" : "low",
      }),
    [add],
  );
}

export function SayProvider({ children }: { children: ReactNode }) {
  return (
    <Toast.Provider limit={4}>
      {children}
      <Toast.Portal>
        <Toast.Viewport className="toasts">
          <Toasts />
        </Toast.Viewport>
      </Toast.Portal>
    </Toast.Provider>
  );
}

function Toasts() {
  const { toasts } = Toast.useToastManager();
  return toasts.map((toast) => (
    <Toast.Root key={toast.id} toast={toast} className={`toast toast-${toast.type ?? "done"}`}>
      <Toast.Content className="toast-content">
        <Toast.Description />
        <Toast.Close className="button quiet" aria-label="Dismiss">
          ✕
        </Toast.Close>
      </Toast.Content>
    </Toast.Root>
  ));
}

/** Follows one task: `?task=ID&key=KEY` in the address, and the deployment's own address in VITE_CONVEX_URL. */
import { ConvexProvider, ConvexReactClient } from "convex/react";
import { createRoot } from "react-dom/client";
import { useStream, useTask } from "../hooks";

const client = new ConvexReactClient(String(import.meta.env["VITE_CONVEX_URL"] ?? location.origin));
const given = new URLSearchParams(location.search);

function Task({ id, viewerKey }: { id: string; viewerKey: string }) {
  const { task, error } = useTask(id, viewerKey);
  const { text } = useStream(task ?? null, viewerKey);
  if (error !== null) return <p role="alert">{error.message}</p>;
  if (task === undefined) return <p>Loading…</p>;
  if (task === null) return <p>There is no such task.</p>;
  return (
    <article>
      <h1>
        {task.agent}: {task.status}
      </h1>
      <p style={{ whiteSpace: "pre-wrap" }}>{text}</p>
    </article>
  );
}

createRoot(document.getElementById("root")!).render(
  <ConvexProvider client={client}>
    <Task id={given.get("task") ?? ""} viewerKey={given.get("key") ?? ""} />
  </ConvexProvider>,
);

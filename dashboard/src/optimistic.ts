/** What a click shows before the control plane has answered. Its answer, or its refusal, takes the place of it. */
import type { OptimisticLocalStore, OptimisticUpdate } from "convex/browser";
import type { FunctionArgs } from "convex/server";
import { api } from "../../convex/_generated/api";
import type { TaskRow } from "../../convex/dashboard.validators";
import type { TaskStatus } from "../../convex/validators";

const ENDED: readonly TaskStatus[] = ["succeeded", "failed", "cancelled", "skipped"];
export const hasEnded = (status: TaskStatus): boolean => ENDED.includes(status);

/** What a verb makes of a task's status as far as that is known; undefined: nothing. Pure. */
export function afterVerb(
  verb: "cancel" | "retry" | "pause" | "resume",
  status: TaskStatus,
): TaskStatus | undefined {
  switch (verb) {
    case "cancel":
      return hasEnded(status) || status === "running" ? undefined : "cancelled"; // a running one ends when its worker says so
    case "retry":
      return hasEnded(status) && status !== "succeeded" ? "pending" : undefined;
    case "pause":
      return status === "pending" || status === "delayed" ? "paused" : undefined;
    case "resume":
      return status === "paused" ? "pending" : undefined;
  }
}

type Change = { status?: TaskStatus; cancelRequested?: boolean };

function changeTask(store: OptimisticLocalStore, id: string, change: (status: TaskStatus) => Change): void {
  for (const { args, value } of store.getAllQueries(api.tasks.get)) {
    if (args.task === id && value) {
      const { status = value.status } = change(value.status);
      store.setQuery(api.tasks.get, args, { ...value, status });
    }
  }
  for (const { args, value } of store.getAllQueries(api.dashboard.tasks)) {
    if (!value?.page.some((row) => row.task === id)) continue;
    const page = value.page.map((row: TaskRow) =>
      row.task === id ? { ...row, ...change(row.status) } : row,
    );
    store.setQuery(api.dashboard.tasks, args, { ...value, page });
  }
}

const ofTask =
  (verb: Parameters<typeof afterVerb>[0]): OptimisticUpdate<{ key: string; task: string }> =>
  (store, { task }) =>
    changeTask(store, task, (status) => {
      const next = afterVerb(verb, status);
      return {
        ...(next === undefined ? {} : { status: next }),
        ...(verb === "cancel" && status === "running" ? { cancelRequested: true } : {}),
      };
    });

export const cancelled = ofTask("cancel");
export const retried = ofTask("retry");
export const paused = ofTask("pause");
export const resumed = ofTask("resume");

const schedule =
  (enabled: boolean): OptimisticUpdate<FunctionArgs<typeof api.schedules.pause>> =>
  (store, { name }) => {
    for (const { args, value } of store.getAllQueries(api.schedules.list)) {
      if (value === undefined) continue;
      const schedules = value.schedules.map((row) =>
        row.name === name ? { ...row, enabled, nextRunAt: enabled ? row.nextRunAt : null } : row,
      );
      store.setQuery(api.schedules.list, args, { ...value, schedules });
    }
  };
export const schedulePaused = schedule(false);
export const scheduleResumed = schedule(true);

export const drained: OptimisticUpdate<FunctionArgs<typeof api.dashboard.drain>> = (store, { worker }) => {
  for (const { args, value } of store.getAllQueries(api.dashboard.workers)) {
    if (value === undefined) continue;
    const workers = value.workers.map((row) => (row.name === worker ? { ...row, draining: true } : row));
    store.setQuery(api.dashboard.workers, args, { ...value, workers });
  }
};

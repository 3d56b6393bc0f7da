import { useMutation } from "convex/react";
import { useCallback } from "react";
import { api } from "../../convex/_generated/api";
import type { TaskView } from "../../convex/validators";
import { useRead } from "./useRead";

export type FollowedTask = {
  /** The task as it is now; undefined: it is not known yet; null: there is no such task. */
  task: TaskView | null | undefined;
  error: Error | null;
  /** End it: at once while it waits, through its worker while it runs. Needs a submit or operator key. */
  cancel: () => Promise<void>;
  /** Give a task that has ended without success its attempts anew. Needs a submit or operator key. */
  retry: () => Promise<void>;
};

/**
 * A task, live: each change of it renders anew.
 *
 * @param id - of the task; null: none yet
 * @param key - of a role that may look: viewer, submit or operator
 */
export function useTask(id: string | null, key: string): FollowedTask {
  const { data: task, error } = useRead(api.tasks.get, id === null ? null : { key, task: id });
  const cancelTask = useMutation(api.tasks.cancel);
  const retryTask = useMutation(api.tasks.retry);
  const cancel = useCallback(async () => {
    if (id !== null) await cancelTask({ key, task: id });
  }, [cancelTask, key, id]);
  const retry = useCallback(async () => {
    if (id !== null) await retryTask({ key, task: id });
  }, [retryTask, key, id]);
  return { task, error, cancel, retry };
}

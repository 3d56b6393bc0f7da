import { useMutation } from "convex/react";
import { useState } from "react";
import { api } from "../../../convex/_generated/api";
import type { ListFilter } from "../../../convex/dashboard.validators";
import type { Bulk } from "../../../convex/bulk.validators";
import { useSession } from "../session";
import { messageOf, visible } from "../text";
import { Confirm } from "./confirm";
import { useSay } from "./say";
import { Problem, words } from "./states";

const MOST_COUNTED = 20; // pages that are looked through to say how many tasks it will be

/** Cancel or retry everything that a filter names, page after page, after saying how many that is. */
export function BulkVerb({ verb, filter }: { verb: "cancel" | "retry"; filter: ListFilter }) {
  const { key } = useSession();
  const say = useSay();
  const call = useMutation(verb === "cancel" ? api.tasks.cancelMany : api.tasks.retryMany);
  const [counted, setCounted] = useState<{ matched: number; more: boolean } | Error | null>(null);

  const pages = async (dryRun: boolean, most: number): Promise<{ count: number; more: boolean }> => {
    let cursor: string | null = null;
    let count = 0;
    for (let page = 0; page < most; page++) {
      const answer: Bulk = await call({ key, filter, cursor, dryRun });
      count += dryRun ? answer.matched : answer.changed;
      cursor = answer.cursor;
      if (cursor === null) return { count, more: false };
    }
    return { count, more: true };
  };
  const look = async () => {
    setCounted(null);
    try {
      const { count: matched, more } = await pages(true, MOST_COUNTED);
      setCounted({ matched, more });
    } catch (error) {
      setCounted(error as Error);
    }
  };
  const act = async () => {
    try {
      const { count } = await pages(false, Infinity);
      say("done", `${verb === "cancel" ? "Cancelled" : "Retried"}: ${count} tasks`);
    } catch (error) {
      say("error", messageOf(error));
    }
  };
  const named = Object.entries(filter).map(([name, value]) => `${name} ${words(value)}`);
  const which =
    named.length === 0
      ? verb === "cancel"
        ? "every task that has not ended"
        : "every task that failed"
      : named.join(", ");
  return (
    <Confirm
      trigger={verb === "cancel" ? "Cancel all of these…" : "Retry all of these…"}
      title={verb === "cancel" ? "Cancel tasks" : "Retry tasks"}
      verb={verb === "cancel" ? "Cancel them" : "Retry them"}
      onOpen={() => void look()}
      onConfirm={act}
    >
      <p>{visible(which)}</p>
      {counted instanceof Error ? (
        <Problem error={counted} />
      ) : (
        <p role="status">
          {counted === null
            ? "Counting…"
            : `That is ${counted.more ? "more than " : ""}${counted.matched} ${counted.matched === 1 ? "task" : "tasks"} now.`}
        </p>
      )}
    </Confirm>
  );
}

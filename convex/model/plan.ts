/** Which waiting task goes to which worker. Pure, so that fairness and limits are tested as tables. */
import type { Doc, Id } from "../_generated/dataModel";

export type Waiting = Pick<Doc<"ready">, "_id" | "lane" | "queue" | "agent" | "kind" | "labels">;

export type Roster = {
  worker: Id<"workers">;
  session: Id<"sessions">;
  queues: string[];
  agents: string[];
  labels: string[];
  llm: boolean;
  free: number; // runs it can still take
};

/** A task, and the worker that is to have it. */
export type Assignable = { ready: Id<"ready">; worker: Id<"workers">; session: Id<"sessions"> };

/** Whether `worker` serves the queue of `task`, knows its agent and carries its labels. */
export function canRun(
  worker: Pick<Roster, "queues" | "agents" | "labels" | "llm">,
  task: Pick<Waiting, "queue" | "agent" | "kind" | "labels">,
): boolean {
  const knows = task.kind === "llm" ? worker.llm : worker.agents.includes(task.agent);
  return (
    knows && worker.queues.includes(task.queue) && task.labels.every((label) => worker.labels.includes(label))
  );
}

/**
 * Match waiting tasks with room, at most `batch` of them.
 *
 * Lanes take turns, one task each, so a long lane delays no short one; within a lane the order given is kept. A task goes
 * to the worker with the most room that can run it. A lane whose head fits nowhere is left out: all of a lane is alike.
 *
 * @param lanes - for each lane the head of its line, in order
 * @returns the picks; the lane that had the last turn; whether some lane still waits only because nobody has room for it
 */
export function plan(
  lanes: readonly (readonly Waiting[])[],
  workers: readonly Roster[],
  batch: number,
): { picks: Assignable[]; last: string | null; starved: boolean } {
  const free = new Map(workers.map((worker) => [worker.session, worker.free]));
  const open = lanes.flatMap((line) => {
    const head = line[0];
    return head === undefined
      ? []
      : [{ line, at: 0, able: workers.filter((worker) => canRun(worker, head)) }];
  });
  const picks: Assignable[] = [];
  let last: string | null = null;
  let starved = false;
  while (open.length > 0 && picks.length < batch) {
    for (let i = 0; i < open.length && picks.length < batch;) {
      const lane = open[i]!;
      const task = lane.line[lane.at];
      const worker = task && roomiest(lane.able, free);
      if (!task || !worker) {
        starved ||= task !== undefined;
        open.splice(i, 1);
        continue;
      }
      picks.push({ ready: task._id, worker: worker.worker, session: worker.session });
      free.set(worker.session, free.get(worker.session)! - 1);
      last = task.lane;
      lane.at += 1;
      i += 1;
    }
  }
  return { picks, last, starved };
}

function roomiest(able: readonly Roster[], free: ReadonlyMap<Id<"sessions">, number>): Roster | undefined {
  let best: Roster | undefined;
  let most = 0;
  for (const worker of able) {
    const room = free.get(worker.session)!;
    if (room > most) {
      best = worker;
      most = room;
    }
  }
  return best;
}

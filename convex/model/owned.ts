/**
 * What belongs to a task: deleted with it, and written to the archive with it. A table whose rows belong to a task is a line
 * here, every other one a line of `KEPT`; a test holds both lists to the schema.
 */
import type { Doc, Id, TableNames } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";

export type Owned = { table: TableNames; index: string; field: string; archived: boolean };
type Row = Doc<TableNames>;

const of = (table: TableNames, index: string, field: string): Owned => ({
  table,
  index,
  field,
  archived: false,
});
const archived = (owned: Owned): Owned => ({ ...owned, archived: true });

/** Found through the runs of a task. */
export const OF_RUN: readonly Owned[] = [
  of("chunks", "by_run_and_seq", "run"),
  of("progress", "by_run", "run"),
  of("watches", "by_run", "run"),
  of("pushes", "by_run", "run"),
  of("reservations", "by_run", "run"),
  of("spendings", "by_run", "run"),
];

/** Found through a task, in the order in which they are deleted; the task itself goes last. */
export const OF_TASK: readonly Owned[] = [
  archived(of("runs", "by_task_and_attempt", "task")), // each with what is of it
  archived(of("steps", "by_task_and_key", "task")), // each with its text
  archived(of("modelCalls", "by_task", "task")),
  archived(of("forks", "by_task", "task")),
  archived(of("signals", "by_task_and_id", "task")),
  archived(of("deps", "by_task", "task")),
  of("deps", "by_on_and_open", "on"),
  archived(of("children", "by_parent", "parent")),
  archived(of("members", "by_task", "task")), // each with the group that was made for the task
  archived(of("batchItems", "by_task", "task")),
  of("collectors", "by_task", "task"),
  of("ready", "by_task", "task"),
  of("delayed", "by_task", "task"),
  of("blocked", "by_task", "task"),
  of("waits", "by_task", "task"),
  archived(of("approvals", "by_task", "task")),
  of("balances", "by_task", "task"),
  of("budgets", "by_task_and_kind_and_name", "task"),
  archived(of("events", "by_task_and_at", "task")),
];

/** Tables whose rows belong to no task: when they go, and why not before. */
export const KEPT: Partial<Record<TableNames, string>> = {
  tasks: "last, once all that is theirs is gone",
  outputs: "with the task, run or step that names them",
  shares: "with the step or task",
  groups:
    "once complete for as long as a task is kept, and without members; one made for a task with that task",
  tallies: "with their group",
  purges: "by retention, when it is done with what they name",
  sessions: "once ended for as long as a task is kept, when no run is theirs",
  heartbeats: "with their session",
  workers: "with their last session, when they are not live; an endpoint's stand-in with the endpoint",
  limits: "never: configuration",
  counters: "by dispatch, when they are at rest",
  stickies: "by dispatch, past their time",
  endpoints: "when they are removed",
  endpointStates: "with their endpoint",
  endpointMessages: "by the endpoint's alarm, past their tolerance",
  stats: "after KEEP_STATS_MS",
  keys: "never: revoked ones tell who did what",
  agents: "never: configuration",
  capabilities: "with the agent",
  agentVersions: "by agents:sync, when an agent has too many",
  schedules: "when they are removed",
  triggers: "when they are removed",
  webhooks: "when they are removed",
  nonces: "by the watchdog, when they have expired",
  scheduleStates: "with their schedule",
  alarms: "when they ring, or whoever set them ends",
  loops: "never: one for each loop",
  loopState: "never: one for each loop",
  upkeep: "never: one for each kind",
  budgetWork: "when dispatch is done with it",
  freed: "when dispatch has settled them",
  controls: "when they are acknowledged, or their session ends",
  settlements: "when the settle loop is done with them",
  models: "by the models loop, when they neither cool nor were configured",
  modelLoads: "by the watchdog, after FORGET_MODEL_MS",
  modelShares: "by the models loop, when their session has ended and they count no more",
  modelReports: "when the models loop has settled them",
};

type Reader = {
  withIndex(
    index: string,
    range: (q: { eq(field: string, value: string): unknown }) => unknown,
  ): {
    take(n: number): Promise<Row[]>;
    paginate(page: {
      numItems: number;
      cursor: string | null;
    }): Promise<{ page: Row[]; isDone: boolean; continueCursor: string }>;
  };
};

/** The rows of one table that belong to a task or run, in the order of the index. */
export function rowsOf(ctx: QueryCtx, { table, index, field }: Owned, id: Id<"tasks"> | Id<"runs">) {
  // The test of the list holds each table, index and field to the schema.
  return (ctx.db.query(table) as unknown as Reader).withIndex(index, (q) => q.eq(field, id));
}

/** Why a task does not run now: all true reasons, in the order in which they stand in its way. Pure. */
import type { Doc } from "../_generated/dataModel";
import type { ApprovalWhy } from "../approval.validators";
import type { Reason } from "../limit.validators";
import { EACH, type Block, type Scope } from "./limits";
import { canRun } from "./plan";
import { short, waysOut } from "./versions";

/** What is known of a task and of all that could hold it back. Instants in milliseconds since the epoch. */
export type Facts = {
  now: number;
  task: Pick<
    Doc<"tasks">,
    | "status"
    | "queue"
    | "agent"
    | "kind"
    | "labels"
    | "cancelRequested"
    | "pauseRequested"
    | "error"
    | "endedAt"
    | "preparing"
    | "redo"
    | "fork"
    | "attempt"
    | "gathers"
    | "failures"
    | "retry"
  > & { _id: Doc<"tasks">["_id"] };
  /** The version of its agent that a worker must have. */
  version: string | undefined;
  lane: string;
  /** Its place in line, `more`: there are more before it than were counted; null when it is in none. */
  ahead: { count: number; more: boolean } | null;
  /** The row that holds it until a time, why it was set aside if it was, and whether it waits for a budget. */
  delayed: { dueAt: number; setAside: string | null; budget?: boolean } | null;
  /** The budget without which it cannot start. held: runs hold what is left. until: when its period is over. */
  budget?: { message: string; held: boolean; until: number | null } | null;
  /** Another submit under its key puts it off. */
  debounced?: boolean;
  /** What it comes after and has not ended. */
  after: { tasks: string[]; more: boolean; mode: "all" | "any" } | null;
  /** The event that it waits for; of a task that waits for its children, their group. */
  wait: { event: string; until: number | null; group: string | null } | null;
  /** What people are asked. */
  asked: { approval: string; tool: string; why: ApprovalWhy; expiresAt: number }[];
  run: {
    state: "assigned" | "running";
    worker: string;
    since: number;
    deadlineAt: number | null;
    silentMs: number | null;
  } | null;
  blocks: Block[];
  workers: (Pick<
    Doc<"workers">,
    "name" | "queues" | "agents" | "versions" | "forks" | "labels" | "llm" | "capacity" | "draining"
  > & {
    held: number;
  })[];
  /** The loops that count as at work and are not. */
  dead: Loop[];
};

type Loop = "dispatch" | "timers" | "settle";

export function reasons(facts: Facts): Reason[] {
  const { task } = facts;
  if (task.endedAt !== null) return [ended(facts)];
  const asked: Reason[] = [];
  if (task.cancelRequested) {
    asked.push(
      reason("cancel_requested", "Its cancellation was asked for.", "Its worker, or a grace period."),
    );
  }
  if (task.pauseRequested === true) {
    asked.push(reason("pause_requested", "Its pause was asked for.", "tasks resume."));
  }
  if (facts.run !== null) return [...asked, running(facts, facts.run)];
  return [
    ...asked,
    ...own(facts),
    ...budget(facts),
    ...dead(facts),
    ...facts.blocks.map(block),
    ...workers(facts),
    ...inLine(facts),
  ];
}

function reason(code: Reason["code"], message: string, clears: string, at: number | null = null): Reason {
  return { code, message, clears, at };
}

function ended({ task }: Facts): Reason {
  const why = task.error === null ? "" : `: ${task.error.message}`;
  const retry =
    task.redo === undefined ? "tasks retry." : "tasks retry: the model is asked for its last answer anew.";
  const again = task.status === "succeeded" ? "Nothing: it is done." : retry;
  return reason("ended", `It has ended: ${task.status}${why}`, again, task.endedAt);
}

function running(
  { now }: Facts,
  { state, worker, since, deadlineAt, silentMs }: NonNullable<Facts["run"]>,
): Reason {
  const for_ = seconds(now - since);
  if (state === "assigned") {
    const message = `It was given to the worker ${worker} ${for_} ago, which has not begun.`;
    return reason("assigned", message, "The worker, or else another once this one's time is up.", deadlineAt);
  }
  const silent = silentMs === null ? "" : `; silent for ${seconds(silentMs)}`;
  const message = `It runs on the worker ${worker} since ${for_}${silent}.`;
  return reason("running", message, "Its end.", deadlineAt);
}

/** What its own state says. */
function own({ task, delayed, debounced, after, wait, asked }: Facts): Reason[] {
  switch (task.status) {
    case "paused":
      return task.preparing === undefined
        ? [reason("paused", "It is paused.", "tasks resume.")]
        : [preparing(task.preparing)];
    case "delayed":
    case "sleeping": {
      const at = delayed?.dueAt ?? null;
      if (delayed?.setAside != null) {
        const message = `It was set aside, since dispatch could not handle it: ${delayed.setAside}`;
        return [reason("set_aside", message, "Time, or mending what it says.", at)];
      }
      if (delayed?.budget === true) return [];
      if (task.status === "sleeping") return [reason("sleeping", "It sleeps between two runs.", "Time.", at)];
      return [dueLater(task, debounced === true, at)];
    }
    case "waiting_event": {
      if (wait?.group != null) {
        const message = `It waits for the tasks that it has submitted (group ${wait.group}).`;
        return [reason("waiting_event", message, "The end of these tasks.")];
      }
      const event = wait === null ? "an event" : `the event ${JSON.stringify(wait.event)}`;
      return [
        reason(
          "waiting_event",
          `It waits for ${event}.`,
          "The event, or its time limit.",
          wait?.until ?? null,
        ),
      ];
    }
    case "waiting_approval":
      return asked.map(({ approval, tool, why, expiresAt }) => {
        const what = JSON.stringify(tool);
        const message =
          why === "in_doubt"
            ? `It waits for a person to say whether ${what} happened (approval ${approval}).`
            : `It waits for a person to approve ${what} (approval ${approval}).`;
        return reason("waiting_approval", message, "signalbox approvals approve or refuse.", expiresAt);
      });
    case "waiting": {
      const { tasks = [], more = false, mode = "all" } = after ?? {};
      if (tasks.length === 0 && !more) {
        return [reason("waiting", "All that it comes after has ended.", "The settle loop.")];
      }
      const named = `${tasks.join(", ")}${more ? " and more" : ""}`;
      const message = `It comes after ${mode === "any" ? "any" : "all"} of: ${named}.`;
      return [reason("waiting", message, "The end of these tasks.")];
    }
    default:
      return [];
  }
}

function dueLater(
  { attempt, error, failures, gathers, retry: { maxAttempts } }: Facts["task"],
  debounced: boolean,
  at: number | null,
): Reason {
  if (error !== null) {
    const message = `Its last run ended with ${error.code}, and it is tried again: ${failures} of ${maxAttempts} attempts are used up.`;
    return reason("delayed", message, "Time.", at);
  }
  if (debounced && attempt === 0) {
    const message = "It is debounced: each submit under its key puts it off.";
    return reason("delayed", message, "Time without another one.", at);
  }
  return gathers === true && attempt === 0
    ? reason("delayed", "It gathers a batch.", "Time, or the submit that fills the batch.", at)
    : reason("delayed", "It is due later.", "Time.", at);
}

function preparing(what: "restart" | "fork"): Reason {
  const message = `Its steps are being ${what === "fork" ? "copied" : "dropped, so that it begins anew"}.`;
  return reason("preparing", message, "The settle loop.");
}

/** What of a task its labels have not to do with has been looked at. */
const asLine = ({ queue, agent, kind, labels }: Facts["task"]) => ({ queue, agent, kind, labels });

function budget({ budget: short }: Facts): Reason[] {
  if (short == null) return [];
  const { message, held, until } = short;
  const clears = [
    ...(held ? ["The end of a run that holds some of it"] : []),
    ...(until === null ? [] : ["the end of its period"]),
    "a higher limit, or signalbox budgets clear.",
  ].join(", ");
  return [reason("budget", message, `${clears[0]!.toUpperCase()}${clears.slice(1)}`, until)];
}

function dead(facts: Facts): Reason[] {
  const needed = loopFor(facts);
  return needed !== null && facts.dead.includes(needed)
    ? [reason("loop_dead", `The ${needed} loop has died.`, "The watchdog, within a minute.")]
    : [];
}

/** The loop that takes the task on from where it is. */
function loopFor({ task: { status, preparing }, delayed }: Facts): Loop | null {
  switch (status) {
    case "pending":
      return "dispatch";
    case "waiting":
      return "settle";
    case "paused":
      return preparing === undefined ? null : "settle";
    case "delayed":
      return delayed?.budget === true ? "dispatch" : "timers";
    default:
      return "timers";
  }
}

const nameOf = ({ kind, name }: Scope): string =>
  kind === "system" ? "The system" : `The ${kind} ${JSON.stringify(name)}`;

/** How the command line names a scope. */
const optionOf = ({ kind, name }: Scope): string =>
  kind === "system" ? "" : ` --${kind} ${/^[\w.:/-]+$/.test(name) ? name : JSON.stringify(name)}`;

function block(held: Block): Reason {
  const scope = nameOf(held.scope);
  switch (held.code) {
    case "paused": {
      const said = [
        ...held.by.map(({ name }) => (name === EACH ? "is paused with all of its kind" : "is paused")),
        ...(held.zero ? ["has a limit of 0"] : []),
      ];
      const clears = held.by.map((rule) => `signalbox resume${optionOf(rule)}`);
      if (held.zero) clears.push(clears.length === 0 ? "A higher limit" : "a higher limit");
      return reason("scope_paused", `${scope} ${said.join(" and ")}.`, `${clears.join(", and ")}.`);
    }
    case "counting":
      return reason(
        "scope_counting",
        `${scope} has a new limit, and its live runs are being counted.`,
        "The count.",
      );
    case "limit": {
      const message = `${scope} has reached its limit: ${held.inUse} of ${held.limit} runs.`;
      return reason("scope_limit", message, "The end of one of these runs, or a higher limit.");
    }
    case "rate": {
      const { count, perMs } = held.rate;
      const message = `${scope} has used up its rate of ${count} starts in ${perMs} ms.`;
      return reason("scope_rate", message, "Its next token, or a higher rate.", held.at);
    }
  }
}

/** The first demand that no live worker meets, in the order queue, agent, version, labels, readiness, room. */
function workers({ task, version, workers: live }: Facts): Reason[] {
  const start = "Start one: signalbox worker.";
  if (live.length === 0) return [reason("no_worker", "No worker is live.", start)];
  const serving = live.filter((worker) => worker.queues.includes(task.queue));
  if (serving.length === 0) {
    const message = `None of ${live.length} live workers serves the queue ${task.queue}.`;
    return [reason("no_worker_for_queue", message, "A worker with this queue.")];
  }
  const knowing = serving.filter((worker) => canRun(worker, { ...asLine(task), labels: [] }));
  if (knowing.length === 0) {
    const what = task.kind === "llm" ? "has a model for its agent" : `knows the agent ${task.agent}`;
    const message = `None of ${serving.length} workers of its queue ${what}.`;
    return [reason("no_worker_for_agent", message, "A worker that brings it.")];
  }
  const same =
    version === undefined ? knowing : knowing.filter((worker) => hasVersion(worker, task, version));
  if (same.length === 0) {
    const had = [...new Set(knowing.map(({ versions }) => versions?.[task.agent]?.version ?? "untold"))];
    const message =
      `It began on version ${short(version!)} of the agent ${task.agent}, ` +
      `and none of ${knowing.length} workers that know it has that (they have: ${had.map(short).join(", ")}).`;
    const clears = `A worker with that version, ${waysOut(task._id)}.`;
    return [reason("no_worker_for_version", message, clears)];
  }
  const safe = same.filter((worker) => task.fork === undefined || worker.forks === true);
  if (safe.length === 0) {
    const message = `It is a fork, and none of ${same.length} workers that know its agent can keep it from effects.`;
    return [reason("no_worker_for_fork", message, "A worker of this version of Signalbox.")];
  }
  const able = safe.filter((worker) => canRun(worker, asLine(task)));
  if (able.length === 0) {
    const message = `None of ${safe.length} workers that know its agent carries all of its labels: ${task.labels.join(", ")}.`;
    return [reason("no_worker_for_labels", message, "A worker with these labels.")];
  }
  const open = able.filter((worker) => !worker.draining);
  if (open.length === 0) {
    const message = `All ${able.length} workers that can run it are draining.`;
    return [reason("draining", message, "A worker that is not.")];
  }
  const held = open.reduce((sum, worker) => sum + Math.min(worker.held, worker.capacity), 0);
  const capacity = open.reduce((sum, worker) => sum + worker.capacity, 0);
  if (held < capacity) return [];
  const message = `All ${open.length} workers that can run it are full: ${held} of ${capacity} runs.`;
  return [reason("full", message, "The end of a run there, or another worker.")];
}

const hasVersion = (worker: Facts["workers"][number], { agent }: Facts["task"], version: string) =>
  worker.versions?.[agent]?.version === version;

function inLine({ task, ahead }: Facts): Reason[] {
  if (task.status !== "pending" || ahead === null) return [];
  const { count, more } = ahead;
  const message =
    count === 0
      ? "It is the next of its lane."
      : `${more ? "At least " : ""}${count} of its lane go before it.`;
  return [reason("in_line", message, "Its turn.")];
}

function seconds(ms: number): string {
  return `${Math.max(0, ms / 1_000).toFixed(1)} s`;
}

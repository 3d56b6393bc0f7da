/** Which waiting task goes to which worker. Pure, so that fairness and limits are tested as tables. */
import type { Doc, Id } from "../_generated/dataModel";
import { precedes, type Block, type Ledger } from "./limits";

/** A lane with the head of its line, in order. `cut`: there may be more behind it. */
export type Line = Pick<Doc<"ready">, "lane" | "queue" | "agent" | "kind" | "labels" | "version" | "fork"> & {
  tasks: Waiting[];
  cut: boolean;
};

/** `prefer`: the worker that ran its sticky key last; `sticky`: that key, with its tenant. */
export type Waiting = {
  ready: Id<"ready">;
  prefer?: Id<"workers">;
  sticky?: { tenant: string; sticky: string };
};

/** Workers that are alike in what they can run. `free`: runs that one can still take. */
export type Pool = Pick<Doc<"workers">, "queues" | "agents" | "versions" | "forks" | "labels" | "llm"> & {
  profile: string;
  workers: { worker: Id<"workers">; session: Id<"sessions">; free: number }[];
};

/** A task, and the worker that is to have it. */
export type Assignable = {
  ready: Id<"ready">;
  worker: Id<"workers">;
  session: Id<"sessions">;
  sticky?: { tenant: string; sticky: string };
};

/** For each kind of worker the lane that had its last turn, and how much it has taken of a turn that is not over, else 0. */
export type Turns = Doc<"loopState">["turns"];

export type Plan = {
  picks: (Assignable & { lane: string })[];
  turns: Turns;
  /** Where in the circle of lanes to go on: at the lane whose turn is not over, or behind the one that had the last. */
  next: string | null;
  /** Some task waits for room in a worker, for a worker that can run it, or for room under a limit. */
  starved: boolean;
  /** When a lane that only a rate holds back may go on. */
  nextAt: number | null;
};

/** Whether `worker` serves the queue of `task`, knows its agent in the version that it needs, carries its labels, and keeps forks from effects if it is one. */
export function canRun(
  worker: Pick<Pool, "queues" | "agents" | "versions" | "forks" | "labels" | "llm">,
  task: Pick<Line, "queue" | "agent" | "kind" | "labels" | "version" | "fork">,
): boolean {
  const knows = worker.agents.includes(task.agent) || (task.kind === "llm" && worker.llm);
  const has = task.version === undefined || worker.versions?.[task.agent]?.version === task.version;
  return (
    knows &&
    has &&
    (task.fork === undefined || worker.forks === true) &&
    worker.queues.includes(task.queue) &&
    task.labels.every((label) => worker.labels.includes(label))
  );
}

/** The first place in the circle of lanes behind this one: no text lies between a text and itself with a NUL. */
export const behind = (lane: string): string => `${lane}\u0000`;

/**
 * Match waiting tasks with room, at most `batch` of them, and note in `ledger` what they take.
 *
 * A task goes to the worker with the most room, unless it prefers another that has some. For each kind of worker the lanes
 * that it can run take turns, of as many tasks as their weight says: so a long lane delays no short one, and a lane that
 * waits for one kind of worker loses no turn to those of another. A turn that ends with the pass goes on in the next; a lane
 * that is empty or held back loses the rest of it. Within a lane the order given is kept, and none of it is passed by: all of
 * a lane is alike.
 *
 * @param lines - in the order of their lanes, from anywhere in the circle
 */
export function plan(
  lines: readonly Line[],
  pools: readonly Pool[],
  ledger: Ledger,
  turns: Turns,
  batch: number,
): Plan {
  const queues = lines.map((line) => new Queue(line, ledger));
  const rings = pools.map((pool) => new Ring(pool, queues, turns[pool.profile]));
  const preferred = new Map<string, Id<"workers">>();
  const picks: Plan["picks"] = [];
  let next: string | null = null;
  while (picks.length < batch) {
    const first = roomiest(rings);
    if (first === null) break;
    const queue = first.ring.turn();
    if (queue === null) continue;
    const { ready, sticky, prefer } = queue.task;
    const key = sticky === undefined ? null : `${sticky.tenant}/${sticky.sticky}`;
    const wanted = (key === null ? undefined : preferred.get(key)) ?? prefer;
    const seat = (wanted === undefined ? undefined : seatOf(pools, wanted, queue.line)) ?? first.seat;
    if (key !== null) preferred.set(key, seat.worker);
    const { worker, session } = seat;
    picks.push({ ready, lane: queue.line.lane, worker, session, ...(sticky && { sticky }) });
    seat.free -= 1;
    queue.take();
    next = first.ring.took(queue);
  }
  const held = queues.flatMap((queue) => queue.heldBy());
  return {
    picks,
    turns: Object.fromEntries(rings.flatMap(({ pool, last }) => (last ? [[pool.profile, last]] : []))),
    next,
    starved: held.some((by) => by === "room" || by.code === "limit"),
    nextAt: earliest(held.map((by) => (by !== "room" && by.code === "rate" ? by.at : null))),
  };
}

export function earliest(times: readonly (number | null)[]): number | null {
  const known = times.filter((at) => at !== null);
  return known.length === 0 ? null : Math.min(...known);
}

/** A lane as the pass works it off. */
class Queue {
  #taken = 0;
  readonly weight: number;

  constructor(
    readonly line: Line,
    private readonly ledger: Ledger,
  ) {
    this.weight = ledger.weight(line.lane);
  }

  get task(): Waiting {
    return this.line.tasks[this.#taken]!;
  }

  /** All that was read of it is taken, and there may be more. */
  get cut(): boolean {
    return this.line.cut && this.#taken === this.line.tasks.length;
  }

  get open(): boolean {
    return this.#taken < this.line.tasks.length && this.ledger.blocks(this.line.lane).length === 0;
  }

  take(): void {
    this.ledger.take(this.line.lane);
    this.#taken += 1;
  }

  /** What the rest of it waits for: nothing when there is no rest. */
  heldBy(): (Block | "room")[] {
    if (this.#taken === this.line.tasks.length) return [];
    return [this.ledger.blocks(this.line.lane)[0] ?? "room"];
  }
}

/** The lanes that one kind of worker can run, in the order of their turns. */
class Ring {
  readonly #queues: Queue[];
  #at = 0;
  #used: number;
  done = false;

  constructor(
    readonly pool: Pool,
    queues: readonly Queue[],
    public last: Turns[string] | undefined,
  ) {
    const mine = queues.filter(({ line }) => canRun(pool, line));
    const start = last === undefined ? 0 : mine.findIndex(({ line }) => isNext(line.lane, last));
    this.#queues = start <= 0 ? mine : [...mine.slice(start), ...mine.slice(0, start)];
    this.#used = last !== undefined && this.#queues[0]?.line.lane === last.lane ? last.used : 0;
  }

  /** The lane whose turn it is; null when the pass has nothing more for this kind of worker. */
  turn(): Queue | null {
    while (this.#queues.length > 0) {
      this.#at %= this.#queues.length;
      const queue = this.#queues[this.#at]!;
      if (this.#used >= queue.weight) {
        this.#at += 1;
      } else if (queue.open) {
        return queue;
      } else if (queue.cut) {
        break; // its turn goes on in the next pass
      } else {
        this.#queues.splice(this.#at, 1);
      }
      this.#used = 0;
    }
    this.done = true;
    return null;
  }

  /** @returns where in the circle of lanes to go on */
  took({ line: { lane }, weight }: Queue): string {
    this.#used += 1;
    const over = this.#used >= weight;
    this.last = { lane, used: over ? 0 : this.#used };
    return over ? behind(lane) : lane;
  }
}

/** Whether `lane` comes next, in the order of lanes, after this turn. */
function isNext(lane: string, { lane: last, used }: Turns[string]): boolean {
  return used > 0 ? !precedes(lane, last) : precedes(last, lane);
}

type Seat = Pool["workers"][number];

function roomiest(rings: readonly Ring[]): { ring: Ring; seat: Seat } | null {
  let best: { ring: Ring; seat: Seat } | null = null;
  for (const ring of rings) {
    if (ring.done) continue;
    for (const seat of ring.pool.workers) {
      if (seat.free > (best?.seat.free ?? 0)) best = { ring, seat };
    }
  }
  return best;
}

/** A worker by its id, if it can run this and has room. */
function seatOf(pools: readonly Pool[], worker: Id<"workers">, line: Line): Seat | undefined {
  for (const pool of pools) {
    const seat = pool.workers.find((each) => each.worker === worker);
    if (seat !== undefined) return seat.free > 0 && canRun(pool, line) ? seat : undefined;
  }
  return undefined;
}

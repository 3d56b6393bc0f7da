/** What holds a lane back: limits, rates and pauses, and how many turns it gets. Pure: rows and time are passed in. */
import type { Doc } from "../_generated/dataModel";
import { MAX_WEIGHT } from "../constants";
import type { Rate, ScopeKind } from "../limit.validators";

export type Scope = { kind: ScopeKind; name: string };
export type Limit = Pick<
  Doc<"limits">,
  "kind" | "name" | "limit" | "rate" | "weight" | "paused" | "uncounted"
>;
export type Counter = Pick<Doc<"counters">, "kind" | "name" | "inUse" | "tokens" | "tokensAt" | "restsAt">;

/**
 * Why a lane may start nothing now. `by`: the rules that are paused, the scope's own or the default; `zero`: the limit is 0.
 * `at`: when the next token comes, in milliseconds since the epoch.
 */
export type Block =
  | { code: "paused"; scope: Scope; by: Scope[]; zero: boolean }
  | { code: "counting"; scope: Scope }
  | { code: "limit"; scope: Scope; inUse: number; limit: number }
  | { code: "rate"; scope: Scope; rate: Rate; at: number };

/** The name under which a kind of scope has its default: it holds for each name by itself. */
export const EACH = "*";
export const SYSTEM: Scope = { kind: "system", name: "" };
const A_TOKEN = 1 - 1e-9; // what is missing by the rounding of fractions is owed, not given

/** All scopes that a run of the lane counts for, the widest first. A lane is the text that `laneOf` makes. */
export function scopesOf(lane: string): Scope[] {
  const [queue = "", agent = "", labels = "", tenant = ""] = lane.split("/", 4);
  const key = lane.slice(queue.length + agent.length + labels.length + tenant.length + 4);
  return [
    SYSTEM,
    { kind: "queue", name: queue },
    { kind: "agent", name: agent },
    { kind: "tenant", name: tenant },
    ...(key === "" ? [] : [{ kind: "key", name: key } as const]),
    { kind: "lane", name: lane },
  ];
}

const hasDefault = (kind: ScopeKind): boolean => kind !== "system" && kind !== "lane";

/** The rules that hold for a scope: its own, and the default of its kind. */
export function rulesOf({ kind, name }: Scope): Scope[] {
  return hasDefault(kind)
    ? [
        { kind, name },
        { kind, name: EACH },
      ]
    : [{ kind, name }];
}

export const idOf = ({ kind, name }: Scope): string => `${kind} ${name}`;

export type Bucket = { tokens: number; tokensAt: number };

/** The bucket at `now`: it fills steadily up to its burst. A clock that went back takes nothing away. */
export function refill({ tokens, tokensAt }: Bucket, { count, perMs, burst }: Rate, now: number): Bucket {
  const since = Math.max(0, now - tokensAt);
  return { tokens: Math.min(burst, tokens + (since * count) / perMs), tokensAt: Math.max(now, tokensAt) };
}

/** When the bucket next holds a token: now, or a whole millisecond later on. */
export function nextTokenAt(bucket: Bucket, rate: Rate, now: number): number {
  const { tokens, tokensAt } = refill(bucket, rate, now);
  return tokens >= A_TOKEN ? now : tokensAt + Math.ceil(((1 - tokens) * rate.perMs) / rate.count - 1e-6);
}

/** A scope with its rules resolved and its counter. */
type Gate = {
  scope: Scope;
  limit: number | null;
  rate: Rate | null;
  weight: number;
  pausedBy: Scope[];
  counted: boolean; // its runs are counted, since it had a limit or by a census
  inUse: number;
  bucket: Bucket | null; // null: full
  touched: boolean;
};

/**
 * The books of dispatch over one pass: which lanes may start, and what starting takes. A scope's own rule wins field by
 * field over the default of its kind; what neither says is without bounds.
 */
export class Ledger {
  readonly #rules = new Map<string, Limit | null>();
  readonly #counters = new Map<string, Counter | null>();
  readonly #gates = new Map<string, Gate | null>();
  readonly #lanes = new Map<string, Gate[]>();

  /** @param whole - `limits` are all there are: what is not among them has no rule */
  constructor(
    readonly now: number,
    limits: readonly Limit[] = [],
    counters: readonly Counter[] = [],
    readonly whole = true,
  ) {
    for (const limit of limits) this.#rules.set(idOf(limit), limit);
    for (const counter of counters) this.#counters.set(idOf(counter), counter);
  }

  /** No rule stands at all. */
  get idle(): boolean {
    return this.whole && this.#rules.size === 0;
  }

  get limits(): Limit[] {
    return [...this.#rules.values()].filter((rule) => rule !== null);
  }

  get counters(): Counter[] {
    return [...this.#counters.values()].filter((counter) => counter !== null);
  }

  /** The rules of a lane that are not known yet. */
  missingRules(lane: string): Scope[] {
    if (this.whole) return [];
    return scopesOf(lane)
      .flatMap(rulesOf)
      .filter((rule) => !this.#rules.has(idOf(rule)));
  }

  learnRule(rule: Scope, found: Limit | null): void {
    this.#rules.set(idOf(rule), found);
  }

  /** The counters that a lane's rules need and that are not known yet; its rules are known. */
  missingCounters(lane: string): Scope[] {
    return scopesOf(lane).filter((scope) => {
      if (this.#counters.has(idOf(scope))) return false;
      return rulesOf(scope).some((rule) => {
        const found = this.#rules.get(idOf(rule));
        return found != null && (found.limit !== null || found.rate !== null);
      });
    });
  }

  learnCounter(scope: Scope, found: Counter | null): void {
    this.#counters.set(idOf(scope), found);
  }

  /** Everything that keeps a run of the lane from starting now, the widest scope first. */
  blocks(lane: string): Block[] {
    return this.#gatesOf(lane).flatMap((gate): Block[] => {
      const { scope, pausedBy: by } = gate;
      const zero = gate.limit === 0;
      if (by.length > 0 || zero) return [{ code: "paused", scope, by, zero }];
      const blocks: Block[] = [];
      if (gate.limit !== null) {
        if (!gate.counted) blocks.push({ code: "counting", scope });
        else if (gate.inUse >= gate.limit)
          blocks.push({ code: "limit", scope, inUse: gate.inUse, limit: gate.limit });
      }
      if (gate.rate !== null && gate.bucket !== null) {
        const at = nextTokenAt(gate.bucket, gate.rate, this.now);
        if (at > this.now) blocks.push({ code: "rate", scope, rate: gate.rate, at });
      }
      return blocks;
    });
  }

  /** A run of the lane starts. */
  take(lane: string): void {
    for (const gate of this.#gatesOf(lane)) {
      if (gate.limit !== null) gate.inUse += 1;
      if (gate.rate !== null) {
        const full = { tokens: gate.rate.burst, tokensAt: this.now };
        const bucket = gate.bucket === null ? full : refill(gate.bucket, gate.rate, this.now);
        gate.bucket = { ...bucket, tokens: bucket.tokens - 1 };
      }
      gate.touched ||= gate.limit !== null || gate.rate !== null;
    }
  }

  /** A run that was to start did not, after all. */
  putBack(lane: string): void {
    for (const gate of this.#gatesOf(lane)) {
      if (gate.limit !== null) gate.inUse -= 1;
      if (gate.bucket !== null) gate.bucket = { ...gate.bucket, tokens: gate.bucket.tokens + 1 };
    }
  }

  /** Runs of the lane have ended. A scope that is not counted yet does not know of them. */
  release(lane: string, runs: number): void {
    for (const gate of this.#gatesOf(lane)) {
      if (gate.limit === null || !gate.counted) continue;
      gate.inUse = Math.max(0, gate.inUse - runs);
      gate.touched = true;
    }
  }

  /**
   * How many tasks the lane may start in one turn: the product of the weights of its scopes, since they are shares along
   * different lines; at most MAX_WEIGHT, so that a turn is never longer than a pass.
   */
  weight(lane: string): number {
    let product = 1;
    for (const gate of this.#gatesOf(lane)) product = Math.min(MAX_WEIGHT, product * gate.weight);
    return product;
  }

  /** The counters that have changed; null for a scope at rest, with nothing in use and its bucket full. */
  changed(): { scope: Scope; counter: Counter | null }[] {
    return [...this.#gates.values()].flatMap((gate): { scope: Scope; counter: Counter | null }[] => {
      if (!gate?.touched) return [];
      const { scope, rate } = gate;
      const inUse = gate.limit === null ? 0 : gate.inUse;
      const bucket = rate === null || gate.bucket === null ? null : refill(gate.bucket, rate, this.now);
      if (bucket === null || bucket.tokens >= rate!.burst) {
        const counter = { ...scope, inUse, tokens: null, tokensAt: 0, restsAt: null };
        return [{ scope, counter: inUse === 0 ? null : counter }];
      }
      const fullAt = bucket.tokensAt + ((rate!.burst - bucket.tokens) * rate!.perMs) / rate!.count;
      return [{ scope, counter: { ...scope, inUse, ...bucket, restsAt: inUse === 0 ? fullAt : null } }];
    });
  }

  #gatesOf(lane: string): Gate[] {
    if (this.idle) return [];
    let gates = this.#lanes.get(lane);
    if (gates === undefined) {
      gates = scopesOf(lane).flatMap((scope) => this.#gateOf(scope) ?? []);
      this.#lanes.set(lane, gates);
    }
    return gates;
  }

  #gateOf(scope: Scope): Gate | null {
    const id = idOf(scope);
    const known = this.#gates.get(id);
    if (known !== undefined) return known;
    const rules = rulesOf(scope).flatMap((rule) => this.#rules.get(idOf(rule)) ?? []);
    const first = <T>(values: (T | null)[]): T | null => values.find((value) => value !== null) ?? null;
    const counter = this.#counters.get(id) ?? null;
    const gate: Gate | null =
      rules.length === 0
        ? null
        : {
            scope,
            limit: first(rules.map((rule) => rule.limit)),
            rate: first(rules.map((rule) => rule.rate)),
            weight: first(rules.map((rule) => rule.weight)) ?? 1,
            pausedBy: rules.filter((rule) => rule.paused).map(({ kind, name }) => ({ kind, name })),
            counted: rules.some((rule) => rule.limit !== null && isCounted(rule, scope.name)),
            inUse: counter?.inUse ?? 0,
            bucket: counter?.tokens == null ? null : { tokens: counter.tokens, tokensAt: counter.tokensAt },
            touched: false,
          };
    this.#gates.set(id, gate);
    return gate;
  }
}

export function isCounted({ uncounted }: Pick<Limit, "uncounted">, name: string): boolean {
  return uncounted === null || precedes(name, uncounted);
}

/** Whether `a` comes before `b` in an index: by code points, and not by UTF-16 units as `<` has it. */
export function precedes(a: string, b: string): boolean {
  let i = 0;
  while (i < a.length && i < b.length && a.charCodeAt(i) === b.charCodeAt(i)) i += 1;
  if (i === a.length || i === b.length) return a.length < b.length;
  return codeOrder(a.charCodeAt(i)) < codeOrder(b.charCodeAt(i));
}

/** Halves of pairs stand for code points behind all that fit into one unit. */
function codeOrder(unit: number): number {
  if (unit >= 0xe000) return unit - 0x800;
  return unit >= 0xd800 ? unit + 0x2000 : unit;
}

export type Census = {
  /** What each counter of a scope that is counted now is to say; the others of the kind in this range are at rest. */
  counts: Map<string, number>;
  /** From which name on scopes are still to be counted; null when that was all. */
  uncounted: string | null;
};

/**
 * Count the live runs of the scopes that a rule is for, at most `names` of them, from the name on where the last count ended.
 *
 * @param lanes - the lanes of all live runs, each with how many there are
 * @param known - names of scopes that have a counter, from that name on, in order: it may be out of date
 */
export function countFor(
  rule: Pick<Limit, "kind" | "name" | "uncounted">,
  lanes: readonly (readonly [lane: string, runs: number])[],
  known: readonly string[],
  names: number,
): Census {
  const counts = new Map<string, number>();
  for (const [lane, runs] of lanes) {
    const scope = scopesOf(lane).find(({ kind }) => kind === rule.kind);
    if (scope === undefined) continue;
    if (rule.name === EACH && hasDefault(rule.kind) ? isCounted(rule, scope.name) : scope.name !== rule.name)
      continue;
    counts.set(scope.name, (counts.get(scope.name) ?? 0) + runs);
  }
  if (!(rule.name === EACH && hasDefault(rule.kind))) {
    return { counts: new Map([[rule.name, counts.get(rule.name) ?? 0]]), uncounted: null };
  }
  for (const name of known) if (!counts.has(name)) counts.set(name, 0);
  const order = [...counts.keys()].sort((a, b) => (precedes(a, b) ? -1 : 1));
  const page = order.slice(0, names);
  return { counts: new Map(page.map((name) => [name, counts.get(name)!])), uncounted: order[names] ?? null };
}

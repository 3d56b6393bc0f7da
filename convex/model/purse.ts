/** What budgets allow: how much a run is allotted, when it waits, when a budget is spent. Pure. */
import type { Amounts, Budget, Caps } from "../budget.validators";

export const UNITS = ["micros", "tokens", "calls", "ms"] as const;
export type Unit = (typeof UNITS)[number];

export const NOTHING: Amounts = { micros: 0, tokens: 0, calls: 0, ms: 0 };
export const UNBOUND: Caps = { micros: null, tokens: null, calls: null, ms: null };

/**
 * What a run is given at a time, and at most a thirty-second of the whole: so much lies idle in a run that thinks, and more
 * of it would keep others waiting; less of it would cost more requests. A run that needs more for one call asks for it.
 */
const SLICE: Amounts = { micros: 200_000, tokens: 50_000, calls: 8, ms: 600_000 };
const SLICES = 32;

/** A budget as it stands for one who spends from it. */
export type Balance = Pick<Budget, "caps" | "onBreach" | "unpriced"> & {
  spent: Amounts;
  held: Amounts; // by live runs, those that are to be given more included
  paused: boolean;
};

export function added(a: Amounts, b: Amounts): Amounts {
  return each((unit) => a[unit] + b[unit]);
}

/** `a` without `b`, and never below nothing. */
export function without(a: Amounts, b: Amounts): Amounts {
  return each((unit) => Math.max(0, a[unit] - b[unit]));
}

function each<T>(value: (unit: Unit) => T): Record<Unit, T> {
  return { micros: value("micros"), tokens: value("tokens"), calls: value("calls"), ms: value("ms") };
}

/** Whether runs go on when it is spent. */
export const isSoft = ({ onBreach }: Pick<Budget, "onBreach">): boolean =>
  onBreach === "warn" || onBreach === "degrade";

/** What one run is given at a time; null where it is not limited. */
export function sliceOf(caps: Caps): Caps {
  return each((unit) => {
    const cap = caps[unit];
    return cap === null ? null : Math.max(1, Math.min(SLICE[unit], Math.ceil(cap / SLICES)));
  });
}

/** The first limit that is reached, by what is spent alone; null: there is something left of each. */
export function spentUnit({ caps, spent }: Pick<Balance, "caps" | "spent">): Unit | null {
  return UNITS.find((unit) => caps[unit] !== null && spent[unit] >= caps[unit]) ?? null;
}

/** What is neither spent nor held of a limit. */
function left({ caps, spent, held }: Balance, unit: Unit): number {
  const cap = caps[unit];
  return cap === null ? Infinity : cap - spent[unit] - held[unit];
}

/**
 * granted: so much more; null where nothing limits it. wait: what is left is held by others, who give back what they do not
 * use. spent: the balance at `at` is used up, or paused.
 */
export type Decision =
  { kind: "granted"; more: Caps } | { kind: "wait"; at: number } | { kind: "spent"; at: number };

/**
 * What a run that begins is given: a slice, or what is left if that is less. It holds nothing yet. Under a spent budget that
 * asks it begins with nothing, and asks when it needs something.
 *
 * @param balances - all that it spends from
 */
export function start(balances: readonly Balance[]): Decision {
  return decide(balances, NOTHING, true);
}

/**
 * What a run is given that needs more. What it had and has not reserved is given back already, so those who wait hold
 * nothing but the calls that are under way, and nobody waits for somebody who waits for him.
 *
 * A call that needs more than is left is let through when nothing else is held, so the last of a budget can be used: by at
 * most this one call it is passed.
 */
export function top(balances: readonly Balance[], need: Amounts): Decision {
  return decide(balances, need);
}

function decide(balances: readonly Balance[], need: Amounts, begins = false): Decision {
  const asksLater = (balance: Balance) =>
    begins && balance.onBreach === "ask" && spentUnit(balance) !== null && !balance.paused;
  const hard = balances
    .map((balance, at) => ({ balance, at }))
    .filter(({ balance }) => !isSoft(balance) && !asksLater(balance));
  for (const { balance, at } of hard) {
    if (balance.paused || spentUnit(balance) !== null) return { kind: "spent", at };
  }
  for (const { balance, at } of hard) {
    for (const unit of UNITS) {
      const room = left(balance, unit);
      if (room <= 0 || (room < need[unit] && balance.held[unit] > 0)) return { kind: "wait", at };
    }
  }
  const more = each((unit): number | null => {
    let given: number | null = null;
    for (const balance of balances) {
      const slice = sliceOf(balance.caps)[unit];
      if (slice === null) continue;
      const most = isSoft(balance) ? slice : Math.max(0, Math.min(slice, left(balance, unit)));
      given = Math.min(given ?? Infinity, most);
    }
    return given === null ? null : Math.max(given, need[unit]);
  });
  return { kind: "granted", more };
}

/** Whether the cheapest model is to be taken. */
export function isDegraded(balances: readonly Balance[]): boolean {
  return balances.some((balance) => balance.onBreach === "degrade" && spentUnit(balance) !== null);
}

/** What a token of a model without a price counts; null: such a model is refused. The dearest that is stated. */
export function unpricedOf(balances: readonly Balance[]): number | null {
  const stated = balances.filter(({ caps }) => caps.micros !== null).map(({ unpriced }) => unpriced);
  return stated.some((price) => price === null) ? null : Math.max(0, ...stated.map((price) => price ?? 0));
}

/**
 * What a run has cost that has ended. Of one whose worker died nothing is known of the calls that were under way: what was
 * reserved for them counts as spent.
 *
 * @param ms - how long it ran
 */
export function finalSpend(
  told: { spent: Amounts; reserved: Amounts } | null,
  lost: boolean,
  ms: number,
): Amounts {
  if (told === null) return { ...NOTHING, ms };
  return { ...(lost ? added(told.spent, told.reserved) : told.spent), ms };
}

/** How many more runs what is left could begin. */
export function roomFor(balance: Balance): number {
  if (isSoft(balance)) return Infinity;
  if (balance.paused) return 0;
  const slice = sliceOf(balance.caps);
  return Math.min(
    ...UNITS.map((unit) => (slice[unit] === null ? Infinity : Math.ceil(left(balance, unit) / slice[unit]))),
  );
}

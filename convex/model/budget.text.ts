/** Budgets in the words of people. Pure. */
import type { Amounts, Budget } from "../budget.validators";
import { spentUnit, UNITS, type Unit } from "./purse";

type Known = {
  budget: Pick<Budget, "kind" | "name" | "period" | "caps">;
  scope: string;
  balance: { spent: Amounts; held: Amounts; paused: boolean };
};

/** A budget by its name: `the budget of the tenant "acme" for this day`. */
function nameOf({ budget: { kind, name, period }, scope }: Omit<Known, "balance">): string {
  const who =
    kind === "all"
      ? "of everything"
      : kind === "task"
        ? "of the task"
        : `of the ${kind} ${JSON.stringify(each(name, scope))}`;
  const when = { total: "", day: " for this day", month: " for this month", run: " for each run" }[period];
  return `the budget ${who}${when}`;
}

const each = (name: string, scope: string): string => (name === "*" ? scope : name);

/** How a budget stands that keeps somebody from going on. */
export function told(known: Known): string {
  const { caps } = known.budget;
  const { spent, held, paused } = known.balance;
  const unit = spentUnit({ caps, spent }) ?? UNITS.find((one) => caps[one] !== null) ?? "calls";
  const cap = caps[unit] ?? 0;
  const also = held[unit] > 0 ? `, and live runs hold ${amount(unit, held[unit])}` : "";
  const used = spent[unit] >= cap ? "is spent" : paused ? "is paused" : "has no room";
  const name = nameOf(known);
  return `${name[0]!.toUpperCase()}${name.slice(1)} ${used}: ${amount(unit, spent[unit])} of ${amount(unit, cap)}${also}.`;
}

/** An amount with its unit: micro-dollars as dollars, milliseconds as seconds. */
export function amount(unit: Unit, value: number): string {
  switch (unit) {
    case "micros":
      return `$${(value / 1e6).toFixed(value % 10_000 === 0 ? 2 : 6)}`;
    case "tokens":
      return `${value} tokens`;
    case "calls":
      return `${value} calls`;
    case "ms":
      return `${(value / 1_000).toFixed(1)} s`;
  }
}

/** Which task comes after which. Pure: refs and cycles within a call, and what follows from the end of a dependency. */
import type { AfterMode, OnFailure, TaskSpec, TaskStatus } from "../validators";

export type Refused = { field: string; why: string };

/**
 * The order in which the specs of a call are taken, so that each comes behind those of the same call that it waits for; or
 * why an item cannot be taken: its ref is given twice, it names a ref that no item has, or it waits for itself, at whatever
 * distance.
 *
 * @returns the indices of `specs` in order, those that cannot be taken left out; for each of these the reason; and for each
 *   spec the refs that it waits for, as indices
 */
export function arrange(specs: readonly Pick<TaskSpec, "ref" | "after">[]): {
  order: number[];
  refused: Map<number, Refused>;
  refs: Map<string, number>;
} {
  const refused = new Map<number, Refused>();
  const refs = new Map<string, number>();
  specs.forEach(({ ref }, i) => {
    if (ref === undefined) return;
    if (refs.has(ref)) refused.set(i, { field: "ref", why: `${quoted(ref)} is given twice in this call` });
    else refs.set(ref, i);
  });
  const needs = specs.map(({ after = [] }, i) => {
    const found: number[] = [];
    after.forEach(({ on }, at) => {
      if (!on.startsWith("#")) return;
      const target = refs.get(on.slice(1));
      const field = `after[${at}].on`;
      if (target === undefined)
        refused.set(i, { field, why: `no task of this call has the ref ${quoted(on.slice(1))}` });
      else if (target === i) refused.set(i, { field, why: "a task cannot wait for itself" });
      else found.push(target);
    });
    return found;
  });
  // Kahn's algorithm, in the order given wherever that is free.
  const followers = specs.map((): number[] => []);
  const missing = needs.map((targets) => targets.length);
  needs.forEach((targets, i) => {
    for (const target of targets) followers[target]!.push(i);
  });
  const order: number[] = [];
  const free = specs.flatMap((_, i) => (missing[i] === 0 ? [i] : []));
  for (let at = 0; at < free.length; at++) {
    const next = free[at]!;
    order.push(next);
    for (const follower of followers[next]!) if (--missing[follower]! === 0) free.push(follower);
  }
  const reached = new Set(order);
  specs.forEach((_, i) => {
    if (reached.has(i) || refused.has(i)) return;
    refused.set(i, { field: "after", why: `it waits for itself: ${cycleFrom(i, needs, reached, specs)}` });
  });
  return { order: order.filter((i) => !refused.has(i)), refused, refs };
}

/** The circle that keeps item `i` from being reached: itself in one, or behind one. */
function cycleFrom(
  i: number,
  needs: readonly number[][],
  reached: ReadonlySet<number>,
  specs: readonly Pick<TaskSpec, "ref">[],
): string {
  const path: number[] = [];
  let at = i;
  while (!path.includes(at)) {
    path.push(at);
    at = needs[at]!.find((target) => !reached.has(target))!;
  }
  const circle = [...path.slice(path.indexOf(at)), at].map((k) => `#${specs[k]!.ref ?? k}`);
  return circle.join(" waits for ");
}

const quoted = (text: string) => JSON.stringify(text.slice(0, 80));

export type Edge = { onFailure: OnFailure; status: TaskStatus | null }; // null: it has not ended

export type Standing =
  { now: "wait"; open: number } | { now: "run" } | { now: "fail" | "skip"; because: number }; // the index of the edge that decided

/**
 * Where a task stands, given its edges.
 *
 * all: it runs when every dependency has succeeded, or not succeeded under the policy `run`; the first that did not succeed
 * under another policy decides at once, `fail` before `skip` when both are known together.
 * any: it runs when the first dependency has succeeded. When all have ended and none has, the mildest policy among them
 * decides: `run`, then `skip`, then `fail`.
 */
export function standing(mode: AfterMode, edges: readonly Edge[]): Standing {
  const open = edges.filter((edge) => edge.status === null).length;
  const unmet = (policy: OnFailure) =>
    edges.findIndex(
      (edge) => edge.status !== null && edge.status !== "succeeded" && edge.onFailure === policy,
    );
  if (mode === "all") {
    for (const policy of ["fail", "skip"] as const) {
      if (unmet(policy) >= 0) return { now: policy, because: unmet(policy) };
    }
    return open === 0 ? { now: "run" } : { now: "wait", open };
  }
  if (edges.some((edge) => edge.status === "succeeded")) return { now: "run" };
  if (open > 0) return { now: "wait", open };
  if (edges.length === 0 || unmet("run") >= 0) return { now: "run" };
  return unmet("skip") >= 0
    ? { now: "skip", because: unmet("skip") }
    : { now: "fail", because: unmet("fail") };
}

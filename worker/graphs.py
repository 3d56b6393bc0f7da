"""Graphs of tasks that are larger than a call: their order, and what each task is known by. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence

from worker.errors import InvalidArgument
from worker.groups import After
from worker.specs import Submitted, TaskSpec

MAX_GRAPH = 10_000  # tasks: 50 calls or more, each a transaction of its own
_SHOWN = 10  # tasks of a circle in a line


def order_of(specs: Sequence[TaskSpec]) -> list[int]:
    """Return the places of the tasks of a graph, each behind those that it waits for.

    An order that is one already stays as it is; else the task that was given first goes first wherever that
    is free.

    Raises:
        InvalidArgument: The graph is too large, a ref is given twice or belongs to no task, or tasks wait for
            each other. The line names the task.
    """
    if len(specs) > MAX_GRAPH:
        raise InvalidArgument(
            f"graph: {len(specs)} tasks, at most {MAX_GRAPH}. Submit it in parts, which name tasks by id."
        )
    needs = _needs_of(specs)
    followers: list[list[int]] = [[] for _ in specs]
    missing = [len(targets) for targets in needs]
    for i, targets in enumerate(needs):
        for target in targets:
            followers[target].append(i)
    free = [i for i, count in enumerate(missing) if count == 0]
    order: list[int] = []
    while free:
        order.append(done := heapq.heappop(free))
        for follower in followers[done]:
            missing[follower] -= 1
            if missing[follower] == 0:
                heapq.heappush(free, follower)
    if len(order) < len(specs):
        raise InvalidArgument(f"graph: tasks wait for each other: {_circle(specs, needs, set(order))}.")
    return order


def _needs_of(specs: Sequence[TaskSpec]) -> list[list[int]]:
    refs: dict[str, int] = {}
    for i, spec in enumerate(specs):
        if spec.ref is not None and refs.setdefault(spec.ref, i) != i:
            raise InvalidArgument(
                f"{_name(specs, i)}: ref: task {refs[spec.ref] + 1} has it too; give each its own."
            )
    needs: list[list[int]] = []
    for i, spec in enumerate(specs):
        targets: list[int] = []
        for at, edge in enumerate(spec.after or ()):
            if not edge.on.startswith("#"):
                continue
            target = refs.get(edge.on[1:])
            if target is None:
                raise InvalidArgument(
                    f"{_name(specs, i)}: after[{at}].on: no task of the graph has the ref {edge.on[1:81]!r}."
                )
            targets.append(target)
        needs.append(targets)
    return needs


def _name(specs: Sequence[TaskSpec], i: int) -> str:
    ref = specs[i].ref
    return f"task {i + 1}" if ref is None else f"task {i + 1} (#{ref[:80]})"


def _circle(specs: Sequence[TaskSpec], needs: Sequence[Sequence[int]], reached: set[int]) -> str:
    # Whoever was not reached waits for another that was not, so this walk comes round.
    path: list[int] = []
    places: dict[int, int] = {}
    at = next(i for i in range(len(specs)) if i not in reached)
    while at not in places:
        places[at] = len(path)
        path.append(at)
        at = next(target for target in needs[at] if target not in reached)
    circle = [*path[places[at] :], at]
    named = [f"#{specs[i].ref}" for i in circle]
    if len(named) > _SHOWN:
        named = [*named[: _SHOWN - 1], f"{len(named) - _SHOWN} more", named[-1]]
    return " waits for ".join(named)


def with_keys(specs: Iterable[TaskSpec], base: str) -> Iterator[TaskSpec]:
    """Yield each task with a dedup key: its own, else `base` with its ref, or with its place."""
    for place, spec in enumerate(specs):
        own = place if spec.ref is None else f"#{spec.ref}"
        yield spec if spec.dedup_key is not None else spec.model_copy(update={"dedup_key": f"{base}/{own}"})


def resolved(spec: TaskSpec, answers: Mapping[str, Submitted | Exception]) -> TaskSpec | InvalidArgument:
    """Return a task with the ids of those that it waits for in place of refs, where these are known.

    Args:
        spec: The task.
        answers: By ref, what became of the tasks of earlier pages, and of those that are not sent.

    Returns:
        The task, or why it cannot be submitted: one that it waits for was refused.
    """
    if not any(edge.on[1:] in answers for edge in spec.after or () if edge.on.startswith("#")):
        return spec
    edges: list[After] = []
    for at, edge in enumerate(spec.after or ()):
        ref = edge.on[1:]
        answer = answers.get(ref) if edge.on.startswith("#") else None
        if isinstance(answer, Exception):
            return InvalidArgument(f"after[{at}].on: #{ref} was refused: {answer}")
        edges.append(edge if answer is None else edge.model_copy(update={"on": answer.task, "ref": ref}))
    return spec.model_copy(update={"after": edges})

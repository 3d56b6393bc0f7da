"""Submitting: one task, many page by page, or a graph of tasks that wait for each other."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

from worker import graphs
from worker.backend import Json
from worker.errors import PayloadTooLarge, function_error
from worker.specs import Submitted, TaskSpec

SUBMIT_PAGE = 200  # tasks in a call, as the control plane bounds it
SUBMIT_EDGES = 2_000  # dependencies in a call, likewise
SUBMIT_BYTES = 4 * 1024 * 1024  # of inputs in a call, a quarter of what a mutation's arguments may hold
MAX_INPUT_BYTES = 8 * 1024 * 1024  # of one task; a larger one than a page goes alone


class Submits:
    """`tasks:submit`; part of `worker.client.Client`."""

    async def _mutation(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    async def submit(self, spec: TaskSpec) -> Submitted:
        """Submit one task; it is durable when this returns.

        Raises:
            FunctionFailed: It was refused, for example `UnknownAgent` or `PayloadTooLarge`.
        """
        (answer,) = await self.submit_many([spec])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def submit_many(self, specs: Iterable[TaskSpec]) -> list[Submitted | Exception]:
        """Submit tasks page by page and return for each, in order, what became of it.

        When a page cannot be delivered in time the error is raised, and the pages before it stand: with
        dedup keys of their own the same tasks can be submitted again. Refs hold within a page of SUBMIT_PAGE
        tasks: `submit_graph` has no such bound.
        """
        return [answer async for answer in self.submit_each(specs)]

    async def submit_each(self, specs: Iterable[TaskSpec]) -> AsyncIterator[Submitted | Exception]:
        """Submit tasks page by page as they are drawn, and yield for each, in order, what became of it.

        A page is repeated while its answer is lost, and no repeat makes a task twice.
        """
        for page in _pages(_with_dedup_key(spec) for spec in specs):
            for answer in await self._submit_page(page):
                yield answer

    async def submit_graph(
        self, specs: Sequence[TaskSpec], *, dedup_key: str | None = None
    ) -> list[Submitted | Exception]:
        """Submit up to 10,000 tasks that wait for each other by `ref`; return for each what became of it.

        They go page by page, each task behind those that it waits for, and begin as they come: a reader sees
        at any time tasks whose dependencies are all there. A task whose dependency was refused is refused. A
        group that they join is complete only once it is sealed: seal it when this has returned.

        Args:
            specs: In any order.
            dedup_key: The name of this submission: a task without a dedup key gets one of it and its ref, or
                of it and its place. The same graph again makes none of its tasks twice and goes on where it
                was interrupted. None: a new name, which this call alone repeats.

        Raises:
            InvalidArgument: It is no such graph; nothing was submitted.
            TransportError: A page could not be delivered in time; those before it stand.
        """
        order = graphs.order_of(specs)
        named = list(graphs.with_keys(specs, dedup_key or f"call-{uuid.uuid4()}"))
        answers: dict[int, Submitted | Exception] = {}
        by_ref: dict[str, Submitted | Exception] = {}
        for page in _pages(named[i] for i in order):
            places = order[len(answers) : len(answers) + len(page)]
            for place, answer in zip(places, await self._submit_page(page, by_ref), strict=True):
                answers[place] = answer
                if (ref := named[place].ref) is not None:
                    by_ref[ref] = answer
        return [answers[i] for i in range(len(named))]

    async def _submit_page(
        self, page: Sequence[TaskSpec], earlier: dict[str, Submitted | Exception] | None = None
    ) -> list[Submitted | Exception]:
        """Submit what fits in a call and return for each, in order, what became of it.

        Args:
            page: Each behind those of it that it waits for.
            earlier: By ref, what became of the tasks before this page.
        """
        known = dict(earlier or {})
        sent: list[TaskSpec | Exception] = []
        for spec in page:
            refusal = _too_large(spec)
            ready = graphs.resolved(spec, known) if refusal is None else refusal
            if isinstance(ready, Exception) and spec.ref is not None:
                known[spec.ref] = ready
            sent.append(ready)
        tasks = [
            spec.model_dump(by_alias=True, exclude_none=True)
            for spec in sent
            if not isinstance(spec, Exception)
        ]
        told = iter(await self._mutation("tasks:submit", {"tasks": tasks}) if tasks else [])
        return [ready if isinstance(ready, Exception) else _answer(next(told)) for ready in sent]


def _answer(told: dict[str, Any]) -> Submitted | Exception:
    return Submitted.model_validate(told) if told["ok"] else function_error(told["code"], told["message"])


def _with_dedup_key(spec: TaskSpec) -> TaskSpec:
    # A lost answer is asked for again: without a key of its own the second try would make a second task. One
    # that says how long its key counts, and has none, is refused by the control plane.
    if spec.dedup_key is not None or spec.dedup_for_ms is not None:
        return spec
    return spec.model_copy(update={"dedup_key": f"call-{uuid.uuid4()}"})


def _too_large(spec: TaskSpec) -> PayloadTooLarge | None:
    # Before it is sent: the control plane says the same, after the megabytes.
    if len(spec.input) <= MAX_INPUT_BYTES // 4 or (size := len(spec.input.encode())) <= MAX_INPUT_BYTES:
        return None
    return PayloadTooLarge(
        f"input: {size} bytes; at most {MAX_INPUT_BYTES} are kept. Store it elsewhere and pass a reference."
    )


def _pages(specs: Iterable[TaskSpec]) -> Iterator[list[TaskSpec]]:
    page: list[TaskSpec] = []
    size = edges = 0
    for spec in specs:
        size += len(spec.input)
        edges += len(spec.after or ())
        if page and (len(page) == SUBMIT_PAGE or size > SUBMIT_BYTES or edges > SUBMIT_EDGES):
            yield page
            page, size, edges = [], len(spec.input), len(spec.after or ())
        page.append(spec)
    if page:
        yield page

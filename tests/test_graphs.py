"""Graphs of tasks over many calls: their order, their pages, and one through kills between pages."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.command_line import call, refused
from tests.deployment import REPOSITORY, Deployment, deployed
from tests.fault_proxy import FaultProxy
from worker import graphs
from worker.client import AgentSpec, Submitted, TaskSpec, TaskView
from worker.errors import InvalidArgument
from worker.groups import After, FollowUp, FollowUpTask
from worker.models import LlmSpec
from worker.submits import MAX_INPUT_BYTES, SUBMIT_EDGES, SUBMIT_PAGE

pytestmark = pytest.mark.timeout(180)
TASKS = 1_000 if os.environ.get("SIGNALBOX_LONG_TESTS") else 450  # five pages, or three
LAYER = 100  # each task of a layer waits for two of the layer before
ANSWERED = TASKS // SUBMIT_PAGE // 2  # pages, before one whose answer is lost
THERE = (ANSWERED + 1) * SUBMIT_PAGE  # tasks, when the command is killed
WRITER = AgentSpec(
    name="writer",
    description="",
    llm=LlmSpec(model=None, prompt="Write.", temperature=None, max_output_tokens=None),
)


def task(ref: str | None = None, *on: str, **more: Any) -> TaskSpec:
    after = [After(on=one) for one in on] or None
    return TaskSpec(agent="writer", input="null", ref=ref, after=after, **more)


def test_an_order_that_is_one_stays_and_any_other_is_made_one() -> None:
    assert graphs.order_of([]) == []
    assert graphs.order_of([task("a"), task("b", "#a"), task(None), task("c", "#a", "an id")]) == [0, 1, 2, 3]
    upside_down = [task("d", "#b", "#c"), task("c", "#a"), task("b", "#a"), task("a")]
    assert graphs.order_of(upside_down) == [3, 1, 2, 0]
    chain = [task(f"t{i}", f"#t{i + 1}") for i in range(graphs.MAX_GRAPH - 1)]
    assert graphs.order_of([*chain, task(f"t{len(chain)}")]) == list(reversed(range(graphs.MAX_GRAPH)))


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        ([task("a", "#a")], "tasks wait for each other: #a waits for #a."),
        (
            [task("x"), task("a", "#b"), task("b", "#c", "#x"), task("c", "#a"), task("y", "#c")],
            "#a waits for #b waits for #c waits for #a.",
        ),
        ([task("a"), task("b"), task("a")], "task 3 (#a): ref: task 1 has it too"),
        ([task("a"), task(None, "id", "#b")], "task 2: after[1].on: no task of the graph has the ref 'b'"),
        ([task()] * (graphs.MAX_GRAPH + 1), "10001 tasks, at most 10000"),
    ],
)
def test_what_is_no_graph_is_refused_in_a_line(specs: list[TaskSpec], said: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        graphs.order_of(specs)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_large_circle_is_told_in_a_short_line() -> None:
    circle = [task(f"t{i}", f"#t{(i + 1) % 1_000}") for i in range(1_000)]
    with pytest.raises(InvalidArgument, match=r"#t0 waits for .* waits for 991 more") as error:
        graphs.order_of(circle)
    assert str(error.value).endswith("more waits for #t0.")
    assert len(str(error.value)) < 300


def test_dedup_keys_are_of_refs_or_places_and_no_two_are_the_same() -> None:
    named = graphs.with_keys([task("1"), task(), task(dedup_key="own")], "k")
    assert [spec.dedup_key for spec in named] == ["k/#1", "k/1", "own"]


async def test_refs_hold_over_pages_and_what_waits_for_a_refused_task_is_refused(tmp_path: Path) -> None:
    async with deployed(tmp_path, synchronous="normal") as at:
        await at.client.sync_agents([WRITER])
        fillers = [task(f"f{i}") for i in range(SUBMIT_PAGE)]
        ghost = task("ghost").model_copy(update={"agent": "ghost"})
        large = task("large").model_copy(update={"input": f'"{"x" * MAX_INPUT_BYTES}"'})
        wide = [task(f"w{i}", *(f"#f{j}" for j in range(100))) for i in range(SUBMIT_EDGES // 100 + 1)]
        late = [
            task("late", "#w20", "#ghost"),
            task("later", "#late"),
            task("last", "#large"),
            task("ok", "#w20"),
        ]
        specs = [*reversed([*fillers, ghost, large, *wide]), *late]
        refs = [str(spec.ref) for spec in specs]
        answers = dict(zip(refs, await at.client.submit_graph(specs), strict=True))
        told = {ref: str(answer) for ref, answer in answers.items() if isinstance(answer, Exception)}
        assert sorted(told) == ["ghost", "large", "last", "late", "later"]
        assert told["late"].startswith("after[1].on: #ghost was refused: No agent named")
        assert told["later"].startswith("after[0].on: #late was refused: after[1].on: #ghost was refused")
        assert told["last"].startswith("after[0].on: #large was refused: input:")
        ok = answers["ok"]
        assert isinstance(ok, Submitted)
        (edge,) = (await at.client.links(ok.task)).after
        assert (edge.ref, edge.task) == ("w20", getattr(answers["w20"], "task", None))
        # A name with an id: at most one for each, and none beside a ref.
        first = getattr(answers["f0"], "task", "")
        twice = [After(on=first, ref="x"), After(on=ok.task, ref="x")]
        for after, said in (
            (twice, 'after[1].ref: "x" is given twice'),
            ([After(on="#a", ref="x")], "#a is its name already"),
            ([After(on=first, ref="no name")], "after[0].ref"),
        ):
            (_, answer) = await at.client.submit_many([task("a"), task().model_copy(update={"after": after})])
            assert isinstance(answer, InvalidArgument)
            assert said in str(answer)


async def test_nothing_of_a_graph_with_a_circle_over_pages_is_submitted(tmp_path: Path) -> None:
    async with deployed(tmp_path, synchronous="normal") as at:
        await at.client.sync_agents([WRITER])
        circle = [task(f"t{i}", f"#t{i + 1}") for i in range(SUBMIT_PAGE * 2)]
        specs = [*(task() for _ in range(SUBMIT_PAGE)), *circle, task(f"t{len(circle)}", "#t0")]
        with pytest.raises(InvalidArgument, match="tasks wait for each other"):
            await at.client.submit_graph(specs)
        file = tmp_path / "graph.jsonl"
        file.write_text("\n".join(spec.model_dump_json(by_alias=True, exclude_none=True) for spec in specs))
        refused(await call(at, "submit", "--graph", str(file), role="submit"), "tasks wait for each other")
        assert (await at.client.tasks()).tasks == []


async def test_what_is_wrong_with_a_line_of_a_graph_is_said(tmp_path: Path) -> None:
    async with deployed(tmp_path, synchronous="normal") as at:
        await at.client.sync_agents([WRITER])
        for lines, said in (
            ('{"agent": "writer"}\n\n{broken', "line 3: not JSON"),
            ("[]", "line 1: a task is a JSON object"),
            ('{"agent": "writer", "afer": []}', "line 1: a task has no field 'afer'"),
            ('{"agent": "writer", "priority": "high"}', "line 1: priority: Input should be a valid number"),
            ('{"input": 1}', "line 1: say agent or capability"),
        ):
            ran = await call(at, "submit", "--graph", "-", role="submit", stdin=lines)
            refused(ran, said)
        refused(await call(at, "submit", "--graph", str(tmp_path / "none")), "No such file")
        refused(await call(at, "submit", "--graph", "-", "--each", "-"), "goes without --each", code=2)
        refused(await call(at, "submit", "writer", "--any"), "--any says how tasks of --after", code=2)
        lines = (
            '{"ref": "b", "after": [{"on": "#a"}], "input": {"n": 1}}\n'
            '{"ref": "a", "agent": "ghost"}\n{"ref": "c"}\n'
        )
        submit = ("submit", "writer", "--graph", "-", "--dedup-key", "k", "--json")
        ran = await call(at, *submit, role="submit", stdin=lines)
        assert ran.code == 1
        told = [json.loads(line) for line in ran.out.splitlines()]
        assert [item.get("code") for item in told] == ["invalid_argument", "unknown_agent", None]
        assert (await at.task(told[2]["task"])).agent == "writer"
        again = await call(at, *submit, role="submit", stdin=lines.replace("ghost", "writer"))
        assert [json.loads(line)["duplicate"] for line in again.out.splitlines()] == [False, False, True]
        waits = json.loads(again.out.splitlines()[0])["task"]
        assert (await at.task(waits)).status == "waiting"
        assert json.loads(await at.client.input(waits) or "") == {"n": 1}


class LosesFrom(FaultProxy):
    """Passes on so many mutations, and from then on requests alone: these are done and never answered."""

    def __init__(self, target: str, calls: int) -> None:
        super().__init__(target)
        self._left = calls

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while data := await reader.read(65536):
            if not answers:
                self._left -= data.count(b"POST /api/mutation")
                if self._left < 0:
                    self.mode = "swallow"
            elif self.mode == "swallow":
                return
            writer.write(data)
            await writer.drain()


def layered(group: str) -> list[TaskSpec]:
    """Return TASKS tasks in layers, the last one first."""
    specs = []
    for i in range(TASKS):
        above = i - LAYER
        after = None if above < 0 else [After(on=f"#t{above}"), After(on=f"#t{i - i % LAYER - LAYER}")]
        if after is not None and after[0].on == after[1].on:
            after.pop()
        specs.append(TaskSpec(agent="noop", input=str(i), ref=f"t{i}", after=after, group=group))
    return specs[::-1]


async def every(at: Deployment) -> dict[str, TaskView]:
    """Return all tasks by id."""
    found: dict[str, TaskView] = {}
    cursor: str | None = None
    while True:
        page = await at.client.tasks(limit=100, cursor=cursor)
        found |= {view.task: view for view in page.tasks}
        cursor = page.cursor
        if cursor is None:
            return found


async def until(at: Deployment, holds: Callable[[dict[str, TaskView]], bool]) -> dict[str, TaskView]:
    """Return all tasks once something holds of them."""
    with anyio.fail_after(90):
        while not holds(views := await every(at)):
            await anyio.sleep(0.2)
    return views


def have_ended(views: dict[str, TaskView]) -> bool:
    return all(view.ended_at is not None for view in views.values())


async def test_a_graph_killed_between_pages_is_there_once_and_ends_in_order(tmp_path: Path) -> None:
    async with deployed(tmp_path, synchronous="normal") as at:
        at.worker("w", "--concurrency", "50")
        await at.know("noop")
        group = await at.client.create_group(on_complete=FollowUpTask(task=FollowUp(agent="noop")))
        specs = layered(group)
        file = tmp_path / "graph.jsonl"
        file.write_text("\n".join(spec.model_dump_json(by_alias=True, exclude_none=True) for spec in specs))
        submit = ("submit", "--graph", str(file), "--dedup-key", "night")

        # Some pages are answered, the next is done and its answer lost. Command and host are killed then.
        async with LosesFrom(at.host.url, ANSWERED) as proxy:
            env = {**os.environ, "CONVEX_URL": proxy.url, "SIGNALBOX_KEY": at.keys["submit"]}
            command = [sys.executable, "-m", "worker", *submit]
            async with await anyio.open_process(command, env=env, cwd=REPOSITORY) as process:
                await until(at, lambda views: len(views) >= THERE)
                process.kill()
        at.host.kill()
        await anyio.to_thread.run_sync(at.host.start)

        # Half-way: whatever is there has all that it waits for and ends; the group is not complete.
        half = await until(at, have_ended)
        assert len(half) == THERE
        assert {view.status for view in half.values()} == {"succeeded"}
        view = await at.client.group(group)
        assert view is not None
        assert (view.sealed, view.completed_at) == (False, None)

        ran = await call(at, *submit, role="submit")
        assert ran.out == f"submitted {TASKS - THERE}, duplicates {THERE}, refused 0\n", ran.err
        ran = await call(at, *submit, "--json", role="submit")
        told = [json.loads(line) for line in ran.out.splitlines()]
        assert [item["line"] for item in told] == list(range(1, TASKS + 1))
        assert all(item["duplicate"] for item in told)
        tasks = {str(spec.ref): item["task"] for spec, item in zip(specs, told, strict=True)}
        assert set(half) <= set(tasks.values())

        await at.client.seal_group(group)
        await until(at, have_ended)
        with anyio.fail_after(30):
            while (view := await at.client.group(group)) is None or view.callback.task is None:
                await anyio.sleep(0.1)
        assert (view.result, view.counts.total, view.counts.succeeded) == ("success", TASKS, TASKS)
        views = await every(at)
        assert len(views) == TASKS + 1  # and the group's one follow-up
        assert view.callback.task in views
        for spec in specs:
            for edge in spec.after or ():
                before, then = views[tasks[edge.on[1:]]], views[tasks[str(spec.ref)]]
                assert before.ended_at is not None
                assert then.started_at is not None
                assert before.ended_at <= then.started_at
        # Over the pages, too, a task knows those that it waits for by their refs.
        last = await at.client.links(tasks[f"t{TASKS - 1}"])
        assert [edge.ref for edge in last.after] == [edge.on[1:] for edge in specs[0].after or ()]

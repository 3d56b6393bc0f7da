"""Isolated runs: an agent in a process of its own, which may die in any way without harm to the worker."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests import crashing_agents
from tests.lone_run import MODULES, Model, Reporter, assigned, completion, not_here, outcome_of
from tests.scripted_turns import Turns, asks, says
from tests.tools_under_test import POINTS
from worker.llm import TextDelta, TokenUsage
from worker.llm.errors import RateLimited
from worker.models import (
    AgentVersion,
    Failed,
    Fork,
    Outcome,
    Step,
    StepReport,
    StepsPage,
    Succeeded,
    Suspended,
    UntilApprovals,
)
from worker.router import Router
from worker.runtime import Agent, Environment, ModelCaller, Registry, Run, Sole
from worker.runtime.source import code_of


def isolated(
    agent: str,
    value: object,
    reporter: Reporter,
    model: Model | Turns | None = None,
    timeout_ms: float | None = None,
    code: str | None = None,
    **more: Any,
) -> Run:
    assignment = assigned(agent, value, timeout_ms=timeout_ms, isolate=True, **more)
    caller = ModelCaller(Router(Sole(model), draw=lambda: 0.0)) if model else None
    environment = Environment(
        Registry([Agent(agent, "", not_here, code=code)]),
        modules=MODULES,
        model=caller,
        max_output_bytes=100_000,
    )
    return Run(assignment, environment, reporter)


def failure(outcome: Outcome) -> tuple[str, bool]:
    assert isinstance(outcome, Failed)
    return outcome.error.code, outcome.retryable


async def test_an_isolated_agent_works_as_any_other_in_another_process() -> None:
    reporter = Reporter()
    outcome = await outcome_of(isolated("echo", {"x": "é"}, reporter))
    assert isinstance(outcome, Succeeded)
    output = json.loads(outcome.output or "")
    assert output["input"] == {"x": "é"}
    assert output["pid"] != os.getpid()
    assert reporter.said == [
        ("text", 0, 1, f"echo from {output['pid']}"),
        ("log", 0, 1, "logged attempt=2\n"),
    ]


@pytest.mark.parametrize("same", [True, False])
async def test_an_isolated_agent_whose_code_has_changed_since_its_worker_began_is_not_played(
    *, same: bool
) -> None:
    reporter = Reporter()
    code = code_of(crashing_agents.echo) if same else "another"
    outcome = await outcome_of(isolated("echo", 1, reporter, code=code))
    if same:
        assert isinstance(outcome, Succeeded)
    else:
        assert failure(outcome) == ("code_changed", True)
        assert reporter.said == []


class Knowing(Reporter):
    """Has a step that an earlier run has kept."""

    async def steps(self, run: str) -> StepsPage:
        step = Step(key="draft", kind="step", result="1", remaining_ms=None)
        return StepsPage(steps=[step], cursor=None, signals=[])


@pytest.mark.parametrize("took", ["the same", "another"])
async def test_steps_that_no_longer_fit_are_refused_in_another_process_too(took: str) -> None:
    code = code_of(crashing_agents.echo)
    assert code is not None
    pinned = AgentVersion(version="v1", code=code if took == "the same" else took)
    outcome = await outcome_of(isolated("echo", 1, Knowing(), code=code, pinned=pinned, steps=1))
    if took == "the same":
        assert isinstance(outcome, Succeeded), "of the same code it is left alone"
    else:
        assert failure(outcome) == ("step_mismatch", False)
        assert isinstance(outcome, Failed) and "'draft' of an earlier run" in outcome.error.message


async def test_a_fork_has_no_effect_from_another_process_either(tmp_path: Path) -> None:
    for point in POINTS:
        (tmp_path / point).touch()
    reporter = Reporter()
    fork = Fork(task="task0", effects="forbid")
    run = isolated("caller", {"effect": "unsafe", "folder": str(tmp_path)}, reporter, fork=fork)

    def acknowledge(report: StepReport) -> None:
        reporter.kept.append(report)
        run.stepped(report.key, None)

    reporter.step = acknowledge  # type: ignore[method-assign]
    outcome = await outcome_of(run)
    assert isinstance(outcome, Succeeded)
    assert "may have an effect (unsafe)" in (outcome.output or "")
    assert not (tmp_path / "effects").exists()


async def test_an_isolated_agent_asks_people_and_its_run_ends() -> None:
    outcome = await outcome_of(isolated("asker", {"amount": 1}, Reporter()))
    assert isinstance(outcome, Suspended) and isinstance(outcome.until, UntilApprovals)
    (ask,) = outcome.until.approvals
    assert (ask.step, ask.tool, ask.args) == ("approve", "pay", '{"amount":1}')


async def test_a_model_plays_with_the_tools_of_the_other_process() -> None:
    class Acknowledging(Reporter):
        def step(self, report: StepReport) -> None:
            super().step(report)
            run.stepped(report.key, None)

    reporter, model = Acknowledging(), Turns(asks(("pid", {})), says("done"))
    run = isolated("loop", "go", reporter, model=model)
    outcome = await outcome_of(run)
    assert isinstance(outcome, Succeeded), outcome
    pid, told, tokens = json.loads(outcome.output or "")
    assert (str(pid), tokens) == (told, 20)
    assert pid != os.getpid()
    assert [report.key for report in reporter.kept] == ["turn#1", "turn#1/0:pid", "turn#2"]


@pytest.mark.parametrize(
    ("agent", "value", "code", "says", "retryable"),
    [
        ("exit", 9, "process_died", "ended with exit code 9", True),
        ("kill", None, "process_died", "was ended by SIGKILL", True),
        ("refuse", None, "non_retryable", "never", False),
        ("endless", 100_001, "output_too_large", "at most 100000", False),
        ("scribble", None, "process_protocol", "wrote to the worker's pipe", False),
        ("nobody", None, "unknown_agent", "No agent named 'nobody'", True),
    ],
)
async def test_whatever_the_process_does_the_run_has_an_outcome(
    agent: str, value: object, code: str, says: str, retryable: bool
) -> None:
    outcome = await outcome_of(isolated(agent, value, Reporter()))
    assert failure(outcome) == (code, retryable)
    assert isinstance(outcome, Failed)
    assert says in outcome.error.message


async def test_models_and_confirmation_are_reached_through_the_worker() -> None:
    model = Model([TextDelta("Hello"), completion("Hello", TokenUsage(1, 2))])
    reporter = Reporter()
    run = isolated("ask_confirmed", "Hi", reporter, model)

    async def confirm() -> None:
        await reporter.hurried.wait()
        run.confirm()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(confirm)
        assert await outcome_of(run) == Succeeded(output='"Hello"')
    assert reporter.said == [("text", 1, 1, "Hello")]
    assert list(model.requests[0].messages) == [{"role": "user", "content": "Hi"}]


async def test_a_failed_model_call_keeps_its_meaning_across_the_pipe() -> None:
    run = isolated("ask_confirmed", "Hi", Reporter(), Model([RateLimited("later", retry_after_s=60)]))
    run.confirm()
    outcome = await outcome_of(run)
    assert failure(outcome) == ("rate_limited", True)
    assert isinstance(outcome, Failed)
    assert outcome.not_before_ms == pytest.approx(60_000, rel=0.2)


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - it may vanish while it is read
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_blocked_process_and_its_children_are_killed_at_the_time_limit() -> None:
    reporter = Reporter()
    outcome = await outcome_of(isolated("hang", None, reporter, timeout_ms=5000))
    assert failure(outcome) == ("timeout", True)
    child = int(reporter.said[0][3])
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        await anyio.sleep(0.02)
    assert not is_running(child)

"""Short chaos runs, and the audit that judges them: it must find what is planted."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import history
from tests.chaos.run import Plan, chaos


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_lost_or_done_twice_in_chaos(tmp_path: Path, seed: int) -> None:
    outcome = await chaos(Plan(seconds=8, seed=seed, tasks=150), tmp_path)
    assert outcome.verdict.problems() == []
    assert outcome.tasks > 150  # the tasks, and an occurrence of a schedule for each second
    assert outcome.faults, "the network was good all the time"


@pytest.mark.timeout(240)
async def test_on_a_bad_network_all_tasks_end_once(tmp_path: Path) -> None:
    """A fifth of all requests and answers is lost, late, doubled, torn or never answered.

    `SIGNALBOX_FAULTS_S=60` makes a longer run of it.
    """
    seconds = float(os.environ.get("SIGNALBOX_FAULTS_S", "10"))
    outcome = await chaos(Plan(seconds=seconds, seed=3, tasks=200, signals=False), tmp_path)
    assert outcome.verdict.problems() == []
    assert outcome.tasks > 200
    assert len(outcome.faults) >= 4, f"the network was too good: {outcome.faults}"


def kept() -> history.Tables:
    """Return what is left of two tasks: one succeeded by its second run, one waits."""
    retry = {"maxAttempts": 3}
    task = {"tenant": "t", "agent": "a", "failures": 0, "retry": retry}
    run = {"task": "T1", "session": "S1", "assignedAt": 10, "endedAt": 20}
    event = {"task": "T1", "run": None}
    return {
        "tasks": [
            {**task, "_id": "T1", "status": "succeeded", "attempt": 2, "failures": 1, "dedupKey": "one"},
            {**task, "_id": "T2", "status": "pending", "attempt": 0, "dedupKey": "two"},
        ],
        "runs": [
            {**run, "_id": "R1", "attempt": 1, "state": "failed"},
            {**run, "_id": "R2", "attempt": 2, "state": "succeeded", "assignedAt": 30, "endedAt": 40},
        ],
        "events": [
            {**event, "type": "task_submitted", "at": 1},
            {**event, "type": "run_assigned", "run": "R1", "at": 2},
            {**event, "type": "task_retried", "run": "R1", "at": 3},
            {**event, "type": "run_assigned", "run": "R2", "at": 4},
            {**event, "type": "task_succeeded", "run": "R2", "at": 5},
            {**event, "task": "T2", "type": "task_submitted", "at": 6},
        ],
        "ready": [{"task": "T2"}],
        "delayed": [],
        "freed": [],
        "sessions": [{"_id": "S1", "ended": None}],
        "loops": [{"name": "dispatch", "state": "L1"}],
        "loopState": [{"_id": "L1", "inUse": {}}],
    }


def test_the_audit_finds_nothing_where_nothing_is_wrong() -> None:
    assert history.check(kept(), ["T1", "T2"], settled=False).problems() == []


def change(table: str, row: int, **fields: Any) -> Callable[[history.Tables], None]:
    return lambda tables: tables[table][row].update(fields)


def remove(table: str, row: int) -> Callable[[history.Tables], None]:
    return lambda tables: tables[table].__delitem__(row)


def add(table: str, like: int, **fields: Any) -> Callable[[history.Tables], None]:
    return lambda tables: tables[table].append({**tables[table][like], **fields})


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (remove("tasks", 1), "lost: task T2 was accepted and is not there"),
        (remove("ready", 0), "broken: task T2 is pending and stands in no line"),
        (add("ready", 0), "broken: task T2 is pending and stands in ['ready', 'ready']"),
        (change("tasks", 1, dedupKey="one"), "duplicated: tasks T1 and T2 have one dedup key, one"),
        (change("runs", 0, state="succeeded"), "duplicated: task T1 was completed by 2 runs"),
        (change("runs", 0, endedAt=35), "duplicated: task T1 has runs 1 and 2 at one time"),
        (change("runs", 0, state="running", endedAt=None), "duplicated: task T1 has a run 2 while 1 is live"),
        (change("runs", 0, attempt=2), "broken: task T1 has the attempts [2, 2]"),
        (change("tasks", 0, attempt=3), "broken: task T1 counts 3 attempts and has 2 runs"),
        (change("tasks", 0, failures=4), "broken: task T1 failed 4 times of 3"),
        (change("events", 4, run="R1"), "stale: task T1: task_succeeded by run R1, but it was R2's"),
        (change("runs", 1, state="lost"), "stale: task T1 succeeded by a run that was not its last"),
        (add("events", 4, at=7), "duplicated: task T1 ended 2 times"),
        (add("events", 0, at=0), "duplicated: task T1 was submitted 2 times"),
        (remove("events", 4), "broken: task T1 is succeeded and its history does not say so"),
        (change("runs", 1, state="running"), "owner-less: task T1 has ended and its run 2 has not"),
        (
            change("tasks", 0, status="running"),
            "owner-less: task T1 counts as running and no run of it is live",
        ),
        (
            change("loopState", 0, inUse={"S1": 1}),
            "broken: dispatch counts 1 runs of session S1, there are 0",
        ),
        (
            lambda tables: (
                change("tasks", 0, dedupKey="schedule:S:1000")(tables),
                change("tasks", 1, dedupKey="schedule:S:3000")(tables),
            ),
            "lost: schedule S has nothing between 1000 and 3000",
        ),
        (
            change("tasks", 0, output='{"children": ["T9"]}'),
            "lost: task T9, a child of T1, is not there",
        ),
        (change("tasks", 1, parent="T1"), "duplicated: task T1 does not know its child T2"),
        (
            change("tasks", 0, output='{"heard": [1, 0]}'),
            "lost: task T1 did not hear its signals in their order: [1, 0]",
        ),
        (change("tasks", 0, output='{"heard": [0, 0]}'), "duplicated: task T1 heard a signal twice: [0, 0]"),
        (change("ready", 0, task="T9"), "broken: ['ready'] hold a task T9 that is not there"),
    ],
)
def test_the_audit_finds_what_is_planted(plant: Callable[[history.Tables], None], found: str) -> None:
    tables = copy.deepcopy(kept())
    plant(tables)
    problems = history.check(tables, ["T1", "T2"], settled=False).problems()
    assert any(problem.startswith(found) for problem in problems), problems


def test_room_of_several_runs_that_dispatch_has_not_settled_counts_for_each() -> None:
    tables = kept()
    tables["freed"].append({"session": "S1", "runs": 2})
    tables["loopState"][0]["inUse"] = {"S1": 2}
    assert history.check(tables, [], settled=False).problems() == []


def test_what_is_left_when_all_had_time_to_end_is_lost() -> None:
    problems = history.check(kept(), ["T1", "T2"], settled=True).problems()
    assert problems == ["lost: task T2 (a) is still pending"]


def test_a_live_run_without_a_live_session_is_ownerless() -> None:
    tables = kept()
    tables["runs"].append({"_id": "R3", "task": "T2", "session": "S2", "attempt": 1, "state": "running"})
    tables["sessions"].append({"_id": "S2", "ended": "replaced"})
    problems = history.check(tables, [], settled=False).problems()
    assert "owner-less: run R3 is running in a session that has ended" in problems

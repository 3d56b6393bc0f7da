"""Reads what a deployment has kept, and says what of it cannot be. Pure but for `read`."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.backend import Backend

Row = dict[str, Any]
Tables = dict[str, list[Row]]

TABLES = ("tasks", "runs", "events", "ready", "delayed", "freed", "sessions", "loops", "loopState")
ENDED = {"succeeded", "failed", "cancelled", "skipped"}
LIVE = {"assigned", "running"}
_ENDINGS = {"task_succeeded", "task_failed", "task_cancelled", "task_skipped"}
OCCURRENCE_MS = 1000
_PAGE = 1000


@dataclass
class Verdict:
    """What was found, by kind; each entry is a line for people.

    Attributes:
        lost: Accepted tasks that are gone, or that nothing will ever end.
        duplicated: Work that was accepted, ended or completed twice.
        stale: Writes of a run that was no longer the task's that were accepted.
        ownerless: Runs that count as live although nobody holds them.
        broken: Whatever else does not add up: attempts, counters, lines.
    """

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    ownerless: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Return every line, named by its kind."""
        kinds = {
            "lost": self.lost,
            "duplicated": self.duplicated,
            "stale": self.stale,
            "owner-less": self.ownerless,
            "broken": self.broken,
        }
        return [f"{kind}: {line}" for kind, lines in kinds.items() for line in lines]


async def read(backend: Backend, tables: Iterable[str] = TABLES) -> Tables:
    """Return all rows of the tables, with the deployment's admin key."""
    found: Tables = {}
    for table in tables:
        rows: list[Row] = []
        cursor: str | None = None
        while True:
            args = {
                "table": table,
                "order": "asc",
                "paginationOpts": {"numItems": _PAGE, "cursor": cursor},
            }
            page = await backend.query("_system/cli/tableData", args, timeout=30)
            rows.extend(page["page"])
            cursor = page["continueCursor"]
            if page["isDone"]:
                break
        found[table] = rows
    return found


def check(tables: Tables, accepted: Sequence[str], *, settled: bool) -> Verdict:
    """Say what cannot be.

    Args:
        tables: The rows of `TABLES`, read at one time or while nothing happens.
        accepted: The ids of the tasks whose submission was answered.
        settled: Whether everything was given the time to end: then nothing may be left over.
    """
    verdict = Verdict()
    tasks = {task["_id"]: task for task in tables["tasks"]}
    runs: dict[str, list[Row]] = defaultdict(list)
    for run in tables["runs"]:
        runs[run["task"]].append(run)
    events: dict[str, list[Row]] = defaultdict(list)
    for event in tables["events"]:
        if event.get("task") is not None:
            events[event["task"]].append(event)
    _check_accepted(verdict, tasks, accepted, settled=settled)
    for task in tasks.values():
        ordered = sorted(runs[task["_id"]], key=lambda run: int(run["attempt"]))
        _check_runs(verdict, task, ordered)
        _check_events(verdict, task, ordered, sorted(events[task["_id"]], key=lambda event: event["at"]))
    _check_dedup_keys(verdict, tables["tasks"])
    _check_occurrences(verdict, tables["tasks"])
    _check_children(verdict, tables["tasks"])
    _check_signals(verdict, tables["tasks"])
    _check_owners(verdict, tables, settled=settled)
    _check_lines(verdict, tables)
    _check_counts(verdict, tables)
    return verdict


def _check_accepted(
    verdict: Verdict, tasks: dict[str, Row], accepted: Sequence[str], *, settled: bool
) -> None:
    # I1: each accepted task ends once, or is somewhere from where it will go on.
    for known in accepted:
        if known not in tasks:
            verdict.lost.append(f"task {known} was accepted and is not there")
    if not settled:
        return
    for task in tasks.values():
        if task["status"] not in ENDED:
            verdict.lost.append(f"task {task['_id']} ({task['agent']}) is still {task['status']}")


def _check_runs(verdict: Verdict, task: Row, runs: list[Row]) -> None:
    name = f"task {task['_id']}"
    attempts = [int(run["attempt"]) for run in runs]
    # I2: attempts grow by one, and one run is live at a time.
    if attempts != list(range(1, len(runs) + 1)):
        verdict.broken.append(f"{name} has the attempts {attempts}")
    if int(task["attempt"]) != len(runs):
        verdict.broken.append(f"{name} counts {task['attempt']} attempts and has {len(runs)} runs")
    for run, after in itertools.pairwise(runs):
        if run["state"] in LIVE:
            verdict.duplicated.append(f"{name} has a run {after['attempt']} while {run['attempt']} is live")
        elif run["endedAt"] > after["assignedAt"]:
            verdict.duplicated.append(f"{name} has runs {run['attempt']} and {after['attempt']} at one time")
    if task["status"] in ENDED and runs and runs[-1]["state"] in LIVE:
        verdict.ownerless.append(f"{name} has ended and its run {runs[-1]['attempt']} has not")
    if task["status"] == "running" and (not runs or runs[-1]["state"] not in LIVE):
        verdict.ownerless.append(f"{name} counts as running and no run of it is live")
    # I4: at most one completion.
    completions = [run for run in runs if run["state"] == "succeeded"]
    if len(completions) > 1:
        verdict.duplicated.append(f"{name} was completed by {len(completions)} runs")
    # I5: failures burn attempts, and no more of them than allowed.
    if task["failures"] > task["retry"]["maxAttempts"]:
        verdict.broken.append(f"{name} failed {task['failures']} times of {task['retry']['maxAttempts']}")


def _check_events(verdict: Verdict, task: Row, runs: list[Row], events: list[Row]) -> None:
    name = f"task {task['_id']}"
    types = [event["type"] for event in events]
    if types.count("task_submitted") != 1:
        verdict.duplicated.append(f"{name} was submitted {types.count('task_submitted')} times")
    ends = [event for event in events if event["type"] in _ENDINGS]
    again = types.count("retry_requested")  # which opens an ended task again, with its attempts anew
    if len(ends) > 1 + again:
        verdict.duplicated.append(f"{name} ended {len(ends)} times: {types}")
    if task["status"] in ENDED and not ends:
        verdict.broken.append(f"{name} is {task['status']} and its history does not say so")
    # I3: what ended or moved the task on was told by the run that was the task's at that time.
    current: str | None = None
    for event in events:
        if event["type"] == "run_assigned":
            current = event["run"]
        elif event["type"] in {"task_retried", "task_succeeded"} and event["run"] != current:
            verdict.stale.append(f"{name}: {event['type']} by run {event['run']}, but it was {current}'s")
    if task["status"] == "succeeded" and (not runs or runs[-1]["state"] != "succeeded"):
        verdict.stale.append(f"{name} succeeded by a run that was not its last")


def _check_dedup_keys(verdict: Verdict, tasks: list[Row]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for task in tasks:
        if (key := task.get("dedupKey")) is None:
            continue
        first = seen.setdefault((task["tenant"], key), task["_id"])
        if first != task["_id"]:
            verdict.duplicated.append(f"tasks {first} and {task['_id']} have one dedup key, {key}")


def _check_occurrences(verdict: Verdict, tasks: list[Row]) -> None:
    # All missed occurrences are made up for, so the schedule of the run has a task for each second.
    times: dict[str, list[float]] = defaultdict(list)
    for task in tasks:
        if (key := task.get("dedupKey") or "").startswith("schedule:"):
            _, schedule, nominal = key.split(":")
            times[schedule].append(float(nominal))
    for schedule, nominals in times.items():
        for before, after in itertools.pairwise(sorted(nominals)):
            if after - before != OCCURRENCE_MS:
                verdict.lost.append(f"schedule {schedule} has nothing between {before:.0f} and {after:.0f}")


def _check_children(verdict: Verdict, tasks: list[Row]) -> None:
    # A parent that succeeded tells which children it has: they are there, and nobody else's are.
    children: dict[str, list[str]] = defaultdict(list)
    for task in tasks:
        if (parent := task.get("parent")) is not None:
            children[parent].append(task["_id"])
    for task in tasks:
        if task["status"] != "succeeded":
            continue
        output = json.loads(task.get("output") or "null")
        told = output.get("children", []) if isinstance(output, dict) else []
        there = children[task["_id"]]
        for child in set(told) - set(there):
            verdict.lost.append(f"task {child}, a child of {task['_id']}, is not there")
        for child in set(there) - set(told):
            verdict.duplicated.append(f"task {task['_id']} does not know its child {child}")


def _check_signals(verdict: Verdict, tasks: list[Row]) -> None:
    # A task that was told 0, 1, 2, ... tells what it heard.
    for task in tasks:
        output = json.loads(task.get("output") or "null")
        heard = output.get("heard", []) if isinstance(output, dict) else []
        if len(set(heard)) < len(heard):
            verdict.duplicated.append(f"task {task['_id']} heard a signal twice: {heard}")
        elif heard != list(range(len(heard))):
            verdict.lost.append(f"task {task['_id']} did not hear its signals in their order: {heard}")


def _check_owners(verdict: Verdict, tables: Tables, *, settled: bool) -> None:
    ended = {session["_id"]: session["ended"] for session in tables["sessions"]}
    for run in tables["runs"]:
        if run["state"] not in LIVE:
            continue
        if run["session"] not in ended:
            verdict.ownerless.append(f"run {run['_id']} is {run['state']} in no session")
        elif settled:
            verdict.ownerless.append(f"run {run['_id']} is still {run['state']}")
        elif ended[run["session"]] is not None:
            verdict.ownerless.append(f"run {run['_id']} is {run['state']} in a session that has ended")


def _check_lines(verdict: Verdict, tables: Tables) -> None:
    # I6, the queue's depth: whoever waits stands in one line, once.
    places: dict[str, list[str]] = defaultdict(list)
    for table in ("ready", "delayed"):
        for row in tables[table]:
            places[row["task"]].append(table)
    expected = {"pending": ["ready"], "delayed": ["delayed"]}
    for task in tables["tasks"]:
        stands = places.pop(task["_id"], [])
        if task["status"] == "sleeping":
            continue  # where it waits for its time is its own affair
        if stands != expected.get(task["status"], []):
            verdict.broken.append(
                f"task {task['_id']} is {task['status']} and stands in {stands or 'no line'}"
            )
    for gone, tables_of_it in places.items():
        verdict.broken.append(f"{tables_of_it} hold a task {gone} that is not there")


def _check_counts(verdict: Verdict, tables: Tables) -> None:
    # I6, what dispatch counts: the live runs of each session, and those whose end it has not settled yet.
    state = {loop["name"]: loop["state"] for loop in tables["loops"]}.get("dispatch")
    counted: dict[str, float] = next((s["inUse"] for s in tables["loopState"] if s["_id"] == state), {})
    real: dict[str, int] = defaultdict(int)
    for run in tables["runs"]:
        if run["state"] in LIVE:
            real[run["session"]] += 1
    for row in tables["freed"]:
        real[row["session"]] += int(row.get("runs", 1))
    live = {session["_id"] for session in tables["sessions"] if session["ended"] is None}
    for session in live:
        said, is_so = counted.get(session, 0), real.get(session, 0)
        if said != is_so:
            verdict.broken.append(f"dispatch counts {said:g} runs of session {session}, there are {is_so}")

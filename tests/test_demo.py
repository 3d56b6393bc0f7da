"""`make demo` as its user sees it, and the pieces of its screen."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest

from examples.screen import LONGEST_WORD, Calls, calls_between, whole_words
from tests.deployment import REPOSITORY
from tests.fault_proxy import closed_port
from tests.scripted_model import scripted_model

pytestmark = pytest.mark.timeout(120)
TASKS = ["explain leases", "plan a migration", "release note", "count the licence", "needs a retry"]


@dataclass(frozen=True)
class Played:
    code: int
    out: str
    err: str

    def rows(self) -> dict[str, list[str]]:
        """Return the table's cells by task: status, attempts, tokens, duration, calls."""
        lines = [re.split(r" {2,}", line) for line in self.out.splitlines()]
        return {cells[0]: cells[1:] for cells in lines if len(cells) == 6 and cells[0] in TASKS}

    def pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"worker-\d \(pid (\d+)\)", self.out)]


def environment(**settings: str) -> dict[str, str]:
    """Return an environment in which only the given settings hold, whatever `.env` says."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SIGNALBOX_", "CONVEX_"))}
    model = dict.fromkeys(("SIGNALBOX_MODEL_BASE_URL", "SIGNALBOX_MODEL_KEY", "SIGNALBOX_MODEL"), "")
    return {**clean, **model, "PYTHONUNBUFFERED": "1", **settings}


def start(**settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "examples.demo"],
        cwd=REPOSITORY,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def play(**settings: str) -> Played:
    process = start(**settings)
    try:
        out, err = process.communicate(timeout=90)
    finally:
        process.terminate()  # takes with it what it started
        process.wait(timeout=30)
    return Played(process.returncode, out, err)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_demo_survives_a_killed_worker_and_says_that_its_model_is_simulated() -> None:
    played = play()
    assert played.code == 0, played
    assert played.err == ""
    assert "SIMULATED" in played.out
    killed = re.search(r"killed worker-\d \(pid (\d+)\) with SIGKILL in mid-stream of '(.+)'", played.out)
    assert killed is not None, played.out
    name = killed[2]
    assert f"{name} ┃ [attempt 2 starts over]" in played.out[killed.end() :]
    assert f"{name} ┃ [succeeded]" in played.out[killed.end() :]
    rows = played.rows()
    assert list(rows) == TASKS
    assert {row[0] for row in rows.values()} == {"succeeded"}
    assert rows[name][1] == "2"
    assert rows["needs a retry"][1] == "2"
    assert rows["count the licence"][1:3] == ["1", "-"]
    calls = re.search(r"(\d+) Convex calls in all.*took (\d+) more calls", played.out, re.DOTALL)
    assert calls is not None, played.out
    assert rows[name][4] == f"{int(calls[1]) / len(TASKS):.1f}"
    assert int(calls[2]) > 0
    assert len(played.pids()) == 3
    assert not any(map(lives, played.pids()))


def test_the_demo_asks_the_provider_that_the_settings_name() -> None:
    with scripted_model() as provider:
        played = play(SIGNALBOX_MODEL_BASE_URL=provider.base_url, SIGNALBOX_MODEL="scripted-instant")
        assert played.code == 0, played
        assert f"scripted-instant at {provider.base_url}" in played.out
        assert "SIMULATED" not in played.out
        asked = provider.requests()
    assert len(asked) >= 3
    assert {request["model"] for request in asked} == {"scripted-instant"}
    assert {row[0] for row in played.rows().values()} == {"succeeded"}


def test_a_provider_that_cannot_be_reached_fails_the_demo_and_its_table_says_so() -> None:
    with closed_port() as url:
        played = play(SIGNALBOX_MODEL_BASE_URL=f"{url}/v1", SIGNALBOX_MODEL="any")
    assert played.code == 1, played
    statuses = [row[0] for row in played.rows().values()]
    assert statuses == ["failed", "failed", "failed", "succeeded", "succeeded"]
    assert "explain leases ┃ [failed: The connection to 127.0.0.1 failed" in played.out
    assert "NOT all tasks succeeded" in played.out
    left = re.search(r"logs are left in (\S+)", played.out)
    assert left is not None
    assert (REPOSITORY / left[1] / "worker-1.log").is_file()
    shutil.rmtree(REPOSITORY / left[1])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"SIGNALBOX_MODEL_BASE_URL": "nonsense"}, "SIGNALBOX_MODEL_BASE_URL must be an address"),
        ({"SIGNALBOX_MODEL_BASE_URL": "http://127.0.0.1:9/v1"}, "SIGNALBOX_MODEL is not set"),
    ],
)
def test_a_wrong_setting_ends_the_demo_before_anything_is_started(
    settings: dict[str, str], said: str
) -> None:
    played = play(**settings)
    assert (played.code, played.out) == (1, "")
    assert played.err.startswith(f"demo: {said}")
    assert played.err.count("\n") == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_demo_that_is_stopped_stops_what_it_started(how: signal.Signals) -> None:
    process = start()
    try:
        assert process.stdout is not None
        said = ""
        while "submitted" not in said:
            line = process.stdout.readline()
            assert line, f"it ended early: {said}"
            said += line
        process.send_signal(how)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    played = Played(process.returncode, said + out, err)
    assert (played.code, played.err) == (130, "")
    assert "left in" not in played.out
    assert len(played.pids()) >= 2
    assert not any(map(lives, played.pids()))


@pytest.mark.parametrize(
    ("text", "whole", "rest"),
    [
        ("", "", ""),
        ("impro", "", "impro"),
        ("before impro", "before ", "impro"),
        ("two\nlin", "two\n", "lin"),
        ("the end.", "the end.", ""),
        ("(13).", "(13).", ""),
        ('say "no".', 'say "no".', ""),
        ("it costs 3.", "it costs ", "3."),
        ('about "', "about ", '"'),
        ("語" * LONGEST_WORD, "", "語" * LONGEST_WORD),
        ("語" * (LONGEST_WORD + 1), "語" * (LONGEST_WORD + 1), ""),
    ],
)
def test_text_is_shown_up_to_the_end_of_a_word(text: str, whole: str, rest: str) -> None:
    assert whole_words(text) == (whole, rest)


def test_what_watching_costs_is_counted_apart_from_the_work() -> None:
    before = {"worker:sync": 2, "runs:follow": 5, "operator:createKey": 2}
    after = {
        **before,
        "worker:sync": 12,
        "worker:inbox": 4,
        "dispatch:pass": 3,
        "timers:tick": 1,
        "tasks:submit": 1,
        "tasks:get": 7,
        "runs:follow": 25,
    }
    assert calls_between(before, after) == Calls(work=19, looking=27)

"""What the comparison with other task queues needs, and what it makes of what it found."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from bench.peers import compare, installed
from tests.deployment import REPOSITORY

PINNED = re.compile(r"[\w.-]+==\S+( ; .+)?( --hash=sha256:[0-9a-f]{64})+")


def test_a_machine_without_postgresql_is_told_in_one_line_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "createdb").touch(mode=0o755)
    ran = subprocess.run(
        [sys.executable, "-m", "bench", "peers"],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.count("\n") == 1
    assert (
        "the peers need PostgreSQL and PATH has no initdb, pg_ctl, postgres, dropdb: install it" in ran.stderr
    )


def test_every_package_of_the_peers_is_pinned_by_hash_and_names_no_address() -> None:
    python = installed.PYTHON_LOCK.read_text(encoding="utf-8")
    lines = python.replace(" \\\n   ", "").splitlines()
    assert [line for line in lines if not PINNED.fullmatch(line)] == []
    npm = (installed.HERE / "package-lock.json").read_text(encoding="utf-8")
    rows = {name: row for name, row in json.loads(npm)["packages"].items() if name}
    assert [name for name, row in rows.items() if "integrity" not in row or "resolved" in row] == []
    assert "://" not in python + npm
    assert set(compare.PEERS) <= set(installed.versions())


def test_the_best_round_of_a_time_is_the_least_and_of_a_throughput_the_most() -> None:
    latency = compare.P50.figures({"signalbox": [12.0, 10.0, 14.0], "a 1": [5.0, 3.0, 4.0]})
    assert [(f.name, f.value) for f in latency] == [
        ("latency p50, signalbox", 10.0),
        ("latency p50, a 1", 3.0),
    ]
    assert latency[1].note == "best of 3, median 4.0; 0.30 times Signalbox's best, 0.33 its median"
    rate = compare.WAITING.figures({"signalbox": [500.0, 400.0], "a 1": [900.0, 1000.0]})
    assert [f.value for f in rate] == [500.0, 1000.0]
    assert rate[1].note == "best of 2, median 950; 2.00 times Signalbox's best, 2.11 its median"

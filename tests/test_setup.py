"""What make says before anything is installed."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployment import REPOSITORY

NEEDED = ("make", "git", "env", "touch", "ln", "rm", "mkdir", "cat")  # a machine with little on it


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a bare checkout in a folder with a space, with a `bin` beside it."""
    folder = tmp_path / "a b"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "package.json", "package-lock.json"):
        shutil.copy(REPOSITORY / name, folder)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in NEEDED:
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    return folder


def python_that(checkout: Path, script: str) -> None:
    """Put a `python3` in the path that runs a shell script."""
    python = checkout.parent / "bin" / "python3"
    python.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env={"PATH": str(checkout.parent / "bin"), "HOME": str(checkout.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_make_alone_lists_what_it_can_do(checkout: Path) -> None:
    python_that(checkout, f'exec "{sys.executable}" "$@"')
    ran = make(checkout)
    assert (ran.returncode, ran.stderr) == (0, "")
    listed = re.findall(r"^make (\w+) +\S", ran.stdout, re.MULTILINE)
    assert {"setup", "demo", "test", "check", "format", "bench", "clean"} <= set(listed)
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("target", ["setup", "demo", "test"])
@pytest.mark.parametrize(
    "old", ['case "$2" in *version_info*) exit 1;; esac', "exit 127"], ids=["too old", "broken"]
)
def test_a_python_that_does_not_do_is_named_with_what_to_type(checkout: Path, target: str, old: str) -> None:
    python_that(checkout, old)
    ran = make(checkout, target)
    assert ran.returncode != 0
    said = f"Python 3.11 or newer is needed and python3 is not: make PYTHON=python3.12 {target}"
    assert said in ran.stderr
    assert not (checkout / ".venv").exists()


def test_a_machine_without_python_is_told_that_it_is_needed(checkout: Path) -> None:
    ran = make(checkout, "demo")
    assert ran.returncode != 0
    assert "Python 3.11 or newer is needed" in ran.stderr


def test_a_setup_that_failed_half_way_is_done_again(checkout: Path) -> None:
    log = checkout.parent / "calls"
    python_that(
        checkout,
        f'case "$*" in *"-m venv .venv") echo again >> "{log}"; exit 1;; esac; exec "{sys.executable}" "$@"',
    )
    for _ in range(2):
        ran = make(checkout, "setup")
        assert ran.returncode != 0
        assert not os.path.lexists(checkout / ".venv" / ".installed")
    assert log.read_text(encoding="utf-8") == "again\nagain\n"

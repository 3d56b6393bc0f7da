"""The command line in tests: in a process of its own, or within this one, which saves the imports."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import anyio

from tests.deployment import REPOSITORY, Deployment
from worker.cli import main


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


def run(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path = REPOSITORY, stdin: str = ""
) -> Ran:
    """Run a command as a process, with no settings but those given."""
    ran = subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env={**_without_settings(), "PYTHONPATH": str(REPOSITORY), **(env or {})},
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


async def call(at: Deployment, *arguments: str, role: str = "operator", stdin: str = "", **more: str) -> Ran:
    """Run a command within this process, in a thread, with the key of `role` for a deployment."""
    env = _settings(at, role, more)
    return await anyio.to_thread.run_sync(lambda: invoke(*arguments, env=env, stdin=stdin))


async def start(at: Deployment, *arguments: str, role: str = "operator", **more: str) -> Ran:
    """Run a command that handles signals, and so needs a process of its own."""
    env = _settings(at, role, more)
    return await anyio.to_thread.run_sync(lambda: run(*arguments, env=env))


def _settings(at: Deployment, role: str, more: Mapping[str, str]) -> dict[str, str]:
    return {"CONVEX_URL": at.host.url, "SIGNALBOX_KEY": at.keys[role], **more}


def invoke(*arguments: str, env: Mapping[str, str] | None = None, stdin: str = "") -> Ran:
    """Run a command within this process, with no settings but those given."""
    out, err = io.BytesIO(), io.StringIO()
    code: int | str | None
    with (
        _standard_input(stdin),
        io.TextIOWrapper(out, encoding="utf-8", write_through=True) as text,
        contextlib.redirect_stdout(text),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ, {**_without_settings(), **(env or {})}, clear=True),
    ):
        try:
            code = main(arguments)
        except SystemExit as end:  # argparse, after a usage error
            code = end.code
        text.flush()
        said = out.getvalue().decode()
    assert isinstance(code, int)
    return Ran(code, said, err.getvalue())


@contextlib.contextmanager
def _standard_input(text: str) -> Iterator[None]:
    with mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8")):
        yield


def refused(ran: Ran, *parts: str, code: int = 1) -> None:
    """Check for a failure told in one line that names all `parts`."""
    assert ran.code == code, ran
    assert len(ran.err.strip().splitlines()) == 1, ran.err
    assert "Traceback" not in ran.err
    for part in parts:
        assert part in ran.err, ran.err


def _without_settings() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("SIGNALBOX_", "CONVEX_"))}

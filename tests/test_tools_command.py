"""Programs that tools run: nothing of them is left, nothing of the worker's is in them, their limits hold."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.watched_processes import gone, is_running
from worker.errors import SettingsError
from worker.processes import Limits, plain_environment, start
from worker.runtime.calling import perform
from worker.runtime.tools import ToolContext, ToolError
from worker.tools import command as commands
from worker.tools.command import Ended, Kept, command, run

PYTHON = sys.executable
NOBODY = 65534
ROOT = os.geteuid() == 0


async def python(code: str, *arguments: str, **more: Any) -> Ended:
    return await run([PYTHON, "-c", code, *arguments], env=plain_environment(), **more)


async def test_a_program_is_given_its_arguments_as_they_are_and_its_input() -> None:
    code = "import sys; print(sys.argv[1:]); print(sys.stdin.read(), file=sys.stderr); sys.exit(3)"
    ended = await python(code, "$HOME", "; rm -rf /", "a b", stdin=b"told")
    assert (ended.exit, ended.signal, ended.why) == (3, None, None)
    assert ended.stdout.text() == "['$HOME', '; rm -rf /', 'a b']\n"
    assert ended.stderr.text() == "told\n"


async def test_nothing_of_the_worker_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNALBOX_KEY", "sbw_secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        code = "import os; print(sorted(os.environ)); print(os.listdir('/proc/self/fd')); print(os.getsid(0))"
        ended = await run([PYTHON, "-c", code], env=plain_environment({"GIVEN": "1"}))
    finally:
        os.close(read)
        os.close(write)
    names, files, session = ended.stdout.text().splitlines()
    assert "'GIVEN'" in names and "SECRET" not in names and "SIGNALBOX" not in names
    assert len(files.split(",")) == 4  # its three, and that of the listing
    assert int(session) != os.getsid(0)


async def test_at_its_time_limit_all_that_it_has_started_is_killed() -> None:
    code = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""
    for timeout_s in (0.5, 3, 9):  # long enough to have begun, on any machine
        ended = await python(code, timeout_s=timeout_s)
        if ended.stdout.text():
            break
    assert (ended.exit, ended.signal, ended.why) == (None, "SIGKILL", "timeout")
    await gone(int(ended.stdout.text()))


async def test_what_it_leaves_behind_is_killed_when_it_ends() -> None:
    code = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
"""
    ended = await python(code)
    assert ended.exit == 0
    await gone(int(ended.stdout.text()))


async def test_a_descendant_that_escapes_with_the_pipes_holds_nobody_up() -> None:
    code = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(child.pid, flush=True)
"""
    with anyio.fail_after(15):
        ended = await python(code)
    assert ended.exit == 0
    os.kill(int(ended.stdout.text()), signal.SIGKILL)


async def test_a_cancelled_call_leaves_no_process() -> None:
    pids: list[int] = []

    async def work() -> None:
        child = await start([shutil.which("sleep") or "", "60"], env=plain_environment(), limits=Limits())
        pids.append(child.pid)
        try:
            await child.wait()
        finally:
            await child.end()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        while not pids:
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert not is_running(pids[0])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a process dies with its parent on Linux")
async def test_a_program_dies_with_its_worker() -> None:
    worker = """
import anyio, os, shutil, sys
from worker.processes import Limits, plain_environment, start

async def main():
    child = await start([shutil.which("sleep"), "60"], env=plain_environment(), limits=Limits())
    while open(f"/proc/{child.pid}/comm").read() != "sleep\\n":
        await anyio.sleep(0.01)
    print(child.pid, flush=True)
    os.kill(os.getpid(), 9)

anyio.run(main)
"""
    ended = await run([PYTHON, "-c", worker], env=plain_environment(), limits=Limits(memory_bytes=None))
    assert ended.signal == "SIGKILL"
    await gone(int(ended.stdout.text()))


@pytest.mark.parametrize(
    ("code", "limits", "says"),
    [
        ("while True: pass", Limits(cpu_s=1), "SIGXCPU|SIGKILL"),
        ("bytearray(1 << 30)", Limits(memory_bytes=256 << 20), "MemoryError"),
        ("open('big', 'wb').write(bytes(2 << 20))", Limits(file_bytes=1 << 20), "File too large|SIGXFSZ"),
        ("[open('/dev/null') for _ in range(99)]", Limits(open_files=32), "Too many open files"),
    ],
    ids=["cpu", "memory", "file size", "open files"],
)
async def test_the_limits_hold(code: str, limits: Limits, says: str, tmp_path: Path) -> None:
    ended = await python(code, limits=limits, cwd=tmp_path, timeout_s=15)
    assert ended.exit != 0 and ended.why is None
    told = f"{ended.signal} {ended.stderr.text()}"
    assert any(part in told for part in says.split("|")), told


@pytest.mark.skipif(not ROOT or not Path("/proc/self").exists(), reason="only root becomes another user")
async def test_another_user_is_held_to_so_many_processes() -> None:
    script = "id -u; n=0; while [ $n -lt 30 ]; do sleep 20 & n=$((n+1)); done; echo all"
    shell = shutil.which("sh") or ""
    few = Limits(user=NOBODY, processes=10)
    ended = await run([shell, "-c", script], env=plain_environment(), cwd="/", limits=few, timeout_s=10)
    assert ended.stdout.text() == f"{NOBODY}\n"
    assert "ork" in ended.stderr.text()  # cannot fork
    many = Limits(user=NOBODY, processes=40)
    ended = await run([shell, "-c", script], env=plain_environment(), cwd="/", limits=many, timeout_s=10)
    assert ended.stdout.text() == f"{NOBODY}\nall\n"


async def test_output_is_kept_at_both_ends() -> None:
    ended = await python("print('a' * 30000 + 'b' * 30000)", max_output_bytes=1000)
    text = ended.stdout.text()
    assert text.startswith("a" * 500 + "\n[... 59001 bytes left out ...]\n") and text.endswith(
        "b" * 499 + "\n"
    )


@pytest.mark.parametrize(("size", "whole"), [(10, True), (11, False)])
def test_output_is_cut_only_beyond_its_bound(size: int, whole: bool) -> None:
    kept = Kept(10)
    for n in range(size):
        kept.add(str(n % 10).encode())
    assert kept.text() == "0123456789" if whole else "left out" in kept.text()


async def test_a_program_that_writes_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "FLOOD_BYTES", 1 << 20)
    ended = await run([shutil.which("yes") or ""], env=plain_environment(), timeout_s=15)
    assert (ended.why, ended.signal) == ("flood", "SIGKILL")
    assert len(ended.stdout.text()) < 17_000


class Silent:
    def progress(self, done: float, total: float | None = None, message: str = "") -> None: ...

    def log(self, message: str, **facts: object) -> None: ...


CONTEXT = ToolContext("k", "t", "r", Silent())


async def test_only_the_programs_that_are_named_are_run(tmp_path: Path, capfd: Any) -> None:
    made = command(["echo", "sleep"], cwd=tmp_path, timeout_s=0.3)
    assert (made.effect, made.access) == ("unsafe", "destructive")
    told = await made.call({"argv": ["echo", "-n", "hello"]}, CONTEXT)
    assert told == {"exit": 0, "signal": None, "ended": None, "stdout": "hello", "stderr": ""}
    for argv in (["sh", "-c", "true"], ["/bin/echo"], ["./echo"], []):
        with pytest.raises(ToolError, match="must begin with one of: echo, sleep"):
            await made.call({"argv": argv}, CONTEXT)
    with pytest.raises(ToolError, match="zero byte"):
        await made.call({"argv": ["echo", "a\0b"]}, CONTEXT)
    with pytest.raises(ToolError, match="at most 1048576"):
        await made.call({"argv": ["echo"], "stdin": "x" * 1048577}, CONTEXT)
    began = time.monotonic()
    told = await made.call({"argv": ["sleep", "60"]}, CONTEXT)
    assert told["ended"] == "It ran for 0.3 s and was killed." and time.monotonic() - began < 30
    assert capfd.readouterr().out == ""  # nothing of it is on the worker's own output


async def test_a_program_that_never_returns_or_floods_ends_as_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "FLOOD_BYTES", 1 << 20)
    made = command(["yes", "sleep"], cwd=tmp_path, timeout_s=0.3)
    told = await perform(made, {"argv": ["sleep", "60"]}, CONTEXT)
    assert told.ok and "was killed" in told.content
    told = await perform(command(["yes"], cwd=tmp_path), {"argv": ["yes"]}, CONTEXT)
    assert told.ok and "wrote more than 1048576 bytes" in told.content and len(told.content) < 40_000


def test_a_program_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no program 'no-such-program'"):
        command(["no-such-program"], cwd=tmp_path)
    with pytest.raises(SettingsError, match="no folder"):
        command(["echo"], cwd=tmp_path / "nothing")


async def test_a_program_that_vanishes_is_told_as_it_ends(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    made = command([str(program)], cwd=tmp_path)
    program.unlink()
    told = await made.call({"argv": [str(program)]}, CONTEXT)
    assert told["exit"] == 127 and "No such file" in told["stderr"]

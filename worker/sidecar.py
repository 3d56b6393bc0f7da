"""A small process beside a worker's session: it brings the wake-up call, and speaks for a worker that died.

It also ends a worker whose event loop stands still for longer than its lease: such a worker hears and says
nothing, its runs have gone to others, and the code that blocks it would never give way.

`worker.wake` starts it as `python -m worker.sidecar BOARD_FD LOG_FD`; its configuration, the key included, is
the first line of its stdin. When stdin closes without a line that tells it to leave, its parent is gone,
however that happened. The subscription runs in a child of its own, the listener, which writes a line of JSON
on stdout for each new state of the session's inbox: the official client's calls hold the interpreter lock and
have no time limit, and nothing may keep the sidecar from seeing its parent die.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from worker.blame import beats, blamed

SUBSCRIBE_S = 15  # the official client subscribes in a call that cannot be cancelled
LISTENER_CHECK_S = 0.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0  # between two tries to subscribe; drawn at random below that
TICK_S = 2.0  # a line at least this often shows the parent that this process lives
ORPHAN_CHECK_S = 1.0  # a forked child of the worker may keep the pipe open: then the parent's id tells
REPORT_S = 8.0  # for all tries of the crash report
REPORT_TRY_S = 2.5


class Gone(Exception):  # noqa: N818 - not an error: the parent is gone
    """The parent ended without a word."""


class Stuck(Exception):  # noqa: N818 - not an error here: the parent's event loop stands still
    """The parent's event loop has stood still for longer than it may; the message says for how long."""


class Left(Exception):  # noqa: N818 - not an error: the parent left in order
    """The parent told this process to leave quietly."""


class Deaf(Exception):  # noqa: N818 - not an error here: the parent starts another sidecar
    """The listener has ended."""


async def watch_parent(source: asyncio.StreamReader) -> None:
    """Wait until the parent tells this process to leave, or is gone.

    Raises:
        Left: It said so.
        Gone: It is gone.
    """
    parent = os.getppid()
    while os.getppid() == parent:
        try:
            async with asyncio.timeout(ORPHAN_CHECK_S):
                line = await source.readline()
        except TimeoutError:
            continue
        if not line:
            raise Gone
        raise Left
    raise Gone


async def watch_loop(board_fd: int) -> None:
    """Wait until the parent's event loop has stood still for longer than it may.

    Raises:
        Stuck: It has.
    """
    clock = asyncio.get_running_loop().time
    known, since = -1, clock()
    while True:
        count, allowed_s = beats(board_fd)
        if count != known or not allowed_s:
            known, since = count, clock()
        elif clock() - since > allowed_s:
            if not await asyncio.to_thread(is_stopped, os.getppid()):
                raise Stuck(f"{clock() - since:.1f} s")
            since = clock()  # somebody has stopped the whole process, and may let it go on
        await asyncio.sleep(min(0.25, (allowed_s or 1.0) / 4))


async def watch_listener(listener: int) -> None:
    """Wait until the listener has ended.

    Raises:
        Deaf: It has.
    """
    while os.waitpid(listener, os.WNOHANG) == (0, 0):  # noqa: ASYNC222 - it does not wait
        await asyncio.sleep(LISTENER_CHECK_S)
    raise Deaf


def is_stopped(process: int) -> bool:
    """Return whether a process is stopped, by SIGSTOP or in a debugger; False too where nobody can tell."""
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[0] in {"T", "t"}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        ps = ["ps", "-o", "state=", "-p", str(process)]
        listed = subprocess.run(ps, capture_output=True, text=True, timeout=5, check=False)
        return listed.stdout.strip()[:1] in {"T", "t"}
    return False


async def bring(config: dict[str, Any], say: BinaryIO, draw: Callable[[], float] = random.random) -> None:
    """Write every new state of the session's inbox as a line, subscribing again whenever that fails."""
    from convex import ConvexClient  # noqa: PLC0415 - only the listener pays for it

    last: Any = None
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            # The default action of SIGALRM ends this process even while the lock is held; the worker then
            # starts another sidecar.
            signal.alarm(SUBSCRIBE_S)
            client = ConvexClient(config["url"])
            inbox = client.subscribe(config["inbox"], {"key": config["key"], "session": config["session"]})
            signal.alarm(0)
            async for state in inbox:
                pause_s = FIRST_PAUSE_S
                if state != last:  # the client repeats a value whenever anything on its connection changes
                    last = state
                    write_line(say, {"inbox": state})
        except Exception as error:
            signal.alarm(0)
            write_line(say, {"error": f"{type(error).__name__}: {error}"[:500]})
        await asyncio.sleep(pause_s * draw())
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


async def tick(say: BinaryIO) -> None:
    """Write an empty line now and then, for as long as the sidecar lives."""
    sidecar = os.getppid()
    while os.getppid() == sidecar:
        await asyncio.sleep(TICK_S)
        write_line(say, {})


def write_line(say: BinaryIO, message: dict[str, Any]) -> None:
    """Write one line; a parent that is gone is noticed elsewhere."""
    with contextlib.suppress(BrokenPipeError):
        say.write(json.dumps(message).encode() + b"\n")
        say.flush()


async def report(config: dict[str, Any], run: str | None) -> None:
    """Tell the control plane that the worker's process is gone; its runs then go back at once."""
    from pydantic import SecretStr  # noqa: PLC0415 - what follows is needed only by the last act of a crash

    from worker.api import Api  # noqa: PLC0415
    from worker.backend import Backend, retry  # noqa: PLC0415

    async with Backend(config["url"]) as backend:
        api = Api(backend, SecretStr(config["key"]))
        await retry(
            lambda timeout: api.crashed(config["session"], run, timeout=timeout),
            deadline_s=REPORT_S,
            attempt_s=REPORT_TRY_S,
        )


async def listen(config: dict[str, Any], say: BinaryIO) -> None:
    """Bring wake-up calls until the sidecar is gone."""
    bringing = asyncio.create_task(bring(config, say))
    await tick(say)
    bringing.cancel()


async def attend(board_fd: int, listener: int) -> None:
    """Watch over the parent for as long as it lives and is heard.

    Raises:
        Gone: The parent is gone.
        Left: The parent told this process to leave.
        Stuck: The parent's event loop stands still.
        Deaf: The listener has ended.
    """
    source = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(source), sys.stdin)
    works = (watch_parent(source), watch_loop(board_fd), watch_listener(listener))
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()


async def serve(config: dict[str, Any], board_fd: int, log_fd: int, listener: int) -> int:
    """Attend to one session; return the process's exit code."""
    try:
        await attend(board_fd, listener)
    except Left:
        return 0
    except Deaf:
        return 1
    except (Gone, Stuck) as end:
        run = blamed(board_fd)
        if isinstance(end, Stuck):
            by = "code of the worker itself" if run is None else f"the code of run {run}"
            line = f"signalbox: the event loop stood still for {end}, blocked by {by}; the worker ends\n"
            os.write(log_fd, line.encode())
            os.kill(os.getppid(), signal.SIGKILL)
        try:
            await report(config, run)
        except Exception as error:
            print(
                f"signalbox: a worker died and the report of it failed: {type(error).__name__}",
                file=sys.stderr,
            )
            return 1
        return 0
    return 1


def main() -> None:
    """Run the sidecar and its listener; neither ever waits for the client's own threads."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # it leaves when its worker does, which may still be draining
        signal.signal(number, signal.SIG_IGN)
    with open(0, "rb", buffering=0, closefd=False) as source:  # what follows the line must stay in the pipe
        first = source.readline()
    if not first:
        os._exit(0)
    config = json.loads(first)
    listener = os.fork()
    null = os.open(os.devnull, os.O_RDWR)
    if listener == 0:
        os.dup2(null, 0)
        say = os.fdopen(os.dup(1), "wb")
        os.dup2(null, 1)  # the official client prints the log lines of functions
        asyncio.run(listen(config, say))
        os._exit(0)
    os.dup2(null, 1)  # so that the parent sees the end of the listener's lines
    try:
        code = asyncio.run(serve(config, int(sys.argv[1]), int(sys.argv[2]), listener))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(listener, signal.SIGKILL)
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()

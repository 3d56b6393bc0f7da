"""Child processes with a session of their own, limits, bounded pipes and a sure end.

asyncio's own streams wait for the end of a pipe that an escaped grandchild may hold open for ever; here the
end of the process is the end, and what is left of its pipes is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio

HIGH_WATER_BYTES = 256 * 1024  # of a pipe that nobody reads; then the child waits
END_S = 5.0  # for a killed process to be gone
KEPT_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")

# Runs in the child, between fork and the program, as a program of its own: code between the two in a process
# with threads may deadlock. It takes the limits, then becomes the program.
_LAUNCHER = """
import json, os, resource, sys
limits = json.loads(sys.argv[1])
try:
    import ctypes
    libc = ctypes.CDLL(None)
    libc.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG: dies with its worker
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS: sudo and its like gain nothing
    if os.getppid() != limits["parent"]:
        os._exit(1)
except (ImportError, OSError, AttributeError):
    pass
def limit(name, value):
    if value is not None and hasattr(resource, name):
        hard = resource.getrlimit(getattr(resource, name))[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(getattr(resource, name), (value, value))
def threads(uid):
    count = 0
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat("/proc/" + name).st_uid == uid:
                with open("/proc/" + name + "/stat", "rb") as file:
                    count += int(file.read().rpartition(b")")[2].split()[17])
        except (OSError, ValueError, IndexError):
            pass
    return count
user = limits["user"]
if user is not None:
    os.setgroups([])
    os.setgid(user)
limit("RLIMIT_CORE", 0)
limit("RLIMIT_CPU", limits["cpu_s"])
limit("RLIMIT_AS", limits["memory_bytes"])
limit("RLIMIT_FSIZE", limits["file_bytes"])
limit("RLIMIT_NOFILE", limits["open_files"])
if limits["processes"] is not None and os.path.isdir("/proc/self"):
    limit("RLIMIT_NPROC", threads(os.getuid() if user is None else user) + limits["processes"])
if user is not None:
    os.setuid(user)
    try:
        libc.prctl(1, 9, 0, 0, 0)  # a change of user has taken it back
    except NameError:
        pass
try:
    os.execv(sys.argv[2], sys.argv[2:])
except OSError as error:
    os.write(2, (sys.argv[2] + ": " + str(error.strerror) + "\\n").encode())
    os._exit(127 if isinstance(error, FileNotFoundError) else 126)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a process may take; None: as much as there is.

    Attributes:
        cpu_s: Seconds of a core, of each process.
        memory_bytes: Of address space, of each process. Runtimes that reserve much more than they use (Node,
            Java, Go) do not start under a small one.
        file_bytes: Of each file that it writes.
        processes: And threads, beyond those that its user has already. Root is not held to it: give a `user`.
        open_files: At once.
        user: Number of the user and group that it becomes; only root can.
    """

    cpu_s: int | None = 60
    memory_bytes: int | None = 1024**3
    file_bytes: int | None = 64 * 1024**2
    processes: int | None = 64
    open_files: int | None = 256
    user: int | None = None


NO_LIMITS = Limits(cpu_s=None, memory_bytes=None, file_bytes=None, processes=None, open_files=None)


def plain_environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a child: where programs and the home are, and what is given; no secrets."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **kept, **(given or {})}


class Pipe:
    """One output of a child; reading it gives a slow reader's child a rest."""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._held = 0
        self._transport: asyncio.ReadTransport | None = None
        self._paused = False
        self._ended = False
        self._waiting: asyncio.Future[None] | None = None

    def connect(self, transport: asyncio.BaseTransport | None) -> None:
        """Learn which transport is to rest."""
        self._transport = transport if isinstance(transport, asyncio.ReadTransport) else None

    def put(self, data: bytes) -> None:
        """Keep what came."""
        self._parts.append(data)
        self._held += len(data)
        if self._held >= HIGH_WATER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def end(self) -> None:
        """Note that nothing more comes."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def receive(self) -> bytes:
        """Return what came next.

        Raises:
            anyio.EndOfStream: The pipe is closed, at both ends or at one.
        """
        while not self._parts:
            if self._ended:
                raise anyio.EndOfStream
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        data = self._parts.popleft()
        self._held -= len(data)
        if self._paused and self._held < HIGH_WATER_BYTES // 2 and not self._ended:
            self._paused = False
            assert self._transport is not None  # it was paused
            self._transport.resume_reading()
        return data


class Child(asyncio.SubprocessProtocol):
    """A process in a session of its own, whose group is killed at its end.

    Attributes:
        stdout: What it writes.
        stderr: And what it complains of; without an end, if it is not a pipe.
    """

    def __init__(self) -> None:
        self.stdout = Pipe()
        self.stderr = Pipe()
        self._transport: asyncio.SubprocessTransport | None = None
        self._exited = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def pid(self) -> int:
        """The process id, which is that of its group and session too."""
        assert self._transport is not None
        return self._transport.get_pid() or 0

    @property
    def returncode(self) -> int | None:
        """The exit code, the negative number of the signal that ended it, or None while it runs."""
        return None if self._transport is None else self._transport.get_returncode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport
        self.stdout.connect(transport.get_pipe_transport(1))
        self.stderr.connect(transport.get_pipe_transport(2))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Keep what it wrote."""
        (self.stdout if fd == 1 else self.stderr).put(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002
        """Note the end of a pipe."""
        if fd == 0:
            self._room.set()
        else:
            (self.stdout if fd == 1 else self.stderr).end()

    def process_exited(self) -> None:
        """Note its end."""
        self._exited.set()

    def pause_writing(self) -> None:
        """Wait with further input."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Go on with input."""
        self._room.set()

    async def send(self, data: bytes) -> None:
        """Write to its standard input, waiting while it does not read.

        Raises:
            anyio.BrokenResourceError: It reads no more.
        """
        assert self._transport is not None
        stdin = self._transport.get_pipe_transport(0)
        if not isinstance(stdin, asyncio.WriteTransport) or stdin.is_closing():
            raise anyio.BrokenResourceError
        stdin.write(data)
        await self._room.wait()

    def close_stdin(self) -> None:
        """Let it see the end of its input."""
        assert self._transport is not None
        stdin = self._transport.get_pipe_transport(0)
        if stdin is not None:
            stdin.close()

    async def wait(self) -> int:
        """Return its exit code once it is gone, whoever still holds its pipes."""
        await self._exited.wait()
        code = self.returncode
        assert code is not None
        return code

    def kill(self) -> None:
        """Kill all of its group that is left; also when it is gone itself."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill its group and return once it has been reaped; a cancellation waits for that."""
        with anyio.CancelScope(shield=True):
            self.kill()
            with anyio.move_on_after(END_S):  # one in an uninterruptible wait would hold us for ever
                await self._exited.wait()
            if self._transport is not None:
                self._transport.close()
            self.stdout.end()
            self.stderr.end()

    def ending(self) -> str:
        """Return in words how it ended."""
        code = self.returncode
        if code is None:
            return "closed its pipe without a result"
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"


async def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | str | None = None,
    limits: Limits | None = None,
    stderr: int | None = asyncio.subprocess.PIPE,
) -> Child:
    """Start a program, whose input and output are pipes.

    Args:
        command: The program's whole path and its arguments; no shell sees them.
        env: All of its environment.
        cwd: Where it begins.
        limits: What it may take; None leaves out the launcher that sets them.
        stderr: Where its complaints go: a pipe, or None for this process's own.

    Raises:
        OSError: It cannot be started.
    """
    command = list(command)
    if limits is not None:
        told = json.dumps({**asdict(limits), "parent": os.getpid()})
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, told, *command]
    _, child = await asyncio.get_running_loop().subprocess_exec(
        Child,
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
    )
    return child

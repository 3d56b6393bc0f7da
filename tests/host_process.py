"""Starts the embedded host as a process of its own, for tests that talk to it over real sockets."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.local import HOST, REPOSITORY, LocalProcess, node_command

# Compiling the host is a fifth of what its start costs: the first one keeps the compiled code for the others.
_COMPILED = {"NODE_COMPILE_CACHE": str(REPOSITORY / "node_modules" / ".cache" / "node")}


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
        flags: Sequence[str] = (),
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="host-") if data is None else None
        self.data = Path(self._temporary.name) if self._temporary is not None else data
        self.functions = functions
        self.admin_key = admin_key
        self.synchronous = synchronous
        self.url = ""
        self.site_url = ""
        self.pid = 0
        self._env = {**_COMPILED, **(env or {})}
        self._flags = flags
        self._ports = ("0", "0")
        self._process: LocalProcess | None = None

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
        flags = [
            *("--functions", str(self.functions), "--data", str(self.data)),
            *("--port", self._ports[0], "--site-port", self._ports[1]),
            *("--admin-key", self.admin_key, "--synchronous", self.synchronous, "--no-watch"),
            *self._flags,
        ]
        with self.log_file.open("ab") as log:
            process = LocalProcess(node_command(HOST, flags), env=self._env, stderr=log)
            try:
                process.start()
            except RuntimeError as error:
                raise RuntimeError(f"{error}: {self.log_file.read_text()[-2000:]}") from None
        self._process = process
        self.url, self.site_url = process.ready["url"], process.ready["siteUrl"]
        self.pid = process.ready["pid"]
        self._ports = (self.url.rsplit(":", 1)[1], self.site_url.rsplit(":", 1)[1])

    def kill(self) -> None:
        """End the host with SIGKILL, as a power cut would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def stop(self) -> int | None:
        """Ask the host to stop with SIGTERM and return its exit code; None if it does not run."""
        process, self._process = self._process, None
        return None if process is None else process.stop()

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

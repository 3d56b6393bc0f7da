"""One peer's programs, driven through the measurements; each has a database and processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bench.noops import TASKS
from bench.peers.installed import Installed
from bench.peers.postgres import Postgres
from bench.stage import cpu_s
from worker.local import REPOSITORY, find_node

HERE = Path(__file__).resolve().parent
_LIMIT_S = 600.0  # a peer that takes longer for one measurement hangs


@dataclass(frozen=True)
class Peer:
    """A task queue that is not Signalbox.

    Attributes:
        name: Its package, and the end of its program's name.
        where: The environment that it is in.
        postgres: The server that it works on.
    """

    name: str
    where: Installed
    postgres: Postgres

    def latencies(self) -> list[float]:
        """Return the ms from the start of each submit call to the start of its handler."""
        with self._stage() as stage, stage.worker() as worker:
            stage.finish(stage.start("latency"))
            return [float(wait) for wait in stage.stop(worker)["waits"]]

    def waiting(self) -> tuple[float, float]:
        """Return the tasks a second of one worker process, from the first handler to the last end.

        And the CPU seconds of the worker and of PostgreSQL, of which the looks of the producer are a part.
        """
        with self._stage() as stage:
            producer = stage.start("waiting")
            stage.line(producer)
            before = cpu_s(self.postgres.pid)
            with stage.worker() as worker:
                ended = stage.finish(producer)["ended"]
                cpu = cpu_s(worker.pid) + cpu_s(self.postgres.pid) - before
                return TASKS / (ended - stage.stop(worker)["first"]) * 1e9, cpu

    def live(self) -> float:
        """Return the tasks a second from the first submit call to the last end."""
        with self._stage() as stage, stage.worker():
            return float(TASKS / stage.finish(stage.start("live"))["seconds"])

    @contextmanager
    def _stage(self) -> Iterator[_Stage]:
        with (
            self.postgres.database(f"bench_{self.name}") as database,
            tempfile.TemporaryFile("w+", encoding="utf-8") as log,
        ):
            stage = _Stage(self, database, log)
            try:
                subprocess.run(
                    stage.command("install"),
                    env=stage.env,
                    cwd=REPOSITORY,
                    stdout=log,
                    stderr=log,
                    check=True,
                )
                yield stage
            except (subprocess.SubprocessError, EOFError) as error:
                log.seek(0)
                raise RuntimeError(f"{self.name} failed: {error}\n{log.read()[-4_000:]}") from error
            finally:
                stage.close()


class _Stage:
    """The processes of one measurement."""

    def __init__(self, peer: Peer, database: str, log: IO[str]) -> None:
        self._peer = peer
        self._database = database
        self._log = log
        self._processes: list[subprocess.Popen[str]] = []
        self.env = {**os.environ, "PEERS_MODULES": str(peer.where.modules), "NODE_ENV": "production"}

    def command(self, what: str) -> list[str]:
        """Return how the peer's program is run."""
        script = HERE / f"on_{self._peer.name}.mjs"
        run = [str(find_node()), str(script)] if script.is_file() else self._python()
        return [*run, what, self._database]

    def _python(self) -> list[str]:
        return [str(self._peer.where.python), "-m", f"bench.peers.on_{self._peer.name}"]

    def start(self, what: str) -> subprocess.Popen[str]:
        """Start the peer's program."""
        process = subprocess.Popen(
            self.command(what),
            env=self.env,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._processes.append(process)
        return process

    def line(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """Return what a program says next."""
        assert process.stdout is not None
        text = process.stdout.readline()
        if not text:
            raise EOFError(f"its program ended with {process.wait()}")
        fact: dict[str, Any] = json.loads(text)
        return fact

    def finish(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """Return what a program says last."""
        text, _ = process.communicate(timeout=_LIMIT_S)
        if process.returncode != 0 or not text:
            raise EOFError(f"its program ended with {process.returncode}")
        fact: dict[str, Any] = json.loads(text.splitlines()[-1])
        return fact

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[str]]:
        """Start a worker; it is stopped at the end if `stop` was not called before."""
        process = self.start("work")
        yield process
        if process.poll() is None:
            self.stop(process)

    def stop(self, worker: subprocess.Popen[str]) -> dict[str, Any]:
        """Stop a worker and return what its handlers saw."""
        worker.send_signal(signal.SIGTERM)
        return self.finish(worker)

    def close(self) -> None:
        """End what still runs."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()

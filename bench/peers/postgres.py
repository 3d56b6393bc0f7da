"""A PostgreSQL of the benchmark's own: a fresh folder, a socket in it, every commit on disk."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from worker.errors import SettingsError

NEEDED = ("initdb", "pg_ctl", "postgres", "createdb", "dropdb")
_CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{folder}'
max_connections = 300
fsync = on
synchronous_commit = on
"""


class Postgres:
    """A server that runs.

    Attributes:
        version: As it says itself, such as "15.18".
        pid: Its first process.
    """

    def __init__(self, folder: Path, version: str) -> None:
        self._folder = folder
        self.version = version
        self.pid = int((folder / "data" / "postmaster.pid").read_text(encoding="utf-8").split()[0])

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """Yield the URL of a new database, and drop it."""
        there = ["--host", str(self._folder), "--username", "postgres"]
        _run(["createdb", *there, name])
        try:
            yield f"postgresql://postgres@/{name}?host={quote(str(self._folder), safe='')}"
        finally:
            _run(["dropdb", "--force", *there, name])


@contextmanager
def started() -> Iterator[Postgres]:
    """Yield a fresh server. Started by root it runs as `postgres` or `nobody`: it refuses to be root itself.

    Raises:
        SettingsError: PostgreSQL is not installed.
    """
    programs = {name: shutil.which(name) for name in NEEDED}
    absent = [name for name, path in programs.items() if path is None]
    if absent:
        raise SettingsError(
            f"the peers need PostgreSQL and PATH has no {', '.join(absent)}: install it "
            "(on Debian or Ubuntu: apt install postgresql) "
            "and put the folder that `pg_config --bindir` names into PATH"
        )
    owner = _owner()
    version = _run(["postgres", "--version"]).split()[2]
    with tempfile.TemporaryDirectory(prefix="bench-pg-", ignore_cleanup_errors=True) as name:
        folder, data = Path(name), Path(name) / "data"
        if owner is not None:
            shutil.chown(folder, owner)
        _run(
            ["initdb", "--pgdata", str(data), "--username", "postgres", "--auth", "trust", "--no-sync"], owner
        )
        with (data / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            configuration.write(_CONFIGURATION.format(folder=folder))
        control = ["pg_ctl", "--pgdata", str(data), "--silent", "--wait"]
        _run([*control, "--log", str(folder / "log"), "start"], owner)
        try:
            yield Postgres(folder, version)
        finally:
            _run([*control, "--mode", "fast", "stop"], owner)


def _owner() -> str | None:
    """Return whom the server is to run as, None for who we are."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _run(command: Sequence[str], owner: str | None = None) -> str:
    done = subprocess.run(
        command, user=owner, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout

"""Where an agent runs that is not played in the worker's own process: a process or a container for each run.

Both speak the lines of JSON of `worker.runtime.isolate` over their standard input and output, in any
language.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import anyio

from worker.errors import SettingsError, SignalboxError
from worker.processes import Child, Limits, plain_environment, start

logger = logging.getLogger(__name__)

RUNNER = ("-m", "worker.runtime.isolated")  # plays a Python agent at the other end
ENGINES = ("docker", "podman")
_ENGINE_VARIABLES = ("DOCKER_", "CONTAINER_", "CONTAINERS_", "XDG_")
OWNER, WORKER, RUN, NAME = "signalbox.owner", "signalbox.worker", "signalbox.run", "signalbox.name"
SWEEP_S = 60.0
_ENGINE_S = 20.0  # for a command of the engine that does not run a container
_EXIT_ENGINE = frozenset({125, 126, 127})  # the engine's own: it could not run what it was told to


class ExecutorError(SignalboxError):
    """A process or container could not be started; another worker may be able to."""

    code = "executor_unavailable"
    retryable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Subprocess:
    """A process for each run, killed with all that it has started when the run ends.

    Attributes:
        command: The program and its arguments; None plays the agent's Python function.
        env: Variables beside PATH, HOME, the language and the time zone; never the worker's own.
        cwd: Where it begins; None: where the worker is.
        limits: What it may take.
    """

    command: Sequence[str] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | str | None = None
    limits: Limits = field(default_factory=lambda: Limits(cpu_s=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container for each run: no network, no rights, a read-only root; removed when the run ends.

    Attributes:
        image: What it is made of; it must be on the machine unless `pull`.
        command: The program in it and its arguments; None plays the agent's Python function, for which the
            image holds this package and the agent's module.
        network: Its network: "none", or one of the engine's. The rules of the tool `fetch` do not hold there.
        memory_mb: Of memory, without swap.
        pids: Processes and threads.
        cpus: Cores.
        tmp_mb: Of memory that /tmp may take, the one place that can be written.
        user: Number of the user and group in it: not root's.
        env: Variables of the program.
        mounts: Folders of this machine that it can read, by where they appear in it.
        engine: docker or podman, or a path; None: the first of the two that is there.
        engine_options: Before the engine's `run`.
        run_options: After it. They can take away what the other fields protect.
        pull: Whether the engine may fetch the image.
    """

    image: str
    command: Sequence[str] | None = None
    network: str = "none"
    memory_mb: int = 512
    pids: int = 128
    cpus: float | None = 1.0
    tmp_mb: int = 64
    user: str = "65534:65534"
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[str, str] = field(default_factory=dict)
    engine: str | None = None
    engine_options: Sequence[str] = ()
    run_options: Sequence[str] = ()
    pull: bool = False

    def __post_init__(self) -> None:
        if self.user.partition(":")[0].strip() in {"", "0", "root"}:
            raise SettingsError(f"A container's user is a number that is not root's, not {self.user!r}")


Executor: TypeAlias = Subprocess | Container
_running: set[str] = set()  # names of the containers of this process
_found: dict[tuple[str | None, ...], tuple[str, ...]] = {}  # engines that have answered


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that a container belongs to, so that others can tell when it is gone."""

    boot: str
    pid: int
    began: str  # in ticks since the boot: numbers of processes come again

    def __str__(self) -> str:
        return f"{self.boot}/{self.pid}/{self.began}"

    @classmethod
    def read(cls, text: str) -> Owner | None:
        """Return what a label says, or None if that is nothing of ours."""
        boot, _, rest = text.partition("/")
        pid, _, began = rest.partition("/")
        return cls(boot, int(pid), began) if pid.isdecimal() else None


def this_process() -> Owner:
    """Return the owner of what this process starts."""
    return Owner(_boot(), os.getpid(), _began(os.getpid()))


def _boot() -> str:
    """Return this boot of this machine, as far as its processes can see each other."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink().name.removeprefix('pid:')}"
    return socket.gethostname()


def _began(pid: int) -> str:
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def is_orphan(labels: Mapping[str, str], worker: str, own: Owner, running: AbstractSet[str]) -> bool:
    """Return whether a container is left behind: its run or process is gone, or its worker is this one.

    What another machine's process has started through the same engine is nobody's to judge but that
    machine's.
    """
    owner = Owner.read(labels.get(OWNER, ""))
    if owner is None:
        return False
    if owner == own:
        return labels.get(NAME) not in running
    if worker and labels.get(WORKER) == worker:
        return True  # a worker's name is one session's at a time
    if owner.boot != own.boot:
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return _began(owner.pid) != owner.began


def _environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of an engine: where its server is, and what the program is given."""
    where = {name: value for name, value in os.environ.items() if name.startswith(_ENGINE_VARIABLES)}
    return plain_environment({**where, **(given or {})})


async def engine_of(container: Container) -> tuple[str, ...]:
    """Return the beginning of a command line of the container's engine, which answers.

    Raises:
        ExecutorError: There is none here.
    """
    wanted = (container.engine, *container.engine_options)
    if wanted not in _found:
        for name in ENGINES if container.engine is None else (container.engine,):
            path = shutil.which(name)
            if path is None:
                continue
            engine = (path, *container.engine_options)
            if (await _engine([*engine, "ps", "--quiet"]))[0] == 0:
                _found[wanted] = engine
                break
        else:
            names = container.engine or " or ".join(ENGINES)
            raise ExecutorError(f"No container engine answers here: {names}")
    return _found[wanted]


def run_command(container: Container, name: str, labels: Mapping[str, str]) -> list[str]:
    """Return the arguments, after the engine's own, that run a container. Pure."""
    command = ("python", *RUNNER) if container.command is None else tuple(container.command)
    options = [
        "run",
        "--rm",
        "--interactive",
        "--stop-signal=KILL",  # podman's `rm --force` stops first, and waits
        "--stop-timeout=1",
        f"--name={name}",
        *(f"--label={key}={value}" for key, value in labels.items()),
        f"--pull={'missing' if container.pull else 'never'}",
        f"--network={container.network}",
        "--read-only",
        f"--tmpfs=/tmp:rw,noexec,nosuid,nodev,mode=1777,size={container.tmp_mb}m",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        f"--user={container.user}",
        f"--memory={container.memory_mb}m",
        f"--memory-swap={container.memory_mb}m",
        f"--pids-limit={container.pids}",
        "--log-driver=none",  # what it says is the run's, and no file grows
        *([] if container.cpus is None else [f"--cpus={container.cpus:g}"]),
        *(
            f"--env={name}" for name in container.env
        ),  # the values come from the environment, which nobody lists
        *(f"--volume={outside}:{inside}:ro" for inside, outside in container.mounts.items()),
        *container.run_options,
    ]
    return [*options, container.image, *command]


@asynccontextmanager
async def started(executor: Executor, run: str, worker: str) -> AsyncIterator[Child]:
    """Hold the process of a run; nothing of it is left behind.

    Raises:
        ExecutorError: It cannot be started.
    """
    opening = _process(executor) if isinstance(executor, Subprocess) else _container(executor, run, worker)
    async with opening as child:
        yield child


@asynccontextmanager
async def _container(executor: Container, run: str, worker: str) -> AsyncIterator[Child]:
    engine = await engine_of(executor)
    name = f"signalbox-{run}-{secrets.token_hex(4)}"
    labels = {OWNER: str(this_process()), WORKER: worker, RUN: run, NAME: name}
    command = [*engine, *run_command(executor, name, labels)]
    _running.add(name)
    # An engine may leave a note where it was called, on how a container ended.
    with tempfile.TemporaryDirectory(prefix="signalbox-", ignore_cleanup_errors=True) as folder:
        try:
            child = await _begun(command, env=_environment(executor.env), cwd=folder)
            try:
                yield child
            finally:
                left = child.returncode is None
                await child.end()
                if left:  # the engine's command is not the container
                    with anyio.CancelScope(shield=True):
                        await _engine([*engine, "rm", "--force", name])
        finally:
            _running.discard(name)


@asynccontextmanager
async def _process(executor: Subprocess) -> AsyncIterator[Child]:
    if executor.command is None:
        command = [sys.executable, *RUNNER]
    else:
        program = shutil.which(executor.command[0])
        if program is None:
            raise ExecutorError(f"There is no program {executor.command[0]!r} in PATH")
        command = [program, *executor.command[1:]]
    child = await _begun(
        command, env=plain_environment(executor.env), cwd=executor.cwd, limits=executor.limits
    )
    try:
        yield child
    finally:
        await child.end()


async def _begun(command: Sequence[str], **more: Any) -> Child:  # noqa: ANN401 - those of `start`
    try:
        return await start(command, **more)
    except OSError as error:
        raise ExecutorError(f"The agent's process cannot be started: {error}") from error


def why_not_run(executor: Executor, child: Child, said: str) -> str | None:
    """Return why a container never began, as its engine says it, or None for any other end."""
    if isinstance(executor, Container) and child.returncode in _EXIT_ENGINE:
        return f"The container did not run: {said or child.ending()}"[:500]
    return None


# What dead workers have left behind.


async def sweep(engine: Sequence[str], worker: str) -> int:
    """Remove the containers that nobody waits for any more, and return how many these were."""
    own = this_process()
    _, listed = await _engine([*engine, "ps", "--all", "--quiet", f"--filter=label={OWNER}"])
    removed = 0
    for container in listed.split():
        _, told = await _engine([*engine, "inspect", "--format={{json .Config.Labels}}", container])
        try:
            labels = json.loads(told or "null") or {}
        except ValueError:
            continue
        if is_orphan(labels, worker, own, _running):
            await _engine([*engine, "rm", "--force", container])
            removed += 1
            logger.warning(
                "a container that a dead worker left is removed",
                extra={"action": "container_swept", "container": container, "run": labels.get(RUN)},
            )
    return removed


async def sweep_on(containers: Sequence[Container], worker: str) -> None:
    """Sweep now and every minute, for every engine that these containers use, until cancelled."""
    engines: set[tuple[str, ...]] = set()
    for container in containers:
        with contextlib.suppress(ExecutorError):
            engines.add(await engine_of(container))
    while engines:
        for engine in engines:
            try:
                await sweep(engine, worker)
            except Exception as error:
                logger.warning(
                    "containers could not be swept",
                    extra={"action": "sweep_failed", "reason": str(error)[:300]},
                )
        await anyio.sleep(SWEEP_S)


async def _engine(command: Sequence[str]) -> tuple[int, str]:
    """Return the exit code of a command of the engine and what it says; one that takes too long is ended."""
    child = await start(command, env=_environment())
    parts: list[bytes] = []
    code = -1
    try:
        child.close_stdin()
        async with asyncio.timeout(_ENGINE_S):
            with contextlib.suppress(anyio.EndOfStream):
                while True:
                    parts.append(await child.stdout.receive())
            code = await child.wait()
    except TimeoutError:
        pass
    finally:
        await child.end()
    return code, b"".join(parts).decode("utf-8", "replace")

"""Executors: agents in processes and containers, in any language, and what is left of them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.lone_run import WORKER, Reporter, outcome_of, run_of
from tests.watched_processes import gone
from worker.errors import SettingsError
from worker.models import Failed, Succeeded
from worker.processes import Limits
from worker.runtime import Container, Run, Subprocess
from worker.runtime import executors as containers
from worker.runtime.executors import Owner, is_orphan, run_command, sweep, this_process

LIMIT_S = 18  # for a run; a program or a container may be slow to come
SH = shutil.which("sh") or ""


async def failure(run: Run) -> tuple[str, bool, str]:
    outcome = await outcome_of(run, LIMIT_S)
    assert isinstance(outcome, Failed), outcome
    return outcome.error.code, outcome.retryable, outcome.error.message


def sh(script: str, **more: Any) -> Subprocess:
    return Subprocess(command=[SH, "-c", script], **more)


async def test_an_agent_may_be_written_in_any_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNALBOX_KEY", "sbw_secret")
    reporter = Reporter()
    script = """
read -r start
case "$start" in *'"agent": "x"'*) ;; *) exit 9;; esac
echo '{"op":"text","kind":"text","text":"working"}'
echo "to its own log: $GIVEN ${SIGNALBOX_KEY:-no key}" >&2
echo '{"op":"result","value":{"n":42}}'
sleep 60
"""
    outcome = await outcome_of(run_of(sh(script, env={"GIVEN": "given"}), reporter=reporter), LIMIT_S)
    assert outcome == Succeeded(output='{"n":42}')
    assert ("text", 0, 1, "working") in reporter.said


async def test_what_it_complains_of_is_in_the_log_of_the_run() -> None:
    reporter = Reporter()
    script = "read -r start; echo one >&2; echo two >&2; exit 7"
    code, retryable, message = await failure(run_of(sh(script), reporter=reporter))
    assert (code, retryable) == ("process_died", True)
    assert message == "The agent's process ended with exit code 7: two"
    assert "".join(text for kind, _, _, text in reporter.said if kind == "log") == "one\ntwo\n"


async def test_its_log_has_a_bound() -> None:
    reporter = Reporter()
    script = "read -r start; yes x | head -c 1000000 >&2; echo end >&2; exit 7"
    assert (await failure(run_of(sh(script), reporter=reporter)))[2].endswith(": end")
    logged = "".join(text for kind, _, _, text in reporter.said if kind == "log")
    assert 65_000 < len(logged) < 67_000 and logged.endswith("[further complaints are left out]\n")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('{"op":"error","code":"no_stock","message":"Sold out","retryable":false}', ("no_stock", False)),
        ('{"op":"error","message":"Oh"}', ("agent_error", True)),
        ('{"op":"text","kind":"shout","text":"x"}', ("process_protocol", False)),
        ('{"op":"text","kind":"text","text":7}', ("process_protocol", False)),
        ('{"op":"load"}', ("process_protocol", False)),
        ('["op"]', ("process_protocol", False)),
        ("not json", ("process_protocol", False)),
        ('{"op":"what","id":1}', ("process_died", True)),
    ],
)
async def test_whatever_it_says_the_run_has_an_outcome(said: str, expected: tuple[str, bool]) -> None:
    code, retryable, _ = await failure(run_of(sh(f"read -r start; echo '{said}'; read -r reply")))
    assert (code, retryable) == expected


async def test_a_result_is_held_to_the_bound_of_outputs() -> None:
    for size, code in ((99_998, None), (99_999, "output_too_large"), (400_000, "process_protocol")):
        script = (
            f'read -r start; printf \'{{"op":"result","value":"\'; head -c {size} /dev/zero | tr \'\\0\' x'
        )
        outcome = await outcome_of(run_of(sh(f"{script}; echo '\"}}'")), LIMIT_S)
        assert (outcome.error.code if isinstance(outcome, Failed) else None) == code


async def test_requests_without_end_are_refused() -> None:
    script = """
read -r start
n=0; while [ $n -lt 100 ]; do n=$((n+1)); echo "{\\"op\\":\\"signalled\\",\\"wait\\":true,\\"id\\":$n}"; done
read -r never
"""
    code, _, message = await failure(run_of(sh(script)))
    assert code == "process_protocol" and "64" in message


async def test_a_program_that_is_not_there_leaves_the_run_to_others() -> None:
    code, retryable, message = await failure(run_of(Subprocess(command=["no-such-program"])))
    assert (code, retryable) == ("executor_unavailable", True)
    assert message == "There is no program 'no-such-program' in PATH"


async def test_a_python_agent_is_played_by_its_own_process() -> None:
    reporter = Reporter()
    limits = Limits(cpu_s=None, memory_bytes=None)
    outcome = await outcome_of(
        run_of(Subprocess(limits=limits), agent="echo", value={"x": 1}, reporter=reporter), LIMIT_S
    )
    assert isinstance(outcome, Succeeded)
    output = json.loads(outcome.output or "")
    assert output["input"] == {"x": 1} and output["pid"] != os.getpid()


async def test_its_limits_hold_and_its_children_die_with_it() -> None:
    reporter = Reporter()
    told = '{"op":"text","kind":"text","text":"%s"}'
    script = f"read -r start; sleep 60 & printf '{told}\\n' $!; wait"
    run = run_of(sh(script), reporter=reporter)

    async def stop() -> None:
        while not reporter.said:
            await anyio.sleep(0.01)
        run.stop("cancelled")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop)
        assert (await outcome_of(run, LIMIT_S)).kind == "cancelled"
    await gone(int(reporter.said[0][3]))
    hungry = Subprocess(
        command=[sys.executable, "-c", "input(); bytearray(1 << 30)"], limits=Limits(memory_bytes=256 << 20)
    )
    code, _, message = await failure(run_of(hungry))
    assert code == "process_died" and "MemoryError" in message


# Containers: what can be said without an engine.


def test_a_container_is_given_nothing_that_it_was_not_promised() -> None:
    plain = run_command(Container(image="i"), "n", {"l": "v"})
    for option in (
        "--rm",
        "--network=none",
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--user=65534:65534",
        "--memory=512m",
        "--memory-swap=512m",
        "--pids-limit=128",
        "--pull=never",
        "--label=l=v",
    ):
        assert option in plain
    assert plain[-4:] == ["i", "python", "-m", "worker.runtime.isolated"]
    more = Container(
        image="i", command=["a", "b"], env={"TOKEN": "secret"}, mounts={"/data": "/srv/x"}, pull=True
    )
    command = run_command(more, "n", {})
    assert "--env=TOKEN" in command and "secret" not in " ".join(command)
    assert "--volume=/srv/x:/data:ro" in command and "--pull=missing" in command
    assert command[-3:] == ["i", "a", "b"]


@pytest.mark.parametrize("user", ["0", "0:0", "root", "root:wheel", ""])
def test_a_container_is_not_roots(user: str) -> None:
    with pytest.raises(SettingsError, match="not root's"):
        Container(image="i", user=user)


OWN = this_process()


@pytest.mark.parametrize(
    ("owner", "worker", "orphan"),
    [
        (OWN, "w1", False),
        (OWN, "w1", "of a run that is over"),
        (replace(OWN, pid=2**22 + 1), "w2", True),
        (replace(OWN, began="1"), "w2", True),
        (replace(OWN, boot="other"), "w2", False),
        (replace(OWN, boot="other"), "w1", True),
        (replace(OWN, pid=os.getppid(), began=containers._began(os.getppid())), "w2", False),
    ],
    ids=[
        "mine",
        "mine, of a run that is over",
        "gone",
        "another by now",
        "of another machine",
        "replaced by me",
        "a neighbour's",
    ],
)
def test_only_what_nobody_waits_for_is_an_orphan(owner: Owner, worker: str, orphan: bool | str) -> None:
    labels = {"signalbox.owner": str(owner), "signalbox.worker": worker, "signalbox.name": "n1"}
    running = {"n1"} if isinstance(orphan, bool) else {"n2"}
    assert is_orphan(labels, "w1", OWN, running) is bool(orphan)
    assert not is_orphan({"signalbox.owner": "nonsense"}, "w1", OWN, running)


async def test_a_machine_without_an_engine_leaves_the_run_to_others() -> None:
    code, retryable, message = await failure(run_of(Container(image="x", engine="no-such-engine")))
    assert (code, retryable) == ("executor_unavailable", True)
    assert message == "No container engine answers here: no-such-engine"


# And with one.

IMAGE = f"signalbox-test:{secrets.token_hex(4)}"
CANDIDATES = [
    Container(image=IMAGE, engine="podman"),
    Container(
        image=IMAGE,
        engine="podman",
        engine_options=("--runtime", "runc", "--cgroup-manager=cgroupfs"),
        run_options=("--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"),
    ),
    Container(image=IMAGE, engine="docker"),
]


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A container of a busybox root that an engine of this machine runs; no registry is asked."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no container is run: there is no busybox in PATH to make an image of")
    archive = tmp_path_factory.mktemp("image") / "root.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(busybox, "bin/busybox")
        for applet in ("sh", "cat", "id", "sleep", "ls", "grep", "touch", "dd", "echo", "printf"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname, link.mode = tarfile.SYMTYPE, "busybox", 0o755
            tar.addfile(link)
    why = []
    for candidate in CANDIDATES:
        engine = shutil.which(candidate.engine or "")
        if engine is None:
            why.append(f"{candidate.engine} is not in PATH")
            continue
        command = [engine, *candidate.engine_options]
        made = subprocess.run(
            [*command, "import", str(archive), IMAGE], capture_output=True, text=True, check=False
        )
        tried = subprocess.run(
            [*command, *run_command(replace(candidate, command=["/bin/echo", "works"]), "signalbox-try", {})],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if tried.stdout == "works\n":
            yield candidate
            subprocess.run([*command, "rmi", "--force", IMAGE], capture_output=True, check=False)
            return
        why.append(f"{candidate.engine}: {(made.stderr + tried.stderr).strip()[-200:]}")
    pytest.skip(f"no container is run: {'; '.join(why)}")


def inside(container: Container, script: str, **more: Any) -> Container:
    return replace(container, command=["/bin/sh", "-c", script], **more)


def listed(container: Container, worker: str = WORKER) -> list[str]:
    engine = [str(container.engine), *container.engine_options]
    command = [*engine, "ps", "-aq", "--filter", f"label=signalbox.worker={worker}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


async def test_a_container_plays_an_agent_and_is_shut_in(container: Container, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("from outside")
    os.chmod(tmp_path, 0o755)  # noqa: PTH101 - it is another user who reads
    script = """
read -r start
say() { printf '{"op":"text","kind":"text","text":"%s\\\\n"}\\n' "$1"; }
say "user $(id -u):$(id -g)"
say "root $(touch /x 2>/dev/null && echo written || echo read-only)"
say "mount $(cat /given/given) $(touch /given/x 2>/dev/null && echo written || echo read-only)"
say "tmp $(touch /tmp/x && echo written)"
say "net $(ls /sys/class/net | tr '\\n' ' ')"
say "$(grep CapEff /proc/self/status | tr '\\t' ' ')"
say "$(grep NoNewPrivs /proc/self/status | tr '\\t' ' ')"
say "env $GIVEN ${SIGNALBOX_KEY:-no key}"
echo '{"op":"result","value":"done"}'
sleep 60
"""
    reporter = Reporter()
    os.environ["SIGNALBOX_KEY"] = "sbw_secret"
    try:
        made = inside(container, script, env={"GIVEN": "given"}, mounts={"/given": str(tmp_path)})
        outcome = await outcome_of(run_of(made, reporter=reporter), LIMIT_S)
    finally:
        del os.environ["SIGNALBOX_KEY"]
    assert outcome == Succeeded(output='"done"')
    told = "".join(text for kind, _, _, text in reporter.said if kind == "text").splitlines()
    assert told == [
        "user 65534:65534",
        "root read-only",
        "mount from outside read-only",
        "tmp written",
        "net lo ",
        "CapEff: 0000000000000000",
        "NoNewPrivs: 1",
        "env given no key",
    ]
    assert listed(container) == []


async def test_a_container_ends_with_its_run(container: Container) -> None:
    reporter = Reporter()
    script = 'read -r start; echo \'{"op":"text","kind":"text","text":"here"}\'; sleep 600'
    run = run_of(inside(container, script), reporter=reporter)

    async def stop() -> None:
        while not reporter.said:
            await anyio.sleep(0.02)
        assert len(listed(container)) == 1
        run.stop("cancelled")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop)
        assert (await outcome_of(run, LIMIT_S)).kind == "cancelled"
    assert listed(container) == []


@pytest.mark.parametrize(
    ("script", "more", "says"),
    [
        ("read -r start; echo why >&2; exit 3", {}, "ended with exit code 3: why"),
        ("read -r start", {"image": "signalbox-no-such-image:1"}, "The container did not run"),
        ("read -r start; x=x; while :; do x=$x$x; done", {"memory_mb": 32}, "137"),
        (
            "read -r start; n=0; while [ $n -lt 40 ]; do sleep 9 & n=$((n+1)); done; exit 0",
            {"pids": 20},
            "fork",
        ),
    ],
    ids=["exit", "no image", "memory", "processes"],
)
async def test_a_container_that_fails_ends_in_one_line(
    container: Container, script: str, more: Any, says: str
) -> None:
    reporter = Reporter()
    code, retryable, message = await failure(run_of(inside(container, script, **more), reporter=reporter))
    logged = "".join(text for _, _, _, text in reporter.said)
    assert retryable and code in {"process_died", "container_failed"}
    assert says in message + logged
    assert listed(container) == []


async def test_what_a_dead_worker_left_is_swept(container: Container) -> None:
    engine = [shutil.which(container.engine or "") or "", *container.engine_options]
    other, names = f"{WORKER}-other", []
    init = Owner(OWN.boot, 1, containers._began(1))  # a process that lives
    for owner in (replace(OWN, pid=2**22 + 1), init):
        names.append(f"signalbox-test-{secrets.token_hex(4)}")
        labels = {"signalbox.owner": str(owner), "signalbox.worker": other, "signalbox.run": "run1"}
        detached = run_command(inside(container, "sleep 600"), names[-1], labels)
        detached[1:3] = ["--detach"]  # in the place of --rm and --interactive
        await anyio.run_process([*engine, *detached])
    try:
        assert len(listed(container, other)) == 2
        assert await sweep(engine, WORKER) >= 1
        assert len(listed(container, other)) == 1  # that of a live process
        await sweep(engine, other)
        assert listed(container, other) == []  # this process is that worker by now
    finally:
        await anyio.run_process([*engine, "rm", "-f", *names], check=False)

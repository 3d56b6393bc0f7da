"""The command line: what it prints, and one clear line for whatever is wrong."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import call, invoke, refused, run, start
from tests.deployment import REPOSITORY, deployed
from tests.fault_proxy import closed_port

pytestmark = pytest.mark.timeout(120)
KEY = "sbo_" + "x" * 43


@pytest.mark.parametrize("command", [["worker"], ["tasks", "list"], ["submit", "echo"]])
@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"SIGNALBOX_KEY": KEY}, ["CONVEX_URL is not set"]),
        ({"SIGNALBOX_KEY": KEY, "CONVEX_URL": "127.0.0.1:3210"}, ["CONVEX_URL must be an address"]),
        ({"SIGNALBOX_KEY": KEY, "CONVEX_URL": "http://"}, ["CONVEX_URL"]),
        ({"CONVEX_URL": "http://127.0.0.1:1"}, ["SIGNALBOX_KEY is not set", "keys create"]),
        (
            {"CONVEX_URL": "http://127.0.0.1:1", "SIGNALBOX_KEY": "secret"},
            ["SIGNALBOX_KEY is not a Signalbox key"],
        ),
    ],
)
def test_a_missing_or_bad_setting_is_named(
    command: list[str],
    settings: dict[str, str],
    parts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # away from whatever .env there is
    ran = invoke(*command, env=settings)
    refused(ran, *parts)
    assert "secret" not in ran.err


def test_an_unreachable_backend_is_named(tmp_path: Path) -> None:
    with closed_port() as url:
        ran = run("tasks", "list", env={"CONVEX_URL": url, "SIGNALBOX_KEY": KEY}, cwd=tmp_path)
        refused(ran, "Cannot reach", url)


def test_a_module_of_agents_that_does_not_import_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "broken_agents.py").write_text("import json\n\nimport no_such_module\n")
    settings = {"CONVEX_URL": "http://127.0.0.1:1", "SIGNALBOX_KEY": KEY}
    refused(
        run("worker", "--agents", "broken_agents", env=settings, cwd=tmp_path),
        "no_such_module",
        "broken_agents.py",
    )
    refused(run("worker", "--agents", "not_there", env=settings, cwd=tmp_path), "not_there")


def test_a_usage_error_exits_with_2() -> None:
    assert run("no-such-command").code == 2
    assert invoke("submit").code == 2
    assert invoke("keys", "create", "--role", "king").code == 2


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused(run("host", "--port", port, "--site-port", "0", "--data", str(tmp_path)), port, "in use")


def test_broken_typescript_is_named_with_its_line_and_nothing_is_written(tmp_path: Path) -> None:
    functions = tmp_path / "convex"
    functions.mkdir()
    (functions / "broken.ts").write_text("export const x = 1;\nexport const = ;\n")
    data = tmp_path / "data"
    ran = run("host", "--functions", str(functions), "--port", "0", "--site-port", "0", "--data", str(data))
    refused(ran, "broken.ts:2")


def test_python_without_venv_is_told_what_to_install(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\ncase "$2" in *venv*) exit 1;; esac\nexec "{sys.executable}" "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    ran = subprocess.run(
        ["make", f"PYTHON={python}", "setup"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode != 0
    assert "venv module is missing" in ran.stderr
    assert "apt install python3-venv" in ran.stderr


async def test_what_the_control_plane_refuses_is_one_line(tmp_path: Path) -> None:
    big = tmp_path / "big.json"
    big.write_text(json.dumps("x" * 8_400_000))
    async with deployed(tmp_path) as at:
        at.worker("w")
        await at.know("noop")
        refused(await call(at, "submit", "ghost"), "No agent named", "ghost", "Known:", "failing")
        refused(await call(at, "submit", "noop", "--input", f"@{big}"), "8400002 bytes", "at most 8388608")
        refused(await call(at, "submit", "noop", "--input", "{"), "not JSON", code=2)
        refused(await call(at, "submit", "noop", "--input", "@/no/such/file"), "/no/such/file")
        refused(await call(at, "tasks", "list", SIGNALBOX_KEY=KEY), "key is not known", "keys create")
        refused(await call(at, "tasks", "list", role="worker"), "role worker", "viewer or submit or op")
        refused(await start(at, "worker", role="submit"), "role submit", "worker")
        refused(await start(at, "worker", SIGNALBOX_KEY=KEY), "key is not known")
        refused(await call(at, "tasks", "show", "garbage"), "garbage")
        refused(await call(at, "keys", "list", CONVEX_ADMIN_KEY="wrong"), "admin key")
        assert (await at.client.tasks()).tasks == []


async def test_from_a_key_to_a_followed_result(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at:
        at.worker("w")
        await at.know("slow")
        admin = {"CONVEX_ADMIN_KEY": at.host.admin_key}
        made = await call(at, "keys", "create", "--role", "submit", "--label", "ci", **admin)
        key = made.out.strip()
        assert made.code == 0
        assert key.startswith("sbs_")
        followed = await call(
            at, "submit", "slow", "--input", '{"seconds": 0.2}', "--follow", SIGNALBOX_KEY=key
        )
        assert followed.code == 0, followed
        assert followed.out.split() == ["word0", "word1", "word2", "word3", '"attempt', '1"']
        listed = json.loads((await call(at, "tasks", "list", "--json")).out)
        assert [task["status"] for task in listed] == ["succeeded"]
        shown = await call(at, "tasks", "show", listed[0]["task"])
        assert "task_submitted" in shown.out
        assert "task_succeeded" in shown.out
        keys = json.loads((await call(at, "keys", "list", "--json", **admin)).out)
        (mine,) = [each for each in keys if each["label"] == "ci"]
        assert (await call(at, "keys", "revoke", mine["key"], **admin)).code == 0
        refused(await call(at, "tasks", "list", SIGNALBOX_KEY=key), "was revoked")


async def test_a_task_that_fails_for_good_makes_the_follower_fail(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at:
        at.worker("w")
        await at.know("failing")
        ran = await call(
            at, "submit", "failing", "--input", '{"times": 9}', "--max-attempts", "1", "--follow"
        )
        refused(ran, "failed", "failure 1")


async def test_a_waiting_task_is_cancelled_from_the_command_line(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at:
        at.worker("w")
        await at.know("noop")
        task = (await call(at, "submit", "noop", "--delay", "60")).out.strip()
        assert (await call(at, "tasks", "cancel", task)).out == "cancelled\n"
        assert (await at.task(task)).status == "cancelled"

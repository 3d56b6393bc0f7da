"""Agents and tools of installed packages are found and run; one that does not import harms none."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.deployment import REPOSITORY
from tests.whole_worker import working
from worker.models import Succeeded
from worker.runtime import Registry, Toolbox, ToolContext, load
from worker.runtime import agents as registered
from worker.runtime import tools as known
from worker.testing import FakeControlPlane


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the package of tests/packages/plugin is installed."""
    folder = tmp_path_factory.mktemp("installed")
    package = REPOSITORY / "tests" / "packages" / "plugin"
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(package)], check=True
    )
    return folder


class Silent:
    def progress(self, done: float, total: float | None = None, message: str = "") -> None: ...

    def log(self, message: str, **facts: object) -> None: ...


async def test_a_plug_in_is_found_and_run(
    installed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.setattr(registered, "registry", Registry())
    monkeypatch.setattr(known, "toolbox", Toolbox())
    monkeypatch.delitem(sys.modules, "signalbox_test_plugin", raising=False)
    with caplog.at_level(logging.ERROR):
        agents = load(["tests.agents_under_test"])
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == (
        "The plug-in 'broken' of signalbox-test-plugin 1.2.3 does not load "
        "(signalbox_test_plugin_that_is_not_there): "
        "ModuleNotFoundError: No module named 'signalbox_test_plugin_that_is_not_there'"
    )
    shouting = agents.get("shouting")
    assert shouting is not None and shouting.description == "Shout what it is given."
    shout = known.toolbox.get("shout")
    assert shout is not None
    assert await shout.call({"text": "hey"}, ToolContext("k", "t", "r", Silent())) == "HEY"
    control = FakeControlPlane()
    async with working(control, shouting):
        task: Any = control.submit("shouting", "hello")
        with anyio.fail_after(10):
            await control.finished()
    assert isinstance(task.outcome, Succeeded) and task.outcome.output == '"HELLO"'


def test_a_worker_without_plug_ins_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    load([])
    assert caplog.records == []

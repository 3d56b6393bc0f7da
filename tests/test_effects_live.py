"""Effects and approvals on a real host with real workers that are killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import get_args

import anyio
import pytest

from tests.deployment import Deployment, deployed
from tests.tools_under_test import POINTS
from worker.approvals import ApprovalView
from worker.cli import main
from worker.errors import AlreadyDecided, ArgumentsChanged
from worker.models import Effect

pytestmark = pytest.mark.timeout(120)

AGENTS = ("--agents", "tests.tools_under_test")
EFFECTS: tuple[Effect, ...] = get_args(Effect)


async def asked(at: Deployment, task: str) -> ApprovalView:
    """Return the one open question of a task."""
    await at.until(task, lambda view: view.status == "waiting_approval")
    (approval,) = (await at.client.approvals.list(task=task, state="asked")).approvals
    return approval


async def test_a_worker_killed_at_each_boundary_of_calls_of_each_class(tmp_path: Path) -> None:
    folders = {(effect, point): tmp_path / effect / point for effect in EFFECTS for point in POINTS}
    for (_, stop), folder in folders.items():
        folder.mkdir(parents=True)
        for point in POINTS:
            if point != stop:
                (folder / point).touch()
    async with deployed(tmp_path) as at:
        worker = at.worker("w", *AGENTS, "--concurrency", "20")
        await at.know("caller")
        tasks = {
            case: await at.submit("caller", {"effect": case[0], "folder": str(folder)})
            for case, folder in folders.items()
        }
        with anyio.fail_after(30):
            for (_, stop), folder in folders.items():
                points = anyio.Path(folder / "points")
                while not await points.exists() or stop not in (await points.read_text()).split():
                    await anyio.sleep(0.02)
        worker.send(signal.SIGKILL)
        for (_, stop), folder in folders.items():
            (folder / stop).touch()
        at.worker("w", *AGENTS, "--concurrency", "20")
        for stop, happened in (("intended", None), ("happened", "told")):
            doubt = await asked(at, tasks["unsafe", stop])
            assert (doubt.why, doubt.tool) == ("in_doubt", "unsafe")
            result = {} if happened is None else {"result": happened}
            await at.client.approvals.decide(doubt.approval, "approve", args_hash=doubt.args_hash, **result)
        ended = dict(zip(tasks, await at.ended(tasks.values(), within_s=30), strict=True))
    for (effect, stop), view in ended.items():
        keys = (folders[effect, stop] / "effects").read_text().split()
        assert set(keys) == {f"{view.task}:call:{effect}#1"}, "the same key each time"
        repeats = stop == "happened" and effect in {"pure", "idempotent", "keyed"}
        assert len(keys) == (2 if repeats else 1), (effect, stop)
        by_hand = {"unsafe": '"told"', "reconcilable": '"found"'}
        expected = by_hand.get(effect, '"done"') if stop == "happened" else '"done"'
        assert (view.status, view.output) == ("succeeded", expected), (effect, stop)


async def test_people_decide_from_programs_and_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with deployed(tmp_path) as at:
        at.worker("w", *AGENTS)
        await at.know("asker")
        cases = [{"amount": 1}, {"amount": 2}, {"amount": 3, "later": 1000}, {"amount": 4, "timeout": 0.2}]
        tasks = [await at.submit("asker", case) for case in cases]
        one, two, three = [await asked(at, task) for task in tasks[:3]]
        assert (await at.client.state(tasks[0])).waits_for == f"approval of pay ({one.approval})"
        monkeypatch.setenv("CONVEX_URL", at.host.url)

        async def signalbox(*arguments: str, key: str = "operator") -> tuple[int, str]:
            monkeypatch.setenv("SIGNALBOX_KEY", at.keys[key])
            code = await anyio.to_thread.run_sync(main, ["approvals", *arguments])
            said = capsys.readouterr()
            return code, said.out + said.err

        code, listed = await signalbox("list", key="submit")
        assert code == 0 and one.approval in listed and two.approval in listed
        code, shown = await signalbox("show", one.approval, key="submit")
        assert code == 0 and '{"amount":1}' in shown and one.args_hash in shown
        code, refusal = await signalbox("approve", one.approval, key="submit")
        assert code == 1 and "needs operator" in refusal and len(refusal.splitlines()) == 1
        code, refusal = await signalbox("approve", one.approval, "--hash", two.args_hash[:8])
        assert code == 1 and one.args_hash in refusal and len(refusal.splitlines()) == 1
        assert (await signalbox("approve", one.approval, "--hash", "ab"))[0] == 2
        code, decided = await signalbox(
            *["approve", one.approval, "--hash", one.args_hash[:8], "--note", "go\u202e on"]
        )
        assert code == 0 and "approved" in decided and "go\\u202e on" in decided
        code, again = await signalbox("refuse", one.approval)
        assert code == 1 and "was approved by" in again and len(again.splitlines()) == 1
        code, listed = await signalbox("list", "--state", "approved", "--json")
        assert code == 0 and json.loads(listed)[0]["decidedByLabel"] == "operator"

        with pytest.raises(ArgumentsChanged):
            await at.client.approvals.decide(two.approval, "approve", args_hash=one.args_hash)
        await at.client.approvals.decide(two.approval, "refuse", args_hash=two.args_hash, note="no")
        with pytest.raises(AlreadyDecided, match="was refused by"):
            await at.client.approvals.decide(two.approval, "approve", args_hash=two.args_hash)
        await at.client.approvals.decide(three.approval, "approve", args_hash=three.args_hash)
        ended = await at.ended(tasks)
    assert [(view.status, view.error and view.error.code, view.output) for view in ended] == [
        ("succeeded", None, '"paid 1, as operator says: go\u202e on"'),
        ("succeeded", None, '"refused: no"'),
        ("failed", "arguments_changed", None),
        ("succeeded", None, '"nobody decided"'),
    ]

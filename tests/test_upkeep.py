"""What has ended: archived, deleted, counted, on a real host whose clock is virtual."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.command_line import call
from tests.deployment import deployed
from worker.cli.upkeep import last_position

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


async def test_an_archive_holds_every_ended_task_once_and_then_they_are_deleted(tmp_path: Path) -> None:
    async with (
        deployed(
            tmp_path,
            flags=["--clock", "virtual:2026-01-01T00:00:00Z"],
            env={"SIGNALBOX_KEEP_DAYS": "1", "SIGNALBOX_ARCHIVE_FIRST": "1"},
        ) as at,
        httpx.AsyncClient(base_url=at.host.url) as http,
    ):

        async def advance(ms: int) -> None:
            answer = await http.post(
                "/api/host/clock",
                json={"advanceMs": ms},
                headers={"authorization": f"Convex {at.host.admin_key}"},
                timeout=120,
            )
            assert answer.status_code == 200, answer.text

        worker = at.worker("w")
        await at.know("noop")
        big = "x" * 20_000
        tasks = [await at.submit("noop", big if i == 0 else i) for i in range(12)]
        await at.ended(tasks)
        kept = await at.submit("noop", "later", delay_ms=60 * 86_400_000)
        worker.destroy()
        await advance(120_000)

        file = tmp_path / "archive.jsonl"
        ran = await call(at, "archive", str(file))
        assert ran.code == 0, ran.err
        whole = lines(file)
        assert sorted(line["task"]["_id"] for line in whole) == sorted(tasks)
        ends = [line["task"]["endedAt"] for line in whole]
        assert ends == sorted(ends)
        (first,) = (line for line in whole if line["task"]["_id"] == tasks[0])
        assert json.loads(first["texts"][first["task"]["inputId"]]) == big
        assert [event["type"] for event in first["events"]] == await at.types(tasks[0])
        assert [run["state"] for run in first["runs"]] == ["succeeded"]

        # Killed in the middle of a line, and begun again.
        text = file.read_bytes()
        for cut in (len(text) - 1, len(text) // 2, 1, 0):
            file.write_bytes(text[:cut])
            assert (await call(at, "archive", str(file))).code == 0
            assert file.read_bytes() == text
        assert (await call(at, "archive", str(file))).code == 0
        assert file.read_bytes() == text

        began = 1_767_225_600_000  # of the virtual clock
        minutes = await at.client.stats(since_ms=began, until_ms=began + 3_600_000)
        assert sum(minute.submitted for minute in minutes) == 13
        table = await call(at, "stats", "--since", "1h")
        assert (table.code, table.out.split()[:2]) == (0, ["minute", "submitted"]), table

        await advance(26 * 3_600_000)
        with anyio.fail_after(60):
            while any([await at.client.get(task) for task in tasks]):
                await advance(60_000)
        assert (await at.task(kept)).status == "delayed"


async def test_an_autoscaler_is_told_what_a_queue_wants_and_only_with_a_key(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at, httpx.AsyncClient(base_url=at.host.site_url) as http:

        async def ask(key: str | None, queue: str = "default") -> httpx.Response:
            headers = {} if key is None else {"authorization": f"Bearer {key}"}
            return await http.get("/autoscale", params={"queue": queue}, headers=headers)

        worker = at.worker("w", "--concurrency", "1")
        await at.know("noop")
        worker.destroy()
        answer = await ask(at.keys["submit"])
        assert answer.status_code == 200, answer.text
        assert answer.json()["queue"] == "default"
        assert isinstance(answer.json()["wanted"], int | float)
        assert (await ask(None)).status_code == 401
        assert (await ask("sbs_" + "x" * 43)).status_code == 401
        assert (await ask(at.keys["worker"])).status_code == 403
        assert (await ask(at.keys["submit"], "a/b")).status_code == 400


@pytest.mark.parametrize(
    ("text", "position"),
    [
        (b"", None),
        (b'{"position":"1/2"}\n', "1/2"),
        (b'{"position":"1/2"}\n{"posi', "1/2"),
        (b'{"position":"1/2"}\n{"position":"3/4"}\n', "3/4"),
        (b'{"position":"1/2"}', None),
        (b'{"position":"1/2","text":"' + b"x" * 200_000 + b'"}\n' + b"y" * 70_000, "1/2"),
    ],
)
def test_an_archive_goes_on_behind_its_last_whole_line(
    tmp_path: Path, text: bytes, position: str | None
) -> None:
    path = tmp_path / "archive"
    path.write_bytes(text)
    with path.open("a+b") as file:
        assert last_position(file) == position
        file.write(b"next")
    assert path.read_bytes() == text[: text.rfind(b"\n") + 1] + b"next"

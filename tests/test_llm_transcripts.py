"""Every transcript of a provider's answer comes out as it should, however its bytes arrive."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.deployment import REPOSITORY
from tests.transcripts import REQUEST, difference, found, main, play, route, told
from worker.llm import ChatClient, Completion, Delta, ModelError, Timeouts
from worker.llm.connect import DIALECTS

DATA = Path(__file__).parent / "data"
SHARED, HARSH = DATA / "llm-transcripts", DATA / "llm-harsh"
CASES = [path for folder in (SHARED, HARSH) for path in found(folder)[0]]
SCENARIOS = [path for folder in (SHARED, HARSH) for path in found(folder)[1]]
DELIVERIES: list[dict[str, Any]] = [{"mode": "bytes", "n": 1}, {"mode": "whole"}]
LARGE = 10_000  # bytes; more of them are sent in their own delivery alone


@cache
def loaded(path: Path) -> dict[str, Any]:
    case: dict[str, Any] = json.loads(path.read_text())
    return case


@cache
def body_of(path: Path) -> bytes:
    name: str = loaded(path)["response"]["body_file"]
    return (path.parent / name).read_bytes()


class Pieces(httpx.AsyncByteStream):
    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


class Canned(httpx.AsyncBaseTransport):
    """Answers with given pieces, without a socket."""

    def __init__(self, case: dict[str, Any], pieces: list[bytes]) -> None:
        self._case = case
        self._pieces = pieces

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = self._case["response"]
        return httpx.Response(
            response["status"], headers=response.get("headers", {}), stream=Pieces(self._pieces)
        )


async def heard(case: dict[str, Any], pieces: list[bytes]) -> dict[str, Any]:
    deltas: list[Delta] = []
    completion: Completion | None = None
    failure: ModelError | None = None
    dialect, transport = DIALECTS[case["dialect"]](None), Canned(case, pieces)
    async with ChatClient("http://model.test/v1", dialect=dialect, transport=transport) as client:
        try:
            async with client.stream(REQUEST, Timeouts(total_s=15)) as events:
                async for event in events:
                    if isinstance(event, Completion):
                        completion = event
                    else:
                        deltas.append(event)
        except ModelError as error:
            failure = error
    return told(deltas, completion, failure)


@pytest.mark.parametrize("path", CASES, ids=lambda path: str(path.stem))
async def test_a_transcript_comes_out_as_expected_in_every_delivery(path: Path) -> None:
    case = loaded(path)
    deliveries: list[dict[str, Any] | None] = [None]
    if len(body_of(path)) < LARGE:
        deliveries += DELIVERIES
    async with anyio.create_task_group() as tasks:
        for delivery in deliveries:
            tasks.start_soon(came_out, path, case, delivery)


async def came_out(path: Path, case: dict[str, Any], delivery: dict[str, Any] | None) -> None:
    assert difference(case["expected"], await play(path.parent, case, delivery)) == {}, delivery


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: str(path.stem))
async def test_a_scenario_of_the_router_comes_out_as_expected(path: Path) -> None:
    _, differs = await route(SHARED, loaded(path))
    assert differs == {}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_split_of_any_transcript_gives_the_same_result(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([p for p in CASES if len(body_of(p)) < LARGE]))
    case, body = loaded(path), body_of(path)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)), max_size=12)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert difference(case["expected"], anyio.run(heard, case, pieces)) == {}


def test_the_transcripts_are_there() -> None:
    shared, harsh = (found(folder)[0] for folder in (SHARED, HARSH))
    assert len(shared) == 21
    assert len(harsh) >= 40
    assert len(SCENARIOS) == 4
    assert {loaded(path)["dialect"] for path in harsh} == set(DIALECTS)


def test_the_command_prints_a_line_for_each_case(tmp_path: Path) -> None:
    for name in ("s01-oai-text-usage", "s15-http-429-seconds"):
        for end in ("json", "sse"):
            shutil.copy(SHARED / f"{name}.{end}", tmp_path)
    (tmp_path / "scenarios").mkdir()
    shutil.copy(SHARED / "scenarios" / "r01-fallback-on-429.json", tmp_path / "scenarios")
    done = subprocess.run(
        [sys.executable, "-m", "tests.transcripts", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [line["ok"] for line in lines] == [True, True, True]
    assert {line.get("case") or line["scenario"] for line in lines} == {
        "s01-oai-text-usage",
        "s15-http-429-seconds",
        "r01-fallback-on-429",
    }


def test_a_difference_is_told_and_fails_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = json.loads((SHARED / "s01-oai-text-usage.json").read_text())
    case["expected"].update(text="Something else.", finish="length")
    (tmp_path / "s01.json").write_text(json.dumps(case))
    shutil.copy(SHARED / "s01-oai-text-usage.sse", tmp_path)
    monkeypatch.setattr(sys, "argv", ["tests.transcripts", str(tmp_path)])
    assert main() == 1
    assert json.loads(capsys.readouterr().out)["difference"] == {
        "text": {"expected": "Something else.", "got": "The task queue is empty."},
        "finish": {"expected": "length", "got": "stop"},
    }
    monkeypatch.setattr(sys, "argv", ["tests.transcripts", str(tmp_path / "scenarios")])
    assert main() == 2
    assert "holds no cases" in capsys.readouterr().err

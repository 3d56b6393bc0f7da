"""`worker.serve` without a socket: requests go straight into the application, callbacks into a double."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest
from pydantic import SecretStr

from tests.scripted_model import scripted_model
from worker import given
from worker.coordinator.session import MAX_SILENT
from worker.errors import SettingsError
from worker.pushed import SHARE_PAUSES_S
from worker.serve import MAX_BODY_BYTES, Endpoint, ServeSettings
from worker.signing import TOLERANCE_S, flaw, secrets_of, signed

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()
BACK = "https://control.example/push/callback"
ASK = "https://control.example/push/ask"


class Control:
    """A control plane that takes callbacks."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.outages = 0
        self.status = 200
        self.refuses = ""
        self.standing: dict[str, Any] | None = None  # of models, as callbacks are answered
        self.gate: anyio.Event | None = None  # until then it is silent
        self.asked = anyio.Event()
        self.later: dict[str, Any] | None = None  # the same for who asks

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        assert flaw(secrets_of(SECRET), request.headers, request.content, time.time()) is None
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.outages:
            self.outages -= 1
            raise httpx.ConnectError("down")
        message = json.loads(request.content)
        if self.refuses in message:
            refusal = {"code": "invalid_argument", "message": "no such thing"}
            return httpx.Response(400, json=refusal)
        self.heard.append(message)
        if message.get("ask") == "models":
            return httpx.Response(200, json=self.later)
        answer = {"stop": False, "code": "run_ended", "standing": self.standing}
        return httpx.Response(self.status, json=answer)


class At:
    """An endpoint in memory and both its sides."""

    def __init__(self, **settings: Any) -> None:
        self.control = Control()
        given = {"secret": SecretStr(SECRET), "agents": ("tests.agents_under_test",), "hold_s": 5, **settings}
        self.woken = self.working = 0
        self.leaving = anyio.Event()
        self.gone: anyio.Event | None = None  # of the worker that it starts: until then it is leaving
        self.endpoint = Endpoint(
            ServeSettings(**given), transport=httpx.MockTransport(self.control), wake=self._wake
        )
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.endpoint), base_url="https://here.example"
        )
        self._ids = 0

    async def _wake(self, idle_s: float, on_leave: Callable[[], None]) -> int:
        self.woken += 1
        self.working += 1
        assert self.working == 1
        await anyio.sleep(0.05)
        if self.gone is not None:
            on_leave()
            self.leaving.set()
            await self.gone.wait()
        self.working -= 1
        return 0

    async def post(
        self, value: Any, *, secret: str = SECRET, message: str = "", at_s: float = 0
    ) -> httpx.Response:
        self._ids += 1
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        headers = signed(secrets_of(secret), message or f"m{self._ids}", body, at_s or time.time())
        return await self.http.post("/", content=body, headers=headers)


def letter(agent: str, input: Any = None, **more: Any) -> dict[str, Any]:
    fields = {"run": "r1", "task": "t1", "attempt": 1, "agent": agent, "kind": "python", "llm": None}
    fields |= {"input": json.dumps(input), "inputUrl": None, "timeoutMs": None, "isolate": False}
    fields |= {"once": False, "steps": 0, "signals": 0, "callbackUrl": BACK, "answerWithinMs": 60_000}
    return {"type": "run", **fields, **more}


async def test_a_run_is_answered_with_its_result_and_its_text() -> None:
    at = At()
    answer = (await at.post(letter("slow", {"seconds": 0.2}))).json()
    assert answer["outcome"] == {"kind": "succeeded", "output": '"attempt 1"'}
    assert "".join(chunk["text"] for chunk in answer["chunks"]) == "word0 word1 word2 word3 "
    assert [chunk["seq"] for chunk in answer["chunks"]] == list(range(len(answer["chunks"])))
    failed = (await at.post(letter("failing", {"times": 1}, run="r2"))).json()["outcome"]
    assert (failed["error"]["code"], failed["retryable"]) == ("runtime_error", True)
    assert at.control.heard == []


async def test_a_result_that_is_late_is_brought_home_through_outages() -> None:
    at = At(hold_s=0)
    at.control.outages = 2
    assert (await at.post(letter("noop", [1]))).status_code == 202
    with anyio.fail_after(10):
        while not at.control.heard:
            await anyio.sleep(0.01)
    (message,) = at.control.heard
    assert (message["run"], message["attempt"]) == ("r1", 1)
    assert message["outcome"] == {"kind": "succeeded", "output": "[1]"}


async def test_the_result_of_a_run_that_came_twice_is_called_back() -> None:
    at, answers = At(), []

    async def post() -> None:
        answers.append((await at.post(letter("slow", {"seconds": 0.3}), message="r1")).status_code)

    async with anyio.create_task_group() as posts:
        posts.start_soon(post)
        while await held(at) != ["r1"]:
            await anyio.sleep(0.01)
        await post()
    assert answers == [202, 202]
    with anyio.fail_after(10):
        while await held(at) != []:
            await anyio.sleep(0.01)
    assert [told["outcome"]["kind"] for told in at.control.heard if "outcome" in told] == ["succeeded"]
    assert (await at.post(letter("slow", {"seconds": 0.3}), message="r1")).status_code == 409


async def test_a_run_that_comes_again_is_answered_as_before_for_as_long_as_it_is_named() -> None:
    at = At(concurrency=1, hold_s=1)
    first = await at.post(letter("noop", 1), message="r1")
    assert first.json()["outcome"]["output"] == "1"
    again = await at.post(letter("noop", 1), message="r1")
    assert (again.status_code, again.content) == (200, first.content)
    assert (await at.post(letter("stubborn", run="r2"), message="r2")).status_code == 202
    for _ in range(2):
        full = await at.post(letter("noop", 1, run="r3"), message="r3")
        assert (full.status_code, full.headers["retry-after"]) == (429, "1"), "also when there is room again"
        await at.post({"type": "cancel", "run": "r2", "reason": "no"})
        while await held(at) != ["r1"]:
            await anyio.sleep(0.01)
    assert [told["run"] for told in at.control.heard if "outcome" in told] == ["r2"]


def test_results_are_kept_up_to_a_bound_in_bytes_and_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "MAX_GIVEN_BYTES", 10)
    results = given.GivenResults()
    results.add("a", b"12345", 0)
    results.add("b", b"67890", 1)
    assert [results.result(run, 1) for run in "ab"] == [b"12345", b"67890"], "at the bound"
    results.add("c", b"1", 2)
    assert [results.result(run, 2) for run in "abc"] == [None, b"67890", b"1"], "above it the oldest goes"
    assert results.names(2) == ["a", "b", "c"]
    late = given.GIVEN_S + 1
    assert results.names(late - 0.1) == ["b", "c"]
    assert results.names(late) == ["c"]
    results.add("d", b"123456789", late)
    assert [results.result(run, late) for run in "cd"] == [b"1", b"123456789"], "what is gone counts no more"


async def test_a_run_that_comes_again_while_its_result_is_made_ready_has_it_called_back() -> None:
    at, answers = At(), []
    at.control.gate = anyio.Event()

    async def post() -> None:
        answers.append((await at.post(letter("wordy", 2_000_000), message="r1")).status_code)

    async with anyio.create_task_group() as posts:
        posts.start_soon(post)
        await at.control.asked.wait()  # what has no room beside the result goes before it
        await post()
        at.control.gate.set()
    assert answers == [202, 202]
    with anyio.fail_after(10):
        while await held(at) != []:
            await anyio.sleep(0.01)
    assert [told["outcome"]["kind"] for told in at.control.heard if "outcome" in told] == ["succeeded"]
    assert sum(len(c["text"]) for told in at.control.heard for c in told.get("chunks", [])) == 2_000_000


async def test_a_run_that_is_not_wanted_any_more_is_stopped_and_one_that_is_cancelled_says_so() -> None:
    at = At(hold_s=0)
    at.control.status = 409
    await at.post(letter("slow", {"seconds": 60}))
    with anyio.fail_after(10):
        while (await held(at)) != []:
            await anyio.sleep(0.05)
    at.control.status = 200
    await at.post(letter("stubborn", run="r2"))
    assert await held(at) == ["r2"]
    assert (await at.post({"type": "cancel", "run": "r2", "reason": "no"})).json() == {"held": True}
    with anyio.fail_after(5):
        while at.control.heard[-1].get("outcome") != {"kind": "cancelled"}:
            await anyio.sleep(0.01)


async def test_a_run_hears_signals_and_a_pause_and_one_that_is_not_here_is_told_again() -> None:
    at = At(hold_s=0)
    told = {"type": "signal", "run": "r1", "reason": "", "control": "c1"}
    first = {"signal": "s1", "name": "go", "data": "1"}
    too_early = await at.post({**told, "signal": first}, message="c1")
    assert too_early.status_code == 404  # the run may still be on its way here
    await at.post(letter("listener", 2, askUrl=ASK))
    assert (await at.post({**told, "signal": first}, message="c1")).json() == {"held": True}
    assert (await at.post({**told, "signal": {"signal": "s1"}})).status_code == 400
    for signal in (first, {**first, "signal": "s2", "data": "2"}):
        assert (await at.post({**told, "signal": signal})).json() == {"held": True}
    await heard(at, {"kind": "succeeded", "output": '[["go",1],["go",2]]'})
    kept = [step for message in at.control.heard for step in message.get("steps", [])]
    assert [(step["key"], step["kind"], step["signal"]) for step in kept] == [
        ("signals", "event", "s1"),
        ("signals#2", "event", "s2"),
    ]
    await at.post(letter("stubborn", run="r2"))
    await at.post({"type": "pause", "run": "r2"})
    await heard(at, {"kind": "released"})


async def test_a_step_is_kept_before_the_next_begins_and_what_is_refused_ends_the_run() -> None:
    at = At(hold_s=5)
    answer = (await at.post(letter("waiter", None, askUrl=ASK))).json()
    assert answer["outcome"] == {
        "kind": "suspended",
        "step": "go",
        "until": {"event": "go", "timeoutMs": None},
    }
    assert [step["key"] for message in at.control.heard for step in message.get("steps", [])] == ["first"]
    at.control.refuses = "steps"
    answer = (await at.post(letter("waiter", None, run="r2", askUrl=ASK))).json()
    assert answer["outcome"]["error"]["code"] == "invalid_step"
    assert "'first' was refused: no such thing" in answer["outcome"]["error"]["message"]


async def test_without_an_address_to_ask_at_durable_steps_fail_with_a_line_that_says_so() -> None:
    answer = (await At().post(letter("waiter"))).json()
    assert answer["outcome"]["retryable"] is False
    assert "too old to keep steps" in answer["outcome"]["error"]["message"]


def limited(requests: int, rev: int, session: str = "s1") -> dict[str, Any]:
    """Return what is told of one model, of which this endpoint's share is so many requests in a minute."""
    state = {"model": "default/scripted-instant", "coolMs": 0, "error": None, "configured": 1, "rev": rev}
    limits = {"perMs": 60_000, "requests": requests, "tokens": None, "mostTokens": None}
    return {"session": session, "models": [{**state, **limits}]}


async def test_a_call_waits_for_a_share_that_it_asks_for_and_tells_what_it_used() -> None:
    with scripted_model() as model:
        told = {"model_base_url": model.base_url, "model": "scripted-instant"}
        at = At(agents=("tests.routed_agents",), **told)
        at.control.standing, at.control.later = limited(0, 1), limited(2, 2)
        answer = (await at.post(letter("ask", 20, askUrl=ASK, standing=limited(0, 1)))).json()
        assert answer["outcome"]["kind"] == "succeeded"
        wants = [report for message in at.control.heard for report in message.get("models", [])]
        assert any(report["share"]["waiting"] and report["share"]["rev"] == 1 for report in wants)
        asked = [message for message in at.control.heard if "ask" in message]
        assert 0 < len(asked) <= len(SHARE_PAUSES_S), "it is asked now and then"
        assert len(at.control.heard) <= 10
        # With another session it begins anew, though that counts its changes from the start.
        again = (await at.post(letter("ask", 20, run="r2", askUrl=ASK, standing=limited(2, 1, "s2")))).json()
        assert again["outcome"]["kind"] == "succeeded"
        await at.endpoint.stop()


async def test_without_a_share_a_run_goes_back_and_has_burnt_nothing() -> None:
    with scripted_model() as model:
        told = {"model_base_url": model.base_url, "model": "scripted-instant"}
        at = At(agents=("tests.routed_agents",), hold_s=20, **told)
        at.control.standing = at.control.later = limited(0, 1)
        answer = (await at.post(letter("ask", 20, askUrl=ASK, standing=limited(0, 1)))).json()
        assert answer["outcome"]["kind"] == "released"
        assert answer["outcome"]["notBeforeMs"] > 0
        assert len(at.control.heard) <= 20, "what is known already is not asked for in a circle"
        await at.endpoint.stop()


async def heard(at: At, outcome: dict[str, Any]) -> None:
    with anyio.fail_after(5):
        while not [message for message in at.control.heard if message.get("outcome") == outcome]:
            await anyio.sleep(0.01)


async def health(at: At) -> dict[str, Any]:
    headers = signed(secrets_of(SECRET), "health-1", b"", time.time())
    told: dict[str, Any] = (await at.http.get("/", headers=headers)).json()
    return told


async def held(at: At) -> list[str]:
    runs: list[str] = (await health(at))["runs"]
    return runs


async def test_a_check_is_told_the_code_of_agents_and_which_runs_are_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = At(hold_s=0)
    told = await health(at)
    assert (told["forks"], told["silent"]) == (True, [])
    code = {agent["name"]: agent for agent in told["agents"]}["stubborn"]["code"]
    assert {"name": "stubborn", "version": code, "code": code} in told["agents"]
    monkeypatch.setattr("worker.runtime.pulse.SILENT_S", 0.0)
    for run in range(MAX_SILENT + 1):
        assert (await at.post(letter("stubborn", run=f"r{run}"))).status_code == 202
    told = await health(at)
    assert len(told["runs"]) == MAX_SILENT + 1
    assert len(told["silent"]) == MAX_SILENT
    first = told["silent"][0]
    assert (first["on"], first["name"], first["attempt"]) == ("agent", None, None)
    silent_ms = [each["ms"] for each in told["silent"]]
    assert silent_ms == sorted(silent_ms, reverse=True)
    for run in range(MAX_SILENT + 1):
        await at.post({"type": "cancel", "run": f"r{run}"})


async def test_a_run_says_what_code_plays_it_and_one_that_began_with_other_code_is_handed_back() -> None:
    at = At()
    assert not (await health(at))["silent"]
    (known,) = [agent for agent in (await health(at))["agents"] if agent["name"] == "noop"]
    answer = (await at.post(letter("noop", 1, version=known["version"]))).json()
    assert answer["outcome"]["kind"] == "succeeded"
    assert answer["playedBy"] == {"version": known["version"], "code": known["code"]}
    other = await at.post(letter("noop", 1, run="r2", version="v0"))
    assert (other.status_code, other.json()["error"]["code"]) == (409, "other_version")
    assert "began with the version v0 of noop" in other.json()["error"]["message"]
    unknown = (await at.post(letter("nobody", 1, run="r3", version="v0"))).json()
    assert (unknown["outcome"]["error"]["code"], "playedBy" in unknown) == ("unknown_agent", False)


async def test_only_who_signs_in_time_and_once_is_heard() -> None:
    at = At()
    assert (await at.post({"type": "wake"}, secret=OTHER)).status_code == 401
    for side in (-1, 1):
        late = time.time() + side * (TOLERANCE_S + 2)
        assert (await at.post({"type": "wake"}, at_s=late)).status_code == 401
    assert (await at.http.post("/", json={"type": "wake"})).status_code == 401
    assert at.woken == 0
    assert (await at.post({"type": "wake"}, message="once")).json() == {"done": True}
    assert (await at.post({"type": "wake"}, message="once")).status_code == 409
    assert at.woken == 1
    assert (await at.http.get("/health")).json() == {"status": "ok"}  # not a word of runs to strangers
    forged = signed(secrets_of(OTHER), "h", b"", time.time())
    assert (await at.http.get("/", headers=forged)).status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"garbage", 400),
        (b"[]", 400),
        (b'{"type":"maybe"}', 400),
        (b'{"type":"run"}', 400),
        (b'{"type":"cancel","run":"x"}' + b" " * (MAX_BODY_BYTES - 27), 404),
        (b" " * (MAX_BODY_BYTES + 1), 413),
    ],
)
async def test_what_is_no_message_is_refused(body: bytes, status: int) -> None:
    assert (await At().post(body)).status_code == status


async def test_calls_that_come_while_it_works_wait_for_the_same_end() -> None:
    at = At()
    async with anyio.create_task_group() as calls:
        for _ in range(3):
            calls.start_soon(at.post, {"type": "wake"})
    assert at.woken == 1


async def test_a_call_that_meets_a_leaving_worker_starts_another_once_that_has_gone() -> None:
    at = At()
    at.gone = anyio.Event()
    async with anyio.create_task_group() as calls:
        calls.start_soon(at.post, {"type": "wake"})
        await at.leaving.wait()
        for _ in range(2):
            calls.start_soon(at.post, {"type": "wake"})
        await anyio.sleep(0.1)
        assert at.woken == 1
        at.gone.set()
    assert at.woken == 2, "one for both, and none beside the first"


async def test_beyond_its_concurrency_it_says_when_to_come_again() -> None:
    at = At(hold_s=0, concurrency=1)
    assert (await at.post(letter("stubborn"))).status_code == 202
    full = await at.post(letter("noop", run="r2"))
    assert (full.status_code, full.headers["retry-after"]) == (429, "1")
    await at.post({"type": "cancel", "run": "r1", "reason": "no"})


@pytest.mark.parametrize("text", ["", "whsec_", "secret", "whsec_" + base64.b64encode(b"s" * 23).decode()])
def test_a_secret_that_is_none_is_refused_and_never_shown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNALBOX_PUSH_SECRET", text)
    with pytest.raises(SettingsError, match="SIGNALBOX_PUSH_SECRET") as refused:
        ServeSettings.from_env()
    assert not text or text not in str(refused.value).replace("whsec_ and", "")

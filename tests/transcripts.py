"""`python -m tests.transcripts DIR`: play a folder of providers' answers over real sockets, and compare.

The folder has the form that `tests/data/llm-transcripts/README.md` describes. Each case, and each scenario of
the router, is one line of JSON: `{"case", "ok", "result", "difference"}`; the exit code is 1 if any differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import anyio

from tests.model_server import Exchange, Handler, serving
from worker.llm import (
    ChatClient,
    ChatRequest,
    Completion,
    Delta,
    ModelError,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    Timeouts,
)
from worker.llm.connect import DIALECTS
from worker.router import Chain, Router, Target
from worker.router.records import CallRecord

AT_ONCE = 8  # cases that play side by side
REQUEST = ChatRequest(model="test-model", messages=[{"role": "user", "content": "hello"}])
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))+")


def pieces(body: bytes, delivery: Mapping[str, Any]) -> list[bytes]:
    """Return the writes in which a body is sent."""
    if delivery.get("mode") == "bytes":
        step = delivery["n"]
        return [body[at : at + step] for at in range(0, len(body), step)]
    if delivery.get("mode") != "events":
        return [body]
    ends = [found.end() for found in _EVENT_END.finditer(body)]
    starts = [0, *ends]
    return [part for start, end in zip(starts, [*ends, len(body)], strict=True) if (part := body[start:end])]


def answers(folder: Path, case: Mapping[str, Any], delivery: Mapping[str, Any] | None = None) -> Handler:
    """Return what sends a case's answer, in its own delivery or in another."""
    response = case["response"]
    body = (folder / response["body_file"]).read_bytes()
    if hashlib.sha256(body).hexdigest() != response.get("sha256", hashlib.sha256(body).hexdigest()):
        raise ValueError(f"{response['body_file']} is not the file that the case was written for")

    async def answer(exchange: Exchange) -> None:
        end = response.get("end", "clean")
        headers = dict(response.get("headers", {}))
        await exchange.start(response["status"], headers, chunked=end in {"clean", "open"})
        for piece in pieces(body, delivery or response.get("delivery", {})):
            await exchange.send(piece)
        if end == "open":
            await exchange.client_gone()
        elif end == "reset":
            exchange.writer.transport.abort()
        else:
            await exchange.end()

    return answer


async def play(
    folder: Path, case: Mapping[str, Any], delivery: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what the client makes of a case, in the form of `expected`."""
    deltas: list[Delta] = []
    completion: Completion | None = None
    failure: ModelError | None = None
    dialect = DIALECTS[case["dialect"]](None)
    async with (
        serving(answers(folder, case, delivery)) as server,
        ChatClient(server.base_url, dialect=dialect) as client,
    ):
        try:
            async with client.stream(REQUEST, Timeouts(**case.get("timeouts", {}))) as events:
                async for event in events:
                    if isinstance(event, Completion):
                        completion = event
                    else:
                        deltas.append(event)
        except ModelError as error:
            failure = error
    return told(deltas, completion, failure)


def told(deltas: list[Delta], completion: Completion | None, failure: ModelError | None) -> dict[str, Any]:
    """Return what came out, in the form of `expected`."""

    def joined(kind: type[TextDelta | ReasoningDelta | RefusalDelta]) -> str:
        return "".join(delta.text for delta in deltas if isinstance(delta, kind))

    usage = completion.usage if completion is not None else failure and failure.usage
    result: dict[str, Any] = {
        "outcome": "error" if failure is not None else "ok",
        "text": joined(TextDelta),
        "reasoning": joined(ReasoningDelta),
        "refusal": joined(RefusalDelta) or None,
        "tool_calls": [] if completion is None else [asdict(call) for call in completion.tool_calls],
        "finish": completion and completion.finish,
        "raw_finish": completion and completion.raw_finish,
        "usage": usage and asdict(usage),
        "error": None,
    }
    if failure is not None:
        result["error"] = {
            "class": failure.code,
            "retry_same": failure.retryable,
            "fallback": failure.fallback,
            "partial_output": failure.partial_output,
            "retry_after_s": failure.retry_after_s,
            "provider_code": failure.provider_code,
            "message": str(failure),
        }
    if completion is not None:
        whole = (completion.text, completion.reasoning, completion.refusal)
        if whole != (result["text"], result["reasoning"], result["refusal"]):
            result["whole"] = whole  # the completion and its own deltas differ: never right
    return result


def difference(expected: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is not as expected: `{field: {"expected", "got"}}`, empty if all is."""
    differs: dict[str, Any] = {}
    for name, wanted in expected.items():
        got = result.get(name)
        if name == "error" and wanted and got:
            for key, value in wanted.items():
                if key == "message_contains":
                    if (value or "") not in got["message"]:
                        differs["error.message"] = {"expected": value, "got": got["message"]}
                elif got.get(key) != value:
                    differs[f"error.{key}"] = {"expected": value, "got": got.get(key)}
        elif name == "usage" and wanted and got is None and expected.get("outcome") == "error":
            pass  # of an answer that broke off nothing may be known
        elif got != wanted:
            differs[name] = {"expected": wanted, "got": got}
    if "whole" in result:
        differs["whole"] = {"expected": "the deltas joined", "got": result["whole"]}
    return differs


class _Shown:
    """Keeps what a viewer of the answer would see: the text of the latest attempt."""

    def __init__(self) -> None:
        self.attempt = 0
        self.texts: list[str] = []
        self.records: list[CallRecord] = []

    @contextmanager
    def calling(self, model: str, attempt: int) -> Iterator[None]:
        yield

    def listen(self, events: object) -> None:
        pass

    def text(self, kind: Literal["text", "reasoning"], text: str, attempt: int) -> None:
        if attempt != self.attempt:
            self.attempt, self.texts = attempt, []
        if kind == "text":
            self.texts.append(text)

    def flush(self) -> None:
        pass

    def record(self, record: CallRecord) -> None:
        self.records.append(record)


class _Servers:
    """The models of a scenario: each answers with its cases in order, the last one again and again."""

    def __init__(self, folder: Path, chain: Mapping[str, list[str]]) -> None:
        self.requests: Counter[str] = Counter()
        self._folder = folder
        self._cases = {
            model: [json.loads((folder / f"{name}.json").read_text()) for name in names]
            for model, names in chain.items()
        }
        self._targets: dict[str, Target] = {}

    def target(self, name: str) -> Target:
        return self._targets[name]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for model, cases in self._cases.items():

                async def handler(exchange: Exchange, model: str = model) -> None:
                    cases = self._cases[model]
                    case = cases[min(self.requests[model], len(cases) - 1)]
                    self.requests[model] += 1
                    await answers(self._folder, case)(exchange)

                server = await stack.enter_async_context(serving(handler))
                dialect = DIALECTS[cases[0]["dialect"]](None)
                client = await stack.enter_async_context(ChatClient(server.base_url, dialect=dialect))
                self._targets[model] = Target(
                    name=model,
                    provider=model,
                    model="test-model",
                    source=client,
                    timeouts=Timeouts(**cases[0].get("timeouts", {})),
                )
            yield


async def route(folder: Path, scenario: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the router makes of a scenario, and how that differs from what is expected."""
    expected, differs = scenario["expected"], {}
    servers, shown, begun = _Servers(folder, scenario["chain"]), _Shown(), time.monotonic()
    router = Router(servers)
    result: dict[str, Any] = {"text": None, "answered_by": None, "error_class": None}
    async with servers.running():
        for _ in range(scenario.get("calls", 1)):
            shown = _Shown()
            try:
                answer = await router.complete(REQUEST, Chain(tuple(scenario["chain"])), sink=shown)
            except ModelError as error:
                result.update(error_class=error.code, message=str(error))
            else:
                result.update(text="".join(shown.texts), answered_by=answer.model)
                if result["text"] != answer.completion.text:
                    differs["shown"] = {"expected": answer.completion.text, "got": result["text"]}
    result["wall_s"] = round(time.monotonic() - begun, 3)
    result["requests"] = {model: servers.requests[model] for model in scenario["chain"]}
    result["cooldown_s"] = {
        model: round(router.standing.free_in_s(model, 0), 3) for model in scenario["chain"]
    }
    result["attempts"] = [{"model": r.model, "state": r.state, "code": r.code} for r in shown.records]
    return result, {**differs, **_scenario_difference(expected, result)}


def _scenario_difference(expected: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    holds: dict[str, bool] = {}
    for name, wanted in expected.items():
        match name:
            case "any_text":
                holds[name] = result["text"] in wanted
            case "requests":
                holds[name] = all(
                    least <= result["requests"][model] <= most for model, (least, most) in wanted.items()
                )
            case "max_wall_s":
                holds[name] = result["wall_s"] <= wanted
            case "cooldown_min_s":  # it has run on for as long as the scenario took
                cools = result["cooldown_s"]
                holds[name] = all(cools[model] >= least - result["wall_s"] for model, least in wanted.items())
            case "cooldown_none":
                holds[name] = all(result["cooldown_s"][model] == 0 for model in wanted)
            case _:
                holds[name] = name in result and result[name] == wanted
    return {
        name: {"expected": expected[name], "got": result.get(name.removeprefix("any_"), result["cooldown_s"])}
        for name, good in holds.items()
        if not good
    }


def found(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the cases and the scenarios of a folder."""
    cases, scenarios = [], sorted((folder / "scenarios").glob("*.json"))
    for path in sorted(folder.glob("*.json")):
        value = json.loads(path.read_text())
        if "response" in value:
            cases.append(path)
        elif "chain" in value:
            scenarios.append(path)
    return cases, scenarios


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    return value


async def run(folder: Path) -> int:
    """Play all of a folder, print a line for each, and return how many differ."""
    slots, differing = anyio.Semaphore(AT_ONCE), 0

    async def one(path: Path, kind: Literal["case", "scenario"]) -> None:
        nonlocal differing
        value = _read(path)
        async with slots:
            try:
                if kind == "case":
                    result = await play(folder, value)
                    differs = difference(value["expected"], result)
                else:
                    result, differs = await route(folder, value)
            except (ValueError, KeyError, TypeError, OSError) as error:
                result, differs = {}, {"case": {"expected": "a case that can be played", "got": repr(error)}}
        differing += bool(differs)
        line: dict[str, Any] = {kind: value.get("id", path.stem), "ok": not differs, "result": result}
        if differs:
            line["difference"] = differs
            if value.get("tolerance"):
                line["tolerance"] = value["tolerance"]
        print(json.dumps(line, ensure_ascii=False), flush=True)

    cases, scenarios = found(folder)
    if not cases and not scenarios:
        raise FileNotFoundError(f"{folder} holds no cases")
    async with anyio.create_task_group() as tasks:
        for path in cases:
            tasks.start_soon(one, path, "case")
    for path in scenarios:  # one after the other: they are held to a time
        await one(path, "scenario")
    return differing


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.transcripts", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the cases are")
    try:
        return 1 if anyio.run(run, parser.parse_args().folder) else 0
    except (OSError, ValueError) as error:
        print(f"tests.transcripts: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

"""Every transcript of a provider's answer, sent over a real socket, comes out as it should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.model_server import Exchange, serving
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

TRANSCRIPTS = Path(__file__).parent / "data" / "llm-transcripts"
CASES = sorted(path.stem for path in TRANSCRIPTS.glob("s*.json"))
REQUEST = ChatRequest(model="test-model", messages=[{"role": "user", "content": "hello"}])


def pieces(body: bytes, delivery: dict[str, Any]) -> list[bytes]:
    if delivery["mode"] == "bytes":
        step = delivery["n"]
        return [body[at : at + step] for at in range(0, len(body), step)]
    separator = b"\r\n\r\n" if b"\r\n\r\n" in body else b"\n\n"
    parts = [part + separator for part in body.split(separator)]
    parts[-1] = parts[-1].removesuffix(separator)
    return [part for part in parts if part]


def joined(deltas: list[Delta], kind: type[TextDelta | ReasoningDelta | RefusalDelta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, kind))


async def replay(case: dict[str, Any]) -> tuple[list[Delta], Completion | None, ModelError | None]:
    response = case["response"]
    body = (TRANSCRIPTS / response["body_file"]).read_bytes()
    assert len(body) == response["body_bytes"]

    async def answer(exchange: Exchange) -> None:
        await exchange.start(response["status"], response["headers"], chunked=response["end"] == "clean")
        for piece in pieces(body, response["delivery"]):
            await exchange.send(piece)
        await exchange.end()

    deltas: list[Delta] = []
    completion: Completion | None = None
    async with serving(answer) as server, ChatClient(server.base_url) as client:
        try:
            async with client.stream(REQUEST, Timeouts(**case["timeouts"])) as events:
                async for event in events:
                    if isinstance(event, Completion):
                        completion = event
                    else:
                        deltas.append(event)
        except ModelError as error:
            return deltas, completion, error
    return deltas, completion, None


@pytest.mark.parametrize("name", CASES)
async def test_a_transcript_comes_out_as_expected(name: str) -> None:
    case = json.loads((TRANSCRIPTS / f"{name}.json").read_text())
    expected = case["expected"]
    deltas, completion, error = await replay(case)

    assert joined(deltas, TextDelta) == expected["text"]
    assert joined(deltas, ReasoningDelta) == expected["reasoning"]
    assert (joined(deltas, RefusalDelta) or None) == expected["refusal"]
    if expected["outcome"] == "error":
        assert completion is None
        assert error is not None
        told = {
            "class": error.code,
            "retry_same": error.retryable,
            "fallback": error.fallback,
            "partial_output": error.partial_output,
            "retry_after_s": error.retry_after_s,
            "provider_code": error.provider_code,
        }
        contains = expected["error"].pop("message_contains")
        assert told == expected["error"]
        assert (contains or "") in str(error)
    else:
        assert error is None
        assert completion is not None
        assert completion.text == expected["text"]
        assert completion.reasoning == expected["reasoning"]
        assert completion.refusal == expected["refusal"]
        assert [
            {"id": c.id, "name": c.name, "arguments": c.arguments, "arguments_raw": c.arguments_raw}
            for c in completion.tool_calls
        ] == expected["tool_calls"]
        assert completion.finish == expected["finish"]
        assert completion.raw_finish == expected["raw_finish"]
        usage = completion.usage
        told_usage = usage and {name: getattr(usage, name) for name in usage.__slots__}
        assert told_usage == expected["usage"]


def test_the_transcripts_are_there() -> None:
    assert len(CASES) == 17

"""The model client and the scripted model server understand each other."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from tests.scripted_model import ScriptedModel, scripted_model
from worker.llm import ChatClient, ChatRequest, Completion, ModelError, TextDelta, Timeouts


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with scripted_model() as running:
        yield running


async def asked(
    model: ScriptedModel, prompt: str, *, max_output_tokens: int | None = None, patience_s: float = 15
) -> tuple[str, Completion]:
    message = {"role": "user", "content": prompt}
    request = ChatRequest(model="scripted-instant", messages=[message], max_output_tokens=max_output_tokens)
    shown = ""
    async with (
        ChatClient(model.base_url) as client,
        client.stream(request, Timeouts(idle_s=patience_s, first_event_s=patience_s)) as events,
    ):
        async for event in events:
            if isinstance(event, TextDelta):
                shown += event.text
    assert isinstance(event, Completion)
    return shown, event


async def test_an_answer_is_streamed_whole_with_its_usage(model: ScriptedModel) -> None:
    shown, completion = await asked(model, "Explain how kettles boil.")
    assert "kettles" in shown
    assert completion.text == shown
    assert (completion.model, completion.finish) == ("scripted-instant", "stop")
    assert completion.usage is not None
    assert (completion.usage.input_tokens, 60 <= (completion.usage.output_tokens or 0) <= 250) == (9, True)
    assert (await asked(model, "Explain how kettles boil."))[0] == shown


async def test_a_limit_of_tokens_cuts_the_answer(model: ScriptedModel) -> None:
    _, completion = await asked(model, "Explain how kettles boil.", max_output_tokens=5)
    assert completion.finish == "length"
    assert completion.usage is not None
    assert completion.usage.output_tokens == 5


@pytest.mark.parametrize(
    ("script", "code", "partial"),
    [
        ("fail", "server_error", False),
        ("fail status=529", "overloaded", False),
        ("rate-limit after=3", "rate_limited", False),
        ("error after=2 first=0", "server_error", True),
        ("truncate after=2 first=0", "stream_truncated", True),
        ("stall after=2 first=0 every=0", "timeout", True),
        ("stall after=0", "timeout", False),
        ("comments every=10", "timeout", False),
        ("slow-start first=60000", "timeout", False),
    ],
)
async def test_a_scripted_fault_has_its_class(
    model: ScriptedModel, script: str, code: str, partial: bool
) -> None:
    with pytest.raises(ModelError) as caught:
        patience_s = 0.5 if code == "timeout" else 15
        await asked(model, f"Explain how kettles boil. [[script: {script}]]", patience_s=patience_s)
    assert (caught.value.code, caught.value.partial_output) == (code, partial)
    assert caught.value.retry_after_s == (3 if code == "rate_limited" else None)


async def test_a_cancelled_answer_is_seen_as_aborted(model: ScriptedModel) -> None:
    stalls = ChatRequest(model="scripted-stall", messages=[{"role": "user", "content": "cancel me"}])
    async with ChatClient(model.base_url) as client:
        with anyio.CancelScope() as scope:
            async with client.stream(stalls) as events:
                async for _ in events:
                    scope.cancel()
    with anyio.fail_after(10):
        while not model.requests()[-1]["done"]:
            await anyio.sleep(0.01)
    assert model.requests()[-1]["aborted"]

"""The built-in agent that a model plays, described by its row in the registry."""

from __future__ import annotations

from typing import Any

from worker.errors import NonRetryable
from worker.models import LlmSpec
from worker.runtime.context import Context

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


class InvalidInputError(NonRetryable):
    """The task's input is not one that this agent understands."""

    code = "invalid_input"


def messages_of(spec: LlmSpec, value: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - any JSON may arrive
    """Return the chat for an input: a text, `{"prompt": text}` or `{"messages": [...]}`.

    The agent's own prompt goes first, as the system's message.

    Raises:
        InvalidInputError: The input is none of the three.
    """
    system = [{"role": "system", "content": spec.prompt}] if spec.prompt else []
    if isinstance(value, str):
        return [*system, {"role": "user", "content": value}]
    if isinstance(value, dict) and isinstance(value.get("prompt"), str):
        return [*system, {"role": "user", "content": value["prompt"]}]
    if isinstance(value, dict) and isinstance(value.get("messages"), list) and value["messages"]:
        for number, message in enumerate(value["messages"]):
            if not isinstance(message, dict) or message.get("role") not in _ROLES:
                raise InvalidInputError(
                    f"messages[{number}] needs a `role` (user, assistant, ...) and `content`"
                )
        return [*system, *value["messages"]]
    raise InvalidInputError('The input must be a text, {"prompt": "..."} or {"messages": [...]}')


async def play(ctx: Context, spec: LlmSpec, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON may arrive
    """Ask the model and return `{"text", "finish", "model"}`."""
    completion = await ctx.complete(
        messages_of(spec, value),
        model=spec.model,
        temperature=spec.temperature,
        max_output_tokens=spec.max_output_tokens,
    )
    return {"text": completion.text, "finish": completion.finish, "model": completion.model}

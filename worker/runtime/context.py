"""What an agent holds while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from worker.llm import Completion
from worker.runtime.model import Prompt
from worker.runtime.stream import OWN_LOG, OWN_TEXT, Label


class Host(Protocol):
    """What a run needs from its process; another process can stand in for it."""

    def write(self, text: str, label: Label) -> None:
        """Add text to the run's stream."""

    async def room(self) -> None:
        """Wait while too much text has gathered."""

    async def confirmed(self) -> None:
        """Wait until the control plane has acknowledged a write of this run."""

    async def complete(self, prompt: Prompt) -> Completion:
        """Call the model, streaming what it says."""


class Context:
    """The run that an agent plays.

    Attributes:
        run: Id of this attempt.
        task: Id of the task, the same for each attempt: the right key to make effects idempotent.
        attempt: 1 for the first run of the task, then 2, 3, ...
        agent: The agent's name.
    """

    def __init__(self, *, run: str, task: str, attempt: int, agent: str, host: Host) -> None:
        self.run = run
        self.task = task
        self.attempt = attempt
        self.agent = agent
        self._host = host

    async def stream(self, text: str, kind: str = "text") -> None:
        """Show `text` to whoever follows the run; `kind` is "text" or "reasoning"."""
        if kind not in {"text", "reasoning"}:
            raise ValueError(f"kind must be 'text' or 'reasoning', not {kind!r}")
        self._host.write(_text(text), OWN_TEXT if kind == "text" else OWN_TEXT._replace(kind="reasoning"))
        await self._host.room()

    def log(self, message: str, **facts: object) -> None:
        """Add a line to the run's log, with facts beside it."""
        beside = "".join(f" {name}={value!r}" for name, value in facts.items())
        self._host.write(f"{_text(message)}{beside}\n", OWN_LOG)

    async def complete(
        self,
        messages: str | Iterable[Mapping[str, Any]],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_output_tokens: int | None = None,
    ) -> Completion:
        """Call the model, stream what it says into the run, and return the whole answer.

        A call that fails in a way that passes is tried again; the new text then replaces the old.

        Args:
            messages: Messages such as `{"role": "user", "content": "..."}`, or the user's text alone.
            model: The worker's default model unless given.
            temperature: The provider's default unless given.
            max_output_tokens: The provider's default unless given.

        Raises:
            ModelError: The last failure.
        """
        chat = (
            [{"role": "user", "content": messages}]
            if isinstance(messages, str)
            else [dict(m) for m in messages]
        )
        return await self._host.complete(Prompt(chat, model, temperature, max_output_tokens))

    async def confirmed(self) -> None:
        """Wait until the control plane has acknowledged a write of this run.

        Until then another worker may own the task, so an agent waits for this before effects on the outside.
        """
        await self._host.confirmed()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text must be a str, not {type(value).__name__}")
    return value

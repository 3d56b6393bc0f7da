"""Calls models: one request out, a stream of events back, every failure named.

async with client.stream(ChatRequest(model="m", messages=[...]), Timeouts(total_s=120)) as events:
    async for event in events:
        match event:
            case TextDelta(text): ...
            case Completion(): ...  # always the last one; without it a ModelError is raised
"""

from __future__ import annotations

from worker.llm.client import ChatClient
from worker.llm.errors import ModelError
from worker.llm.messages import (
    ChatRequest,
    Completion,
    Delta,
    Event,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    Timeouts,
    TokenUsage,
    ToolCall,
    ToolCallDelta,
)

__all__ = [
    "ChatClient",
    "ChatRequest",
    "Completion",
    "Delta",
    "Event",
    "ModelError",
    "ReasoningDelta",
    "RefusalDelta",
    "TextDelta",
    "Timeouts",
    "TokenUsage",
    "ToolCall",
    "ToolCallDelta",
]

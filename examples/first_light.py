"""Two plain Python agents: any async function can be one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import anyio

from worker.runtime import Context, agent

REPOSITORY = Path(__file__).resolve().parent.parent


@agent("count_words", description="Counts the words of a file of this repository.")
async def count_words(ctx: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Return how many words the file has and which are the most frequent long ones."""
    path = (REPOSITORY / input["path"]).resolve()
    if not path.is_relative_to(REPOSITORY):
        raise ValueError(f"{input['path']!r} is outside the repository")
    text = await anyio.Path(path).read_text(encoding="utf-8")
    words = text.split()
    await ctx.stream(f"{path.name}: {len(words)} words. ")
    frequent = Counter(word.strip('.,;:()"').lower() for word in words if len(word) > 7).most_common(3)
    await ctx.stream("Most frequent: " + ", ".join(f"{word} ({count})" for word, count in frequent) + ".")
    return {"words": len(words), "frequent": dict(frequent)}


@agent("second_try", description="Fails on its first attempt, to show a retry.")
async def second_try(ctx: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Return the order on any attempt but the first."""
    if ctx.attempt == 1:
        raise ConnectionError("the first attempt fails on purpose, as a flaky service would")
    await ctx.stream(f"Attempt {ctx.attempt}: order {input['order']} is confirmed.")
    return {"order": input["order"], "confirmed": True}

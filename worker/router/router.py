"""Asks the models of a chain until one has answered."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from worker.llm.errors import ModelError
from worker.llm.messages import ChatRequest
from worker.purse import UNLIMITED, Purse
from worker.router.calls import Answer, RoutedCall
from worker.router.decide import Chain
from worker.router.ports import Catalogue, Sink, Target
from worker.router.standing import Standing


class Router:
    """Asks the models of a chain in turn, by the rules of `rules`, until one has answered.

    Args:
        catalogue: The models.
        standing: How they stand; shared by all calls of a worker.
        clock: Monotonic seconds.
        draw: Draws evenly from [0, 1).
    """

    def __init__(
        self,
        catalogue: Catalogue,
        standing: Standing | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.standing = standing if standing is not None else Standing(clock=clock)
        self._catalogue = catalogue
        self._clock = clock
        self._draw = draw

    async def complete(
        self,
        request: ChatRequest,
        chain: Chain,
        *,
        sink: Sink,
        purse: Purse = UNLIMITED,
        deadline: float | None = None,
        stay: str | None = None,
    ) -> Answer:
        """Return the answer of the first model that gives one, having shown it.

        Text that an attempt had shown before it failed is superseded by that of the next attempt.

        Args:
            request: What to ask; its `model` is left to the chain.
            chain: Whom to ask.
            sink: Where the answer is shown and each attempt recorded.
            purse: Pays for each attempt.
            deadline: When the call must be over, by `anyio.current_time`.
            stay: The model that has the beginning of this conversation in its cache; it goes first while it
                is healthy.

        Raises:
            ModelError: No model has answered; its class is that of the failure that decided, and its message
                names them all.
            BudgetExceeded: The purse is empty.
        """
        found: dict[str, Target] = {}
        unusable: dict[str, ModelError] = {}
        for name in chain.models:
            try:
                target = self._catalogue.target(name)
                found.setdefault(target.name, target)
            except ModelError as error:
                unusable[name] = error
        targets = dict(sorted(found.items(), key=lambda item: item[0] != stay))
        call = RoutedCall(
            request,
            chain,
            sink=sink,
            purse=purse,
            deadline=deadline,
            targets=targets,
            unusable=unusable,
            standing=self.standing,
            clock=self._clock,
            draw=self._draw,
        )
        return await call.answer()

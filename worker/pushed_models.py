"""How models stand for the runs that are pushed to this process: what it is told, and what it tells."""

from __future__ import annotations

from collections.abc import Callable

from worker.logs import Redactor
from worker.models import ModelReport, ModelStanding
from worker.routing import report_of, state_of
from worker.runtime import ModelCaller


class PushedModels:
    """Joins the standing of this process's models with the control plane, as a worker's session does.

    Args:
        model: Calls models; None when no provider is configured.
        redact: Takes secrets out of what is told.
        on_news: Called when there is something that others should hear soon.
    """

    def __init__(self, model: ModelCaller | None, redact: Redactor, on_news: Callable[[], None]) -> None:
        self._standing = None if model is None else model.router.standing
        self._redact = redact
        self._session: str | None = None  # for which it was told last
        if self._standing is not None:
            self._standing.on_news = on_news

    def learn(self, told: ModelStanding | None) -> None:
        """Take in how models stand; None: there is nothing to say of any."""
        if self._standing is None:
            return
        if told is None:
            self._standing.learn(())
            return
        if told.session != self._session:
            self._session = told.session
            self._standing.begin()
        self._standing.learn(state_of(state) for state in told.models)

    def reports(self) -> list[ModelReport]:
        """Return what has happened with models since the last call; it is told once."""
        if self._standing is None:
            return []
        return [report_of(report, self._redact) for report in self._standing.reports()]

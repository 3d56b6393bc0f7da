"""The results that an endpoint has answered runs with, for as long as somebody may not have heard them."""

from __future__ import annotations

from collections import OrderedDict

GIVEN_S = 30.0  # an answer may be on its way for so long
MAX_GIVEN_BYTES = 64 * 1024 * 1024  # of the results that are kept


class GivenResults:
    """The results that runs were answered with, each for `GIVEN_S` seconds.

    While they last a run is named as held, as its answer may be on its way, and a post that comes again is
    answered the same: whoever between has sent it again may pass that answer on alone. Beyond
    `MAX_GIVEN_BYTES` the oldest are forgotten but for their names.
    """

    def __init__(self) -> None:
        self._given_at: OrderedDict[str, float] = OrderedDict()  # the oldest first, as below
        self._results: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def add(self, run: str, result: bytes, now: float) -> None:
        """Note the result that a run is answered with."""
        self._forget(now)
        self._given_at[run] = now
        self._results[run] = result
        self._bytes += len(result)
        while self._bytes > MAX_GIVEN_BYTES:
            self._bytes -= len(self._results.popitem(last=False)[1])

    def result(self, run: str, now: float) -> bytes | None:
        """Return what a run was answered with, if that is known still."""
        self._forget(now)
        return self._results.get(run)

    def names(self, now: float) -> list[str]:
        """Return the runs."""
        self._forget(now)
        return list(self._given_at)

    def _forget(self, now: float) -> None:
        while self._given_at and now - next(iter(self._given_at.values())) >= GIVEN_S:
            run, _ = self._given_at.popitem(last=False)
            self._bytes -= len(self._results.pop(run, b""))

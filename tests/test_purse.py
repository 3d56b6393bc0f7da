"""What a run may spend, decided by itself: reservations, wishes for more, time that is asked for early."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.lone_run import Reporter, assigned
from worker.models import Allotment, Amounts, Caps, Failed, Released
from worker.purse import BudgetExceeded, UnpricedModel
from worker.runtime import Agent, Context, Environment, Registry, Run
from worker.runtime.allotment import Halted, RunPurse


def allotted(
    want: int = 0, verdict: Any = "granted", unpriced: float | None = None, **caps: int
) -> Allotment:
    why = None if verdict == "granted" else "All of it is spent"
    return Allotment(
        want=want, verdict=verdict, granted=Caps(**caps), degraded=False, unpriced=unpriced, why=why
    )


class Scene:
    """A purse under a clock that stands still but for the purse's own sleeps."""

    def __init__(self, first: Allotment, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []
        self.told = 0
        self.halted: list[Allotment] = []
        self.purse = RunPurse("run1", first, tell=self._tell, halt=self.halted.append, clock=lambda: self.now)
        monkeypatch.setattr(anyio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += seconds
        await anyio.lowlevel.checkpoint()

    def _tell(self) -> None:
        self.told += 1

    async def asked(self) -> Amounts:
        """Return what the purse asks for, once it does."""
        with anyio.fail_after(10):
            while (want := self.purse.spending().want) is None:
                await anyio.lowlevel.checkpoint()
        return want.need

    def answer(self, verdict: Any = "granted", **caps: int) -> None:
        want = self.purse.spending().want
        assert want is not None
        self.purse.answered(allotted(want.number, verdict, **caps))


@asynccontextmanager
async def keeping_time(scene: Scene) -> AsyncIterator[list[Exception]]:
    """Have the purse keep its time meanwhile; what it raised is in the list."""
    raised: list[Exception] = []

    async def keep() -> None:
        try:
            await scene.purse.keep_time()
        except Exception as error:
            raised.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(keep)
        yield raised
        with anyio.fail_after(10):
            while not raised and scene.purse.limits_time:
                await anyio.lowlevel.checkpoint()


async def test_time_is_asked_for_when_a_fifth_of_the_last_piece_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(allotted(ms=10_000), monkeypatch)
    async with keeping_time(scene) as raised:
        assert await scene.asked() == Amounts(ms=1)
        assert scene.slept == [8.0]
        assert scene.purse.spending().spent.ms == 8_000
        scene.answer(ms=20_000)  # a piece of 12 s from now on
        assert await scene.asked() == Amounts(ms=1)
        assert scene.slept == [8.0, 9.6]
        scene.answer("exceeded", ms=20_000)
    assert isinstance(raised[0], BudgetExceeded)
    assert str(raised[0]) == "All of it is spent"
    assert scene.told == 2, "each wish is told at once"


@pytest.mark.parametrize(("piece_ms", "slept"), [(1_000, 0.8), (999, 0.999)])
async def test_a_piece_below_a_second_is_used_up_before_more_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, piece_ms: int, slept: float
) -> None:
    scene = Scene(allotted(ms=piece_ms), monkeypatch)
    async with keeping_time(scene) as raised:
        await scene.asked()
        assert scene.slept == [slept]
        scene.answer("paused", ms=piece_ms)
    assert isinstance(raised[0], Halted)
    assert [each.verdict for each in scene.halted] == ["paused"]


async def test_time_that_a_call_has_brought_meanwhile_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(allotted(ms=10_000, calls=0), monkeypatch)
    async with anyio.create_task_group() as group:
        group.start_soon(scene.purse.reserve, 0, 0)
        assert await scene.asked() == Amounts(calls=1)
        group.start_soon(scene.purse.keep_time)
        with anyio.fail_after(10):
            while not scene.slept:
                await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()  # the keeper stands in line behind the call
        scene.answer(ms=30_000, calls=8)
        await scene.asked()
        group.cancel_scope.cancel()
    assert scene.slept == [8.0, pytest.approx(22.0 - 22.0 * 0.2)], "it slept on, with the new piece"
    assert scene.purse.spending().reserved.calls == 1


async def test_who_is_not_limited_in_time_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(allotted(calls=1), monkeypatch)
    assert not scene.purse.limits_time
    await scene.purse.keep_time()
    scene.now += 5
    assert scene.purse.spending().spent == Amounts(), "nor is its time told"
    limited = Scene(allotted(ms=1_000), monkeypatch)
    async with keeping_time(limited) as raised:
        await limited.asked()
        limited.answer()  # the budget was taken away
    assert raised == []


async def test_what_fits_is_reserved_and_more_is_asked_for_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(allotted(micros=100, tokens=50), monkeypatch)
    purse = scene.purse
    first = await purse.reserve(100, 50)
    assert purse.spending().reserved == Amounts(micros=100, tokens=50, calls=1)
    holds: list[int] = []

    async def reserve(number: int, micros: int) -> None:
        (await purse.reserve(micros, 0)).close()
        holds.append(number)

    async with anyio.create_task_group() as group:
        group.start_soon(reserve, 1, 1)
        assert await scene.asked() == Amounts(micros=1, calls=1)
        group.start_soon(reserve, 2, 90)
        await anyio.wait_all_tasks_blocked()
        stale = allotted(purse.spending().want.number, micros=1_000)  # type: ignore[union-attr]
        first.settle(40, 50)
        purse.answered(stale)
        assert purse.spending().want is not None, (
            "an older wish's answer is passed over: that one stands anew"
        )
        scene.answer(micros=41, tokens=50)
        assert await scene.asked() == Amounts(micros=90, calls=1)
        assert holds == [1]
        scene.answer(micros=131, tokens=50)
    assert holds == [1, 2]
    first.settle(1_000, 1_000)  # only the first counts
    assert purse.spending().spent == Amounts(micros=131, tokens=50, calls=3)
    assert purse.spending().reserved == Amounts()


async def test_a_model_without_a_price_counts_what_such_tokens_count_or_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UnpricedModel, match="no price"):
        await Scene(allotted(micros=100), monkeypatch).purse.reserve(None, 10)
    scene = Scene(allotted(micros=100, unpriced=2.5), monkeypatch)
    hold = await scene.purse.reserve(None, 10)
    assert scene.purse.spending().reserved.micros == 25
    hold.settle(None, 3)
    assert scene.purse.spending().spent == Amounts(micros=8, tokens=3, calls=1)
    free = Scene(allotted(tokens=100), monkeypatch)
    (await free.purse.reserve(None, 10)).settle(None, 10)
    assert free.purse.spending().spent == Amounts(tokens=10, calls=1), "no money is limited"


def test_what_is_no_news_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(allotted(calls=8), monkeypatch)
    assert scene.purse.changed() is None
    scene.purse.settle(Amounts(), Amounts(calls=1))
    told = scene.purse.changed()
    assert told is not None
    assert told.spent.calls == 1
    assert scene.purse.changed() is None


@pytest.mark.parametrize(("verdict", "ends"), [("exceeded", Failed), ("paused", Released)])
async def test_a_run_whose_time_is_spent_ends_whatever_its_agent_does(verdict: Any, ends: type) -> None:
    async def play(ctx: Context, value: Any) -> None:
        await anyio.sleep_forever()

    run = Run(assigned(allotment=allotted(ms=1)), Environment(Registry([Agent("a", "", play)])), Reporter())
    reports = []

    async def played() -> None:
        reports.append(await run.play())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(played)
            while (spending := run.spending()) is None or spending.want is None:
                await anyio.sleep(0.005)
            run.allotted(allotted(spending.want.number, verdict, ms=1))
    (report,) = reports
    assert report is not None
    assert isinstance(report.outcome, ends)
    if isinstance(report.outcome, Failed):
        assert report.outcome.error.code == "budget_exceeded"
        assert not report.outcome.retryable
    assert report.spending is not None
    assert report.spending.spent.ms >= 1

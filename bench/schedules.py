"""How late schedules are: from an occurrence's time to the submission of its task, and to its start."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

from bench.stage import Figure, percentile, staged
from worker.schedules import ScheduleSpec, Template

SCHEDULES = 20
SECONDS = 15


async def lateness() -> AsyncIterator[Figure]:
    """20 schedules of one second each, an idle worker."""
    async with staged() as stage:
        with stage.worker(50):
            await stage.know("bench_noop")
            template = Template(agent="bench_noop", input="null")
            for number in range(SCHEDULES):
                await stage.client.set_schedule(
                    ScheduleSpec(name=f"s{number}", every_ms=1000, template=template)
                )
            await anyio.sleep(SECONDS)
            for number in range(SCHEDULES):
                await stage.client.pause_schedule(f"s{number}")
            submitted, started = [], []
            cursor: str | None = None
            while True:
                page = await stage.client.tasks(limit=100, cursor=cursor)
                for task in page.tasks:
                    history = await stage.client.history(task.task)
                    (fired,) = [event for event in history if event.type == "schedule_fired"]
                    submitted.append(float(fired.data["lateMs"] or 0))
                    if task.started_at is not None:
                        started.append(task.started_at - float(fired.data["nominal"] or 0))
                cursor = page.cursor
                if cursor is None:
                    break
    what = f"{len(submitted)} occurrences of {SCHEDULES} schedules"
    for name, values in (("submitted", submitted), ("started", started)):
        for at, share in (("p50", 0.5), ("p99", 0.99)):
            yield Figure(f"schedule lateness, {name}, {at}", round(percentile(values, share), 2), "ms", what)

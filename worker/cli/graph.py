"""`signalbox submit --graph`: tasks that wait for each other, one for each line of a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
from pydantic import ValidationError

from worker.cli.each import Tally
from worker.client import Client, TaskSpec
from worker.errors import SettingsError, TransportError

_FIELDS = {field.alias or name for name, field in TaskSpec.model_fields.items()}


async def submit_graph(control: Client, source: str, like: TaskSpec, *, as_json: bool) -> int:
    """Submit the tasks of a file, or of standard input for `-`, in whatever order; return the exit code.

    Each line is a JSON object with fields of a task, such as agent, ref and after; `input` is any JSON. What
    a line does not say is as in `like`, whose dedup key is the name of the whole.

    Raises:
        SettingsError: A line is no task; the message names it.
        InvalidArgument: The tasks are no graph. Nothing was submitted.
        TransportError: The control plane could not be reached; what was submitted stands.
    """
    numbers, specs = await anyio.to_thread.run_sync(_read, source, like)
    try:
        answers = await control.submit_graph(specs, dedup_key=like.dedup_key)
    except TransportError as error:
        again = "give --dedup-key, and it can be given again" if like.dedup_key is None else _AGAIN
        raise TransportError(f"{error}; {again}") from error
    tally = Tally()
    for number, answer in zip(numbers, answers, strict=True):
        tally.take(number, answer, as_json=as_json)
    return tally.end(as_json=as_json)


_AGAIN = "the same command goes on where it stopped"


def _read(source: str, like: TaskSpec) -> tuple[list[int], list[TaskSpec]]:
    if source == "-":
        return _parse(sys.stdin, like)
    try:
        with Path(source).open(encoding="utf-8") as lines:
            return _parse(lines, like)
    except OSError as error:
        raise SettingsError(f"--graph: {source}: {error.strerror}") from None


def _parse(lines: Iterable[str], like: TaskSpec) -> tuple[list[int], list[TaskSpec]]:
    numbers: list[int] = []
    specs: list[TaskSpec] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            numbers.append(number)
            specs.append(_task(number, line, like))
    return numbers, specs


def _task(number: int, line: str, like: TaskSpec) -> TaskSpec:
    try:
        given: Any = json.loads(line)
    except ValueError as error:
        raise SettingsError(f"--graph: line {number}: not JSON ({error})") from None
    if not isinstance(given, dict):
        raise SettingsError(f"--graph: line {number}: a task is a JSON object, as in " + '{"agent": "a"}')
    for name in given:
        if name not in _FIELDS:
            raise SettingsError(f"--graph: line {number}: a task has no field {name[:80]!r}")
    base = like.model_dump(by_alias=True, exclude_none=True, exclude={"dedup_key"})
    if "agent" in given or "capability" in given:
        base.pop("agent", None)
        base.pop("capability", None)
    if "input" in given:
        given["input"] = json.dumps(given["input"], ensure_ascii=False, separators=(",", ":"))
    try:
        spec = TaskSpec.model_validate({**base, **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"--graph: line {number}: {place}: {first['msg']}") from None
    if spec.agent is None and spec.capability is None:
        raise SettingsError(f"--graph: line {number}: say agent or capability, here or for all of them")
    return spec

"""Logs at the edge of the process: constant messages with facts beside them, and no secret in any line."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TextIO

if TYPE_CHECKING:
    from worker.serve import ServeSettings
    from worker.settings import Settings

LogFormat = Literal["human", "json"]

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(sb[a-z]_)[A-Za-z0-9_-]{8,}"), r"\1[redacted]"),
    (re.compile(r"\b(whsec_)[A-Za-z0-9+/=_-]{8,}"), r"\1[redacted]"),
    (re.compile(r"\b(sk-|gsk_|xox[abp]-|gh[pousr]_)[A-Za-z0-9_-]{8,}"), r"\1[redacted]"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"), "[redacted jwt]"),
    (re.compile(r"(?i)\b(bearer|basic|convex) +(?!\[redacted)[A-Za-z0-9._~+/=|:-]{12,}"), r"\1 [redacted]"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^\s/?#@]+@"), r"\1[redacted]@"),
)
_SHORTEST_SECRET = 6  # a shorter value would blank out ordinary words
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Redactor:
    """Takes known secrets and whatever looks like one out of a text."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first, so that a secret within another leaves no remainder.
        self._secrets = sorted({s for s in secrets if len(s) >= _SHORTEST_SECRET}, key=len, reverse=True)

    def learn(self, secret: str) -> None:
        """Take this secret out as well from now on."""
        if len(secret) >= _SHORTEST_SECRET:
            self._secrets = sorted({*self._secrets, secret}, key=len, reverse=True)

    def known(self, text: str) -> str:
        """Return `text` without the secrets of this process; cheap enough for every streamed phrase."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "[redacted]")
        return text

    def __call__(self, text: str) -> str:
        """Return `text` without known secrets, keys, tokens and passwords in addresses."""
        text = self.known(text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def line(self, text: str, limit: int = 500) -> str:
        """Return `text` redacted, on one line, valid Unicode and at most `limit` characters long."""
        flat = " ".join(self(text).split()).encode("utf-8", "replace").decode("utf-8")
        return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _PLAIN}


class HumanFormatter(logging.Formatter):
    """`12:00:01 INFO    run assigned  run='k17…' agent='echo'`."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, followed by its traceback if it has one."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        facts = " ".join(f"{name}={value!r}" for name, value in _facts(record).items() if name != "action")
        line = f"{clock} {record.levelname:<7} {record.getMessage()}{'  ' if facts else ''}{facts}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return self._redact(line)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `at` in ms since the epoch, `level`, `logger`, `message` and the facts."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        entry: dict[str, Any] = {
            "at": int(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update(_facts(record))
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        # Redacted value by value: a pattern run over the finished line could eat a quotation mark.
        return json.dumps({name: self._clean(value) for name, value in entry.items()}, ensure_ascii=True)

    def _clean(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        return self._redact(value if isinstance(value, str) else repr(value))


def configure(level: str, style: LogFormat, redact: Redactor, stream: TextIO | None = None) -> None:
    """Send the process's logs to `stream` (stderr by default) in the given style, redacted."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(redact) if style == "json" else HumanFormatter(redact))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("httpx", "httpcore"):  # a line for each request would drown ours
        logging.getLogger(chatty).setLevel(logging.WARNING)


def setup_logging(settings: Settings | ServeSettings) -> None:
    """Send this process's logs to stderr as its settings say, without its secrets."""
    configure(settings.log_level, settings.log_format, settings.redactor())

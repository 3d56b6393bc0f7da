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
        self._secrets: list[str] = []
        self._any = re.compile("(?!)")  # of the secrets: none
        for secret in secrets:
            self.learn(secret)

    def learn(self, secret: str) -> None:
        """Take this secret out as well from now on, also where it stands in JSON text."""
        if len(secret) >= _SHORTEST_SECRET:
            # JSON text stands in JSON text: a step's result holds the arguments of a call.
            quoted = json.dumps(secret)[1:-1]
            forms = {secret, quoted, json.dumps(secret, ensure_ascii=False)[1:-1], json.dumps(quoted)[1:-1]}
            # The longest first, so that a secret within another leaves no remainder.
            self._secrets = sorted({*self._secrets, *forms}, key=len, reverse=True)
            self._any = re.compile("|".join(map(re.escape, self._secrets)))

    def known(self, text: str) -> str:
        """Return `text` without the secrets of this process; cheap enough for every streamed phrase."""
        if any(secret in text for secret in self._secrets):  # far quicker than the pattern
            return self._any.sub("[redacted]", text)
        return text

    def split(self, text: str) -> tuple[str, str]:
        """Return what can be shown of a text that goes on, without known secrets, and what is to wait.

        What waits may be the beginning of a secret: put in front of what comes next it is split anew, and at
        the end of the text it is shown as `known` has it. It is shorter than the longest secret.
        """
        for begin in self._begun(text):
            across = (found.start() < begin < found.end() for found in self._any.finditer(text))
            if not any(across):  # else it is the end of one that is whole
                return self.known(text[:begin]), text[begin:]
        return self.known(text), ""

    def _begun(self, text: str) -> list[int]:
        """Return where, at the end of a text, there is the beginning of a secret."""
        found = set()
        for secret in self._secrets:
            at = text.find(secret[0], max(0, len(text) - len(secret) + 1))
            while at >= 0:
                if secret.startswith(text[at:]):
                    found.add(at)
                at = text.find(secret[0], at + 1)
        return sorted(found)

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

"""Reads the environment and `.env` once; everything below receives plain values."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from worker.errors import SettingsError
from worker.logs import LogFormat, Redactor

_KEY = re.compile(
    r"sb[a-z]_[A-Za-z0-9_-]{20,}"
)  # prefix by role, then 32 random bytes in a URL-safe alphabet
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")  # as convex/model/text.ts has it


def _web_address(value: str) -> str:
    try:
        parts = urlsplit(value)
    except ValueError:
        raise ValueError("is no address") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(
            "must be an address such as http://127.0.0.1:3210 or https://happy-otter-123.convex.cloud"
        )
    if parts.username or parts.password:
        raise ValueError("must not hold a user name or password")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("has a port that is no port number") from None
    return value.rstrip("/")


def _deployment(value: str) -> str:
    value = _web_address(value)
    parts = urlsplit(value)
    if parts.path or parts.query or parts.fragment:
        raise ValueError("must be the deployment's address alone, without a path")
    if (parts.hostname or "").endswith(".convex.site"):
        raise ValueError("is the address of HTTP actions; use the one that ends in .convex.cloud")
    return value


def _key(value: SecretStr) -> SecretStr:
    if not _KEY.fullmatch(value.get_secret_value()):
        raise ValueError(
            "is not a Signalbox key; it looks like sbw_... and is made with `signalbox keys create`"
        )
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 64 letters, digits and . _ : - beginning with a letter or digit")
    return value


def _level(value: str) -> str:
    if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
    return value.upper()


def default_worker_name() -> str:
    """Return this host's name with a random suffix, so that two workers on one host never share a session."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")[:50] or "worker"
    return f"{host}-{secrets.token_hex(3)}"


def environment(
    environ: Mapping[str, str] | None = None, dotenv: Path | None = Path(".env")
) -> dict[str, str]:
    """Return the variables of the process and, below them, those of `.env`; an empty one is not set."""
    file = dotenv_values(dotenv) if dotenv is not None and dotenv.is_file() else {}
    merged = {**file, **(os.environ if environ is None else environ)}
    return {name: text for name, value in merged.items() if (text := (value or "").strip())}


Name = Annotated[str, AfterValidator(_name)]


def key_now() -> SecretStr | None:
    """Return the key that the environment or `.env` names by now, or None if that is no key."""
    try:
        return _key(SecretStr(environment().get(VARIABLES["key"], "")))
    except (ValueError, OSError):  # `.env` may be half written, or not to be read
        return None


class Settings(BaseModel):
    """The worker's settings; every field can be given in the environment under the name in `VARIABLES`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    convex_url: Annotated[str, AfterValidator(_deployment)]
    key: Annotated[SecretStr, AfterValidator(_key)]
    worker: Name = Field(default_factory=default_worker_name)
    queues: tuple[Name, ...] = Field(default=("default",), min_length=1, max_length=100)
    labels: tuple[Name, ...] = Field(default=(), max_length=20)
    concurrency: int = Field(default=50, ge=1, le=1000)
    agents: tuple[str, ...] = ()
    model_base_url: Annotated[str, AfterValidator(_web_address)] | None = None
    model_key: SecretStr | None = None
    model: str | None = None
    models: Path | None = None
    grace_s: float = Field(default=30.0, ge=0, le=3600, allow_inf_nan=False)
    log_level: Annotated[str, AfterValidator(_level)] = "INFO"
    log_format: LogFormat = "human"

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        dotenv: Path | None = Path(".env"),
        **given: object,
    ) -> Settings:
        """Return the settings of this process.

        What is `given` (a command's options; None means not given) wins over the environment, and the
        environment over `.env`. An empty variable counts as not set.

        Raises:
            SettingsError: With one line that names the variable and says what to do.
        """
        set_variables = environment(environ, dotenv)
        values: dict[str, Any] = {}
        for field, variable in VARIABLES.items():
            if text := set_variables.get(variable):
                values[field] = _list(text) if field in _LISTS else text
        values.update({name: value for name, value in given.items() if value is not None})
        try:
            return cls(**values)
        except ValidationError as error:
            raise SettingsError(_first_line(error)) from None

    def redactor(self) -> Redactor:
        """Return a redactor that knows this process's secrets."""
        return Redactor(s.get_secret_value() for s in (self.key, self.model_key) if s is not None)


VARIABLES: dict[str, str] = {
    "convex_url": "CONVEX_URL",
    "key": "SIGNALBOX_KEY",
    "worker": "SIGNALBOX_WORKER",
    "queues": "SIGNALBOX_QUEUES",
    "labels": "SIGNALBOX_LABELS",
    "concurrency": "SIGNALBOX_CONCURRENCY",
    "agents": "SIGNALBOX_AGENTS",
    "model_base_url": "SIGNALBOX_MODEL_BASE_URL",
    "model_key": "SIGNALBOX_MODEL_KEY",
    "model": "SIGNALBOX_MODEL",
    "models": "SIGNALBOX_MODELS",
    "grace_s": "SIGNALBOX_GRACE_S",
    "log_level": "SIGNALBOX_LOG_LEVEL",
    "log_format": "SIGNALBOX_LOG_FORMAT",
}
_LISTS = {"queues", "labels", "agents"}
_MISSING = {
    "convex_url": "set it to your deployment's address, for example http://127.0.0.1:3210",
    "key": "set it to a key made with `signalbox keys create`",
}


def _list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _first_line(error: ValidationError) -> str:
    # Never the input: it may be a secret.
    first = error.errors(include_input=False, include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    variable = VARIABLES.get(field, field)
    if first["type"] == "missing":
        return f"{variable} is not set: {_MISSING.get(field, 'it is needed')}"
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{variable} {message}" if first["type"] == "value_error" else f"{variable}: {message}"

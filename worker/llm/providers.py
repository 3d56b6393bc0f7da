"""The table of providers and models: where a model is, what it speaks, what it costs.

A model's name is `provider/model`, as in `groq/llama-3.3-70b-versatile`. The built-in table is `models.toml`
beside this module; the file that SIGNALBOX_MODELS names has the same form and wins field by field.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError

from worker.errors import SettingsError
from worker.llm.errors import AuthFailed, ModelNotFound
from worker.llm.messages import TokenUsage
from worker.purse import UnpricedModel

DEFAULT = "default"  # the provider that SIGNALBOX_MODEL_BASE_URL names
BUILT_IN = Path(__file__).with_name("models.toml")
MAX_FILE_BYTES = 1024 * 1024  # some thousand models

DialectName = Literal["openai-chat", "openai-responses", "anthropic-messages"]
Capability = Literal["tools", "json_schema", "vision", "reasoning", "prompt_cache"]
Price = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=1, le=1_000_000_000)]
ProviderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Header = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$")]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]*$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*/.+$")]
_DATED = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|latest)$")


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LongPrompt(_Entry):
    """The prices of a call whose prompt has more than `above_tokens`; None: as for short ones."""

    above_tokens: Tokens
    input_per_mtok: Price | None = None
    output_per_mtok: Price | None = None
    cached_input_per_mtok: Price | None = None
    cache_write_per_mtok: Price | None = None


class ModelInfo(_Entry):
    """What is known of a model. Prices are dollars per million tokens, which is micro-dollars per token.

    Args:
        name: `provider/model`.
        input_per_mtok: None if the price is not known; so `output_per_mtok`.
        cached_input_per_mtok: Of the cached part of the prompt; None: as the rest of it.
        cache_write_per_mtok: Of the part of the prompt that was put into the cache; None: as the rest.
        long_prompt: Other prices for long prompts.
        context_tokens: The longest prompt that it takes, None if not known.
        max_output_tokens: The longest answer that it gives, None if not known.
        capabilities: What it is known to do.
    """

    name: str
    input_per_mtok: Price | None = None
    output_per_mtok: Price | None = None
    cached_input_per_mtok: Price | None = None
    cache_write_per_mtok: Price | None = None
    long_prompt: LongPrompt | None = None
    context_tokens: Tokens | None = None
    max_output_tokens: Tokens | None = None
    capabilities: frozenset[Capability] = frozenset()

    @property
    def priced(self) -> bool:
        """Whether the cost of a call can be told from its tokens."""
        return self.input_per_mtok is not None and self.output_per_mtok is not None


class Provider(_Entry):
    """Where models are.

    Args:
        name: The first part of its models' names.
        base_url: What comes before `/chat/completions` and the like; None if only the variable can say it.
        base_url_variable: The environment variable that says it, and wins.
        dialect: What it speaks.
        key_variable: The environment variable with its key; None: it wants none.
        key_optional: Whether it is called without a key if there is none.
        key_header: The header that the key goes in, alone, where it is not the dialect's own.
        headers: More headers, sent with each request.
        free: Whether its tokens cost nothing, where no price says otherwise.
        models_like: The provider whose models these are; what is known of those holds here too.
        api_key: The key itself, of the default provider alone.
    """

    name: str
    base_url: str | None = None
    base_url_variable: Variable | None = None
    dialect: DialectName = "openai-chat"
    key_variable: Variable | None = None
    key_optional: bool = False
    key_header: Header | None = None
    headers: Mapping[Header, HeaderValue] = Field(default_factory=dict)
    free: bool = False
    models_like: ProviderName | None = None
    api_key: SecretStr | None = None

    def url(self, environ: Mapping[str, str]) -> str:
        """Return its base URL.

        Raises:
            ModelNotFound: None is set; the message says which variable to set.
        """
        url = environ.get(self.base_url_variable or "") or self.base_url
        if not url:
            raise ModelNotFound(
                f"{self.base_url_variable} is not set: set it to the base URL of {self.name!r}"
                if self.base_url_variable
                else f"The provider {self.name!r} has no base_url: set it in the file of SIGNALBOX_MODELS"
            )
        return url

    def key(self, environ: Mapping[str, str]) -> SecretStr | None:
        """Return its key, None if it is called without one.

        Raises:
            AuthFailed: It needs one, and its variable is not set.
        """
        if self.api_key is not None or self.key_variable is None:
            return self.api_key
        if value := environ.get(self.key_variable, "").strip():
            return SecretStr(value)
        if self.key_optional:
            return None
        raise AuthFailed(f"{self.key_variable} is not set: set it to your key of {self.name!r}")

    def usable(self, environ: Mapping[str, str]) -> bool:
        """Whether it has the address and the key that a call needs."""
        try:
            self.url(environ)
            self.key(environ)
        except (AuthFailed, ModelNotFound):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model at a provider."""

    provider: Provider
    model: str  # the provider's own name of it
    info: ModelInfo

    @property
    def name(self) -> str:
        """The name that it is called, stored and shown by: `provider/model`."""
        return f"{self.provider.name}/{self.model}"


class Catalogue:
    """All providers and models. Immutable.

    Args:
        providers: By name.
        models: By `provider/model`.
    """

    def __init__(self, providers: Mapping[str, Provider], models: Mapping[str, ModelInfo]) -> None:
        self.providers = dict(providers)
        self.models = dict(models)

    @classmethod
    def load(cls, path: str | Path | None = None) -> Catalogue:
        """Return the built-in table with what the file at `path` says of more or other models.

        Raises:
            SettingsError: The file cannot be used; one line with the place.
        """
        table = _built_in()
        if path is None:
            return cls(*_parsed(table, str(BUILT_IN)))
        own = _read(Path(path))
        _check(own, str(path))
        merged = {
            kind: {**table[kind], **{name: {**table[kind].get(name, {}), **entry} for name, entry in new}}
            for kind, new in ((kind, own.get(kind, {}).items()) for kind in ("providers", "models"))
        }
        return cls(*_parsed(merged, str(path)))

    def with_default(self, base_url: str, key: SecretStr | None) -> Catalogue:
        """Return the catalogue with the provider of names that begin with no provider's.

        If the address is a known provider's, what is known of that one holds.
        """
        host = _host(base_url)
        known = next((p for p in self.providers.values() if p.base_url and _host(p.base_url) == host), None)
        provider = Provider(
            name=DEFAULT,
            base_url=base_url,
            api_key=key,
            dialect=known.dialect if known else "openai-chat",
            models_like=known.name if known else None,
            free=known.free if known else False,
        )
        return Catalogue({**self.providers, DEFAULT: provider}, self.models)

    def find(self, name: str) -> Deployment:
        """Return the deployment that `name` means.

        A name without a known provider's prefix is the default provider's. A model that the table does not
        list is no error: the provider knows.

        Raises:
            ModelNotFound: No provider is meant.
        """
        prefix, _, model = name.partition("/")
        provider = self.providers.get(prefix) if model else None
        if provider is None:
            provider, model = self.providers.get(DEFAULT), name
        if provider is None or not model.strip():
            raise ModelNotFound(
                f"No provider is known for the model {name!r}: write provider/model (`signalbox models` "
                "lists them), or set SIGNALBOX_MODEL_BASE_URL"
            )
        return Deployment(provider, model, self.info(provider, model))

    def info(self, provider: Provider, model: str) -> ModelInfo:
        """Return what is known of a model; a dated name is looked up without its date, too."""
        name = f"{provider.name}/{model}"
        for prefix in (provider.name, provider.models_like):
            for known in (model, _DATED.sub("", model)):
                if (info := self.models.get(f"{prefix}/{known}")) is not None:
                    return info if info.name == name else info.model_copy(update={"name": name})
        price = Decimal(0) if provider.free else None
        return ModelInfo(name=name, input_per_mtok=price, output_per_mtok=price)

    def secrets(self, environ: Mapping[str, str]) -> Iterator[str]:
        """Yield every provider's key, for a redactor."""
        for provider in self.providers.values():
            if provider.api_key is not None:
                yield provider.api_key.get_secret_value()
            if provider.key_variable and (value := environ.get(provider.key_variable, "").strip()):
                yield value


def cost_micros(info: ModelInfo, usage: TokenUsage | None) -> int | None:
    """Return what a call cost in micro-dollars, rounded up; None if the price or the tokens are not known."""
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    if info.input_per_mtok is None or info.output_per_mtok is None:
        return None
    prompt, answer = info.input_per_mtok, info.output_per_mtok
    cached, written = info.cached_input_per_mtok, info.cache_write_per_mtok
    long = info.long_prompt
    if long is not None and usage.input_tokens > long.above_tokens:
        prompt, answer = _first(long.input_per_mtok, prompt), _first(long.output_per_mtok, answer)
        cached = cached if long.cached_input_per_mtok is None else long.cached_input_per_mtok
        written = written if long.cache_write_per_mtok is None else long.cache_write_per_mtok
    plain = max(0, usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens)
    total = (
        plain * prompt
        + usage.cached_input_tokens * _first(cached, prompt)
        + usage.cache_write_tokens * _first(written, prompt)
        + usage.output_tokens * answer
    )
    return int(total.to_integral_value(ROUND_CEILING))


def require_price(
    info: ModelInfo,
    *,
    input_per_mtok: Decimal | float | None = None,
    output_per_mtok: Decimal | float | None = None,
) -> ModelInfo:
    """Return `info` with a price: its own, else the one given for models that have none.

    Raises:
        UnpricedModel: There is neither.
    """
    if info.priced:
        return info
    if input_per_mtok is None or output_per_mtok is None:
        raise UnpricedModel(
            f"The model {info.name!r} has no price, and money is limited: give it input_per_mtok and "
            "output_per_mtok in the file that SIGNALBOX_MODELS names"
        )
    given = {"input_per_mtok": Decimal(str(input_per_mtok)), "output_per_mtok": Decimal(str(output_per_mtok))}
    return info.model_copy(update={**given, "long_prompt": None})


def _first(price: Decimal | None, otherwise: Decimal) -> Decimal:
    return otherwise if price is None else price


@cache
def _built_in() -> dict[str, dict[str, Any]]:
    return _read(BUILT_IN)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise SettingsError(f"{path}: is larger than {MAX_FILE_BYTES} bytes, so it is no table of models")
        return tomllib.loads(text.decode(), parse_float=Decimal)
    except OSError as error:
        raise SettingsError(f"SIGNALBOX_MODELS: {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: byte {error.start} is not UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{path}: {error}") from None


def _check(own: dict[str, Any], path: str) -> None:
    """Refuse what is not of the file's form, before it is laid over the built-in table."""
    for kind, entries in own.items():
        if kind not in {"providers", "models"}:
            raise SettingsError(f"{path}: {kind}: the file has [providers.NAME] and [models.NAME] alone")
        if not isinstance(entries, dict):
            raise SettingsError(f"{path}: {kind}: must be tables such as [{kind}.NAME]")
        for name, entry in entries.items():
            if not isinstance(entry, dict):
                raise SettingsError(f"{path}: {_place(kind, name)}: must be a table")


def _parsed(
    table: Mapping[str, Mapping[str, dict[str, Any]]], path: str
) -> tuple[dict[str, Provider], dict[str, ModelInfo]]:
    providers: dict[str, Provider] = {}
    for name, entry in table["providers"].items():
        place = _place("providers", name)
        if name == DEFAULT or not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
            raise SettingsError(
                f"{path}: {place}: a provider's name is made of a-z 0-9 . _ - and is not {DEFAULT!r}"
            )
        if "api_key" in entry:
            raise SettingsError(f"{path}: {place}.api_key: keys stand in the environment; name key_variable")
        provider = _valid(Provider, {**entry, "name": name}, path, place)
        if provider.base_url is not None and _host(provider.base_url) is None:
            raise SettingsError(
                f"{path}: {place}.base_url: must be an address such as https://api.example/v1"
            )
        providers[name] = provider
    for name, provider in providers.items():
        if provider.models_like is not None and provider.models_like not in providers:
            place = _place("providers", name)
            raise SettingsError(f"{path}: {place}.models_like: no provider {provider.models_like!r}")
    models: dict[str, ModelInfo] = {}
    for name in table["models"]:
        place = _place("models", name)
        if (prefix := name.partition("/")[0]) not in {*providers, DEFAULT} or prefix == name:
            raise SettingsError(f"{path}: {place}: must begin with a provider's name, as in groq/{name}")
        models[name] = _valid(ModelInfo, {**_whole(table["models"], name, path), "name": name}, path, place)
    return providers, models


def _whole(models: Mapping[str, dict[str, Any]], name: str, path: str) -> dict[str, Any]:
    """Return a model's fields over those of the one that it is `like`."""
    entry = dict(models[name])
    like = entry.pop("like", None)
    if like is None:
        return entry
    if like not in models or "like" in models[like]:
        why = "is itself like another" if like in models else "is not known"
        raise SettingsError(f"{path}: {_place('models', name)}.like: {like!r} {why}")
    return {**models[like], **entry}


def _valid(kind: type[Any], entry: dict[str, Any], path: str, place: str) -> Any:  # noqa: ANN401 - of `kind`
    try:
        return kind.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join([place, *(str(part) for part in first["loc"])])
        raise SettingsError(f"{path}: {where}: {first['msg']}") from None


def _place(kind: str, name: str) -> str:
    return f"{kind}.{name}" if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'{kind}."{name}"'


def _host(base_url: str) -> str | None:
    try:
        url = httpx.URL(base_url.strip())
    except httpx.InvalidURL:
        return None
    return f"{url.host}:{url.port}" if url.scheme in {"http", "https"} and url.host else None

"""`signalbox models`: the providers and models that are known, their prices, and whose keys are set."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from worker.cli.common import Commands, print_json, print_table, top_command, with_json
from worker.errors import SettingsError
from worker.llm.providers import Catalogue, ModelInfo, Provider
from worker.settings import environment


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = top_command(
        commands,
        "models",
        "Keys are looked for in the environment and .env, and never shown. Prices are dollars per million "
        "tokens; SIGNALBOX_MODELS names a TOML file with more or other ones.",
    )
    parser.add_argument("provider", nargs="?", metavar="PROVIDER", help="only this one's models")
    with_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the catalogue."""
    environ = environment()
    catalogue = Catalogue.load(environ.get("SIGNALBOX_MODELS"))
    wanted = arguments.provider
    if wanted is not None and wanted not in catalogue.providers:
        known = ", ".join(catalogue.providers)
        raise SettingsError(f"No provider is named {wanted!r}; these are known: {known}")
    providers = [_provider(p, environ) for p in catalogue.providers.values() if wanted in (None, p.name)]
    models = [_model(m) for name, m in catalogue.models.items() if wanted in (None, name.partition("/")[0])]
    if arguments.json:
        print_json({"providers": providers, "models": models})
        return 0
    print_table(providers, ["provider", "dialect", "baseUrl", "keyVariable", "key"])
    print()
    columns = ["model", "input", "cached", "output", "contextTokens", "maxOutputTokens", "capabilities"]
    print_table([{**row, "capabilities": ", ".join(row["capabilities"]) or None} for row in models], columns)
    return 0


def _provider(provider: Provider, environ: Mapping[str, str]) -> dict[str, Any]:
    named = provider.key_variable
    found = "set" if named and environ.get(named) else "optional" if provider.key_optional else "missing"
    return {
        "provider": provider.name,
        "dialect": provider.dialect,
        "baseUrl": environ.get(provider.base_url_variable or "")
        or provider.base_url
        or f"set {provider.base_url_variable}",
        "keyVariable": named,
        "key": found if named else "none needed",
    }


def _model(info: ModelInfo) -> dict[str, Any]:
    return {
        "model": info.name,
        "input": _dollars(info.input_per_mtok),
        "cached": _dollars(info.cached_input_per_mtok),
        "output": _dollars(info.output_per_mtok),
        "contextTokens": info.context_tokens,
        "maxOutputTokens": info.max_output_tokens,
        "capabilities": sorted(info.capabilities),
    }


def _dollars(price: object) -> float | None:
    return None if price is None else float(str(price))

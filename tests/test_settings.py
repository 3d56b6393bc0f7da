"""Settings: the environment, `.env` and a command's options, and one clear line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.errors import SettingsError
from worker.settings import VARIABLES, Settings, default_worker_name, environment

KEY = "sbw_" + "k" * 43
GOOD = {"CONVEX_URL": "http://127.0.0.1:3210", "SIGNALBOX_KEY": KEY}


def settings(**environ: str) -> Settings:
    return Settings.from_env({**GOOD, **environ}, dotenv=None)


def test_two_variables_are_enough() -> None:
    given = settings()
    assert given.convex_url == "http://127.0.0.1:3210"
    assert given.queues == ("default",)
    assert given.concurrency == 50
    assert given.worker != default_worker_name()  # the suffix is random


def test_every_variable_arrives_in_its_field() -> None:
    given = settings(
        CONVEX_URL="https://happy-otter-123.convex.cloud/",
        SIGNALBOX_WORKER="w1",
        SIGNALBOX_QUEUES="fast, slow,",
        SIGNALBOX_CONCURRENCY="7",
        SIGNALBOX_AGENTS="my_agents,more.agents",
        SIGNALBOX_MODEL_BASE_URL="http://localhost:11434/v1",
        SIGNALBOX_MODEL_KEY="sk-secret",
        SIGNALBOX_MODEL="llama",
        SIGNALBOX_MODELS="my-models.toml",
        SIGNALBOX_GRACE_S="1.5",
        SIGNALBOX_LOG_LEVEL="debug",
        SIGNALBOX_LOG_FORMAT="json",
    )
    assert set(VARIABLES) == set(Settings.model_fields)
    assert given.convex_url == "https://happy-otter-123.convex.cloud"
    assert given.queues == ("fast", "slow")
    assert given.agents == ("my_agents", "more.agents")
    assert given.model_base_url == "http://localhost:11434/v1"
    assert given.models == Path("my-models.toml")
    assert (given.worker, given.concurrency, given.model, given.grace_s) == ("w1", 7, "llama", 1.5)
    assert (given.log_level, given.log_format) == ("DEBUG", "json")


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("CONVEX_URL", "", "CONVEX_URL is not set: set it to your deployment's address"),
        ("CONVEX_URL", "127.0.0.1:3210", "CONVEX_URL must be an address such as http://127.0.0.1:3210"),
        ("CONVEX_URL", "ftp://example.com", "CONVEX_URL must be an address"),
        ("CONVEX_URL", "http://", "CONVEX_URL must be an address"),
        ("CONVEX_URL", "http://host:port", "CONVEX_URL has a port that is no port number"),
        ("CONVEX_URL", "http://[::1", "CONVEX_URL is no address"),
        ("CONVEX_URL", "http://host/api", "CONVEX_URL must be the deployment's address alone"),
        ("CONVEX_URL", "http://me:pw@host", "CONVEX_URL must not hold a user name"),
        ("CONVEX_URL", "https://happy-otter-123.convex.site", "use the one that ends in .convex.cloud"),
        ("SIGNALBOX_KEY", "", "SIGNALBOX_KEY is not set: set it to a key made with"),
        ("SIGNALBOX_KEY", "hunter2", "SIGNALBOX_KEY is not a Signalbox key"),
        ("SIGNALBOX_KEY", "sbw_short", "SIGNALBOX_KEY is not a Signalbox key"),
        ("SIGNALBOX_CONCURRENCY", "0", "SIGNALBOX_CONCURRENCY"),
        ("SIGNALBOX_CONCURRENCY", "1001", "SIGNALBOX_CONCURRENCY"),
        ("SIGNALBOX_CONCURRENCY", "many", "SIGNALBOX_CONCURRENCY"),
        ("SIGNALBOX_GRACE_S", "-1", "SIGNALBOX_GRACE_S"),
        ("SIGNALBOX_GRACE_S", "nan", "SIGNALBOX_GRACE_S"),
        ("SIGNALBOX_QUEUES", ",", "SIGNALBOX_QUEUES"),
        ("SIGNALBOX_QUEUES", "a b", "SIGNALBOX_QUEUES must be 1 to 64 letters"),
        ("SIGNALBOX_WORKER", "a/b", "SIGNALBOX_WORKER must be 1 to 64 letters"),
        ("SIGNALBOX_LOG_LEVEL", "LOUD", "SIGNALBOX_LOG_LEVEL must be DEBUG"),
        ("SIGNALBOX_LOG_FORMAT", "xml", "SIGNALBOX_LOG_FORMAT"),
    ],
)
def test_a_bad_value_gives_one_line_that_names_its_variable(variable: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(**{variable: value})
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    if variable == "SIGNALBOX_KEY" and value:
        assert value not in message


def test_the_bounds_of_concurrency_are_allowed() -> None:
    assert settings(SIGNALBOX_CONCURRENCY="1").concurrency == 1
    assert settings(SIGNALBOX_CONCURRENCY="1000").concurrency == 1000


def test_options_win_over_the_environment_and_the_environment_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        f"CONVEX_URL=http://file:1\nSIGNALBOX_KEY={KEY}\nSIGNALBOX_MODEL=from-file\nSIGNALBOX_WORKER=file\n"
    )
    environ = {"CONVEX_URL": "http://environment:2", "SIGNALBOX_WORKER": "environment"}
    given = Settings.from_env(environ, dotenv=file, worker="option", concurrency=None)
    assert (given.convex_url, given.model, given.worker) == ("http://environment:2", "from-file", "option")
    assert environment({}, file)["CONVEX_URL"] == "http://file:1"


def test_a_missing_file_is_no_error(tmp_path: Path) -> None:
    assert Settings.from_env(GOOD, dotenv=tmp_path / ".env").concurrency == 50


def test_secrets_do_not_show() -> None:
    given = settings(SIGNALBOX_MODEL_KEY="sk-secret-value")
    assert KEY not in repr(given)
    assert "sk-secret-value" not in repr(given)
    assert given.redactor()(f"{KEY} opaque sk-secret-value") == "[redacted] opaque [redacted]"

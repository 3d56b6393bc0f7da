"""What a worker's router knows of the models in the table of providers."""

from __future__ import annotations

from pathlib import Path

from worker.llm import Timeouts
from worker.llm.providers import Catalogue
from worker.routing import PATIENT, Providers

TABLE = """
[providers.mine]
base_url = "http://127.0.0.1:9/v1"
dialect = "openai-chat"

[models."mine/thinks"]
capabilities = ["tools", "reasoning"]

[models."mine/answers"]
capabilities = ["tools"]
"""


async def test_a_model_that_reasons_is_given_time_to_think(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(TABLE)
    async with Providers(Catalogue.load(file), {}, max_connections=1) as providers:
        assert providers.target("mine/thinks").timeouts == PATIENT
        assert providers.target("mine/answers").timeouts == Timeouts()
        assert providers.target("mine/unknown").timeouts == Timeouts()

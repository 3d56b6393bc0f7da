"""The table of providers and models: what it holds, how a user's file changes it, what a call costs."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.model_server import Exchange, serving
from worker.cli import main
from worker.errors import SettingsError
from worker.llm import ChatRequest, Completion
from worker.llm.connect import connect
from worker.llm.errors import AuthFailed, ModelNotFound
from worker.llm.messages import TokenUsage
from worker.llm.providers import Catalogue, LongPrompt, ModelInfo, cost_micros, require_price
from worker.purse import UnpricedModel
from worker.settings import environment

BUILT_IN = Catalogue.load()
TABLE = """
[providers.mine]
base_url = "https://models.example/v1"
key_variable = "MINE_KEY"

[models."mine/big"]
input_per_mtok = 1
output_per_mtok = 2.5
context_tokens = 9_000

[models."groq/llama-3.3-70b-versatile"]
input_per_mtok = 0.01

[models."mine/same"]
like = "anthropic/claude-sonnet-4-5"
output_per_mtok = 16
"""


def own(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "models.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


class TestTheBuiltInTable:
    @pytest.mark.parametrize(
        "name",
        [
            *("openai", "anthropic", "groq", "openrouter", "gemini", "deepseek"),
            *("mistral", "azure", "ollama", "vllm", "llama.cpp"),
        ],
    )
    def test_knows_the_providers(self, name: str) -> None:
        provider = BUILT_IN.providers[name]
        assert provider.base_url or provider.base_url_variable
        assert provider.key_variable

    def test_prices_every_model_and_knows_how_long_prompts_may_be(self) -> None:
        for name, info in BUILT_IN.models.items():
            assert info.priced, name
            assert info.context_tokens is not None, name
            assert info.input_per_mtok is not None
            assert (info.cached_input_per_mtok or 0) <= info.input_per_mtok, name


class TestAName:
    def test_is_a_provider_and_its_model(self) -> None:
        found = BUILT_IN.find("openrouter/anthropic/claude-sonnet-5.5")
        assert (found.provider.name, found.model) == ("openrouter", "anthropic/claude-sonnet-5.5")
        assert found.name == found.info.name == "openrouter/anthropic/claude-sonnet-5.5"

    def test_of_a_model_that_is_not_listed_has_no_price(self) -> None:
        assert BUILT_IN.find("groq/brand-new").info == ModelInfo(name="groq/brand-new")

    @pytest.mark.parametrize("date", ["-2025-04-14", "-20250414", "-latest"])
    def test_with_a_date_is_the_model_without(self, date: str) -> None:
        info = BUILT_IN.find(f"openai/gpt-4.1{date}").info
        assert info.name == f"openai/gpt-4.1{date}"
        assert info.input_per_mtok == BUILT_IN.models["openai/gpt-4.1"].input_per_mtok

    def test_at_another_house_of_the_same_models_is_known_there_too(self) -> None:
        for provider in ("azure", "openai-responses"):
            info = BUILT_IN.find(f"{provider}/gpt-4.1").info
            assert info == BUILT_IN.models["openai/gpt-4.1"].model_copy(
                update={"name": f"{provider}/gpt-4.1"}
            )

    def test_at_a_server_of_ones_own_costs_nothing(self) -> None:
        assert cost_micros(BUILT_IN.find("ollama/llama3.2:3b").info, TokenUsage(1000, 1000)) == 0

    @pytest.mark.parametrize("name", ["gpt-4.1", "nowhere/model", "groq/", "groq", "", "/x"])
    def test_without_a_provider_means_the_default_one_or_is_refused(self, name: str) -> None:
        with pytest.raises(ModelNotFound, match="No provider is known for the model"):
            BUILT_IN.find(name)

    def test_without_a_provider_is_the_default_ones(self) -> None:
        catalogue = BUILT_IN.with_default("http://127.0.0.1:9/v1", SecretStr("k"))
        for name in ("nowhere/model", "default/nowhere/model"):
            found = catalogue.find(name)
            assert (found.provider.name, found.model, found.name) == (
                "default",
                "nowhere/model",
                "default/nowhere/model",
            )
        assert not found.info.priced
        assert catalogue.find("groq/x").provider.name == "groq"
        assert "'k'" not in repr(found.provider)

    def test_of_the_default_provider_is_known_by_its_address(self) -> None:
        catalogue = BUILT_IN.with_default("https://api.anthropic.com/v1/", None)
        found = catalogue.find("claude-sonnet-4-5")
        assert found.provider.dialect == "anthropic-messages"
        assert found.info.priced


class TestAFileOfTheUsers:
    def test_adds_and_wins_field_by_field(self, tmp_path: Path) -> None:
        catalogue = Catalogue.load(own(tmp_path, TABLE))
        big = catalogue.find("mine/big")
        assert (big.info.output_per_mtok, big.info.context_tokens) == (Decimal("2.5"), 9000)
        assert big.provider.url({}) == "https://models.example/v1"
        changed, before = (c.models["groq/llama-3.3-70b-versatile"] for c in (catalogue, BUILT_IN))
        assert changed.input_per_mtok == Decimal("0.01")
        assert changed.output_per_mtok == before.output_per_mtok
        same, sonnet = catalogue.models["mine/same"], catalogue.models["anthropic/claude-sonnet-4-5"]
        assert (same.input_per_mtok, same.output_per_mtok) == (sonnet.input_per_mtok, Decimal(16))
        assert catalogue.models.keys() - BUILT_IN.models.keys() == {"mine/big", "mine/same"}

    def test_prices_models_of_the_default_provider(self, tmp_path: Path) -> None:
        text = '[models."default/m"]\ninput_per_mtok = 1\noutput_per_mtok = 1'
        catalogue = Catalogue.load(own(tmp_path, text)).with_default("http://127.0.0.1:9/v1", None)
        assert catalogue.find("m").info.priced

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("x = ]", "Invalid value (at line 1, column 5)"),
            (b"\xff", "byte 0 is not UTF-8"),
            ("[model.x]", "model: the file has [providers.NAME] and [models.NAME] alone"),
            ("models = 3", "models: must be tables such as [models.NAME]"),
            ("[models]\nx = 3", "models.x: must be a table"),
            ("[models.x]", "models.x: must begin with a provider's name, as in groq/x"),
            ('[models."no/x"]', 'models."no/x": must begin with a provider\'s name'),
            (
                '[models."groq/x"]\ninput_per_mtok = -1',
                'models."groq/x".input_per_mtok: Input should be greater than or equal to 0',
            ),
            ('[models."groq/x"]\ninput_per_mtok = nan', 'models."groq/x".input_per_mtok: Input should be'),
            ('[models."groq/x"]\nprice = 1', 'models."groq/x".price: Extra inputs are not permitted'),
            ('[models."groq/x"]\ncapabilities = ["fly"]', 'models."groq/x".capabilities'),
            ('[models."groq/x"]\ncontext_tokens = 0', 'models."groq/x".context_tokens'),
            ('[models."groq/x"]\nlike = "groq/y"', "models.\"groq/x\".like: 'groq/y' is not known"),
            ('[models."groq/x"]\nlike = "groq/x"', "'groq/x' is itself like another"),
            ("[providers.default]", "providers.default: a provider's name is"),
            ("[providers.Mine]", "providers.Mine: a provider's name is"),
            ('[providers.x]\nbase_url = "x"', "providers.x.base_url: must be an address such as"),
            ('[providers.x]\napi_key = "sk-abc"', "providers.x.api_key: keys stand in the environment"),
            ('[providers.x]\ndialect = "latin"', "providers.x.dialect: Input should be 'openai-chat'"),
            ('[providers.x]\nmodels_like = "y"', "providers.x.models_like: no provider 'y'"),
            ('[providers.x]\nheaders = {a = "b\\n"}', "providers.x.headers.a"),
            ("#" * (1024 * 1024 + 1), "is larger than 1048576 bytes"),
        ],
    )
    def test_that_is_wrong_is_one_line_with_the_place(
        self, tmp_path: Path, text: str | bytes, says: str
    ) -> None:
        path = own(tmp_path, text)
        with pytest.raises(SettingsError) as caught:
            Catalogue.load(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "sk-abc" not in str(caught.value)

    def test_may_have_so_many_bytes(self, tmp_path: Path) -> None:
        Catalogue.load(own(tmp_path, "#" * (1024 * 1024)))

    def test_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"SIGNALBOX_MODELS: .*gone.toml: No such file"):
            Catalogue.load(tmp_path / "gone.toml")


class TestACost:
    PRICED = ModelInfo(
        name="p/m",
        input_per_mtok=Decimal("2"),
        output_per_mtok=Decimal("8"),
        cached_input_per_mtok=Decimal("0.5"),
        cache_write_per_mtok=Decimal("2.5"),
    )
    TIER = LongPrompt(above_tokens=1000, input_per_mtok=Decimal(4), output_per_mtok=Decimal(16))

    @pytest.mark.parametrize(
        ("usage", "micros"),
        [
            (TokenUsage(0, 0), 0),
            (TokenUsage(1_000_000, 0), 2_000_000),
            (TokenUsage(1000, 10), 2080),
            (TokenUsage(1000, 10, 800, 100), 200 + 400 + 250 + 80),
            (TokenUsage(1, 0, 1), 1),  # half a micro-dollar is rounded up
            (TokenUsage(10, 0, 8, 8), 4 + 20),  # parts above the whole: what was told is charged
            (TokenUsage(None, 10), None),
            (TokenUsage(10, None), None),
            (None, None),
        ],
    )
    def test_is_told_from_the_tokens(self, usage: TokenUsage | None, micros: int | None) -> None:
        assert cost_micros(self.PRICED, usage) == micros

    def test_of_a_long_prompt_is_another_above_the_limit(self) -> None:
        info = self.PRICED.model_copy(update={"long_prompt": self.TIER})
        assert cost_micros(info, TokenUsage(1000, 1)) == 2008
        assert cost_micros(info, TokenUsage(1001, 1)) == 4004 + 16
        assert cost_micros(info, TokenUsage(1001, 0, 1000)) == 4 + 500

    def test_needs_both_prices(self) -> None:
        assert cost_micros(ModelInfo(name="p/m", input_per_mtok=Decimal(1)), TokenUsage(1, 1)) is None

    @given(
        st.integers(0, 10**7),
        st.integers(0, 10**7),
        st.integers(0, 10**7),
        st.sampled_from(list(BUILT_IN.models)),
    )
    def test_never_falls_with_more_tokens(self, prompt: int, answer: int, more: int, name: str) -> None:
        info = BUILT_IN.models[name]
        less, greater = (cost_micros(info, TokenUsage(n, answer)) for n in (prompt, prompt + more))
        assert less is not None
        assert greater is not None
        assert 0 <= less <= greater

    def test_without_a_price_takes_a_given_one_or_is_refused(self) -> None:
        unpriced = ModelInfo(name="p/m")
        assert require_price(self.PRICED, input_per_mtok=9, output_per_mtok=9) is self.PRICED
        stated = require_price(unpriced, input_per_mtok=0.1, output_per_mtok=0.2)
        assert cost_micros(stated, TokenUsage(30, 10)) == 5
        with pytest.raises(UnpricedModel, match=r"'p/m' has no price, and money is limited") as caught:
            require_price(unpriced, input_per_mtok=1)
        assert caught.value.code == "unpriced_model"


class TestAProvidersClient:
    async def test_sends_the_key_where_the_provider_wants_it(self, tmp_path: Path) -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.start()
            await exchange.send(b'data: {"choices":[{"index":0,"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
            await exchange.end()

        async with serving(handler) as server:
            text = (
                f'[providers.mine]\nbase_url = "{server.base_url}"\nkey_variable = "K"\n'
                'key_header = "api-key"\nheaders = { x-team = "red" }'
            )
            provider = Catalogue.load(own(tmp_path, text)).providers["mine"]
            request = ChatRequest(model="m", messages=[])
            async with connect(provider, {"K": "secret-key"}) as client, client.stream(request) as events:
                assert isinstance([event async for event in events][-1], Completion)
        sent = server.requests[0].headers
        assert (sent["api-key"], sent["x-team"]) == ("secret-key", "red")
        assert "authorization" not in sent

    def test_needs_its_key(self) -> None:
        with pytest.raises(AuthFailed, match="GROQ_API_KEY is not set: set it to your key of 'groq'"):
            connect(BUILT_IN.providers["groq"], {"GROQ_API_KEY": " "})
        with pytest.raises(AuthFailed, match="GROQ_API_KEY is no key") as caught:
            connect(BUILT_IN.providers["groq"], {"GROQ_API_KEY": "gsk_\u00e9secret"})
        assert "secret" not in str(caught.value)

    async def test_needs_no_key_on_this_machine(self) -> None:
        async with connect(BUILT_IN.providers["ollama"], {}) as client:
            assert isinstance(client._http, httpx.AsyncClient)
            assert "authorization" not in client._http.headers

    @pytest.mark.parametrize("url", ["", "nonsense"])
    def test_needs_its_address(self, url: str) -> None:
        environ = {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_BASE_URL": url}
        assert BUILT_IN.providers["azure"].usable(environ) is bool(url)
        with pytest.raises(ModelNotFound, match=r"AZURE_OPENAI_BASE_URL is not set|must be an address"):
            connect(BUILT_IN.providers["azure"], environ)

    def test_is_redacted_by_all_keys(self) -> None:
        catalogue = BUILT_IN.with_default("http://127.0.0.1:9", SecretStr("default-key"))
        environ = {"GROQ_API_KEY": "gsk", "OPENAI_API_KEY": "sk"}
        assert set(catalogue.secrets(environ)) == {"default-key", "gsk", "sk"}


class TestTheCommand:
    def test_lists_the_catalogue_and_no_key(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("GROQ_API_KEY", "gsk_verysecret")
        monkeypatch.setenv("SIGNALBOX_MODELS", str(own(tmp_path, TABLE)))
        monkeypatch.delenv("MINE_KEY", raising=False)
        assert "GROQ_API_KEY" in environment()
        assert main(["models", "--json"]) == 0
        text = capsys.readouterr().out
        told = json.loads(text)
        assert {each["provider"]: each["key"] for each in told["providers"]} | {
            "groq": "set",
            "mine": "missing",
            "ollama": "optional",
        } == {each["provider"]: each["key"] for each in told["providers"]}
        assert "mine/big" in {each["model"] for each in told["models"]}
        assert main(["models", "mine"]) == 0
        table = capsys.readouterr().out
        assert "https://models.example/v1" in table
        assert "mine/big" in table
        assert "groq/" not in table
        assert "verysecret" not in text + table

    def test_knows_its_providers(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["models", "nobody"]) == 1
        assert "No provider is named 'nobody'; these are known: openai" in capsys.readouterr().err

    def test_tells_of_a_bad_file_in_one_line(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("SIGNALBOX_MODELS", str(own(tmp_path, "x")))
        assert main(["models"]) == 1
        assert capsys.readouterr().err.count("\n") == 1

"""What docs/routing.md says is so: its table is the rules, and its commands do what it tells."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import anyio
import pytest

from tests.command_line import call, invoke, refused
from tests.deployment import REPOSITORY, Deployment, deployed
from tests.model_answers import END, USAGE, chunk
from tests.model_server import Exchange, serving
from worker.router import rules
from worker.router.decide import LONGEST_WAIT_S

pytestmark = pytest.mark.timeout(120)

GUIDE = (REPOSITORY / "docs" / "routing.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
MODEL = "groq/llama-3.3-70b-versatile"


def rows() -> list[list[str]]:
    """Return the cells of the table, without its heading."""
    lines = [line for line in GUIDE.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def said(rule: rules.Rule, code: str) -> list[str]:
    """Return how the table begins to tell each part of a rule."""
    same = {"no": "no", "once": "once more", "after_wait": "after its Retry-After"}
    following = {"no": "no", "yes": "yes", "larger": "only a larger window"}
    untold = (
        f"it cools for Retry-After, else {rules.UNTOLD_COOL_S:g} s doubling to {rules.LONGEST_UNTOLD_S:g} s"
    )
    cooling = {
        "no": "",
        "told": untold,
        "long": f"it cools for {rules.QUOTA_COOL_S / 60:g} minutes or more",
        "rate": f"{rules.SHORTEST_COOL_S:g} to {rules.LONGEST_COOL_S:g} s once three in a minute failed",
        "until_configured": "this worker does not ask it again until",
    }
    then = "only if the agent says so" if code in rules.POLICY else following[rule.next]
    return [same[rule.same], "at once" if rule.cools == "told" else then, cooling[rule.cools]]


def test_its_table_is_the_rules() -> None:
    told = {}
    for classes, *cells in rows():
        for code in re.findall(r"`(\w+)`", classes):
            assert code not in told, f"{code} stands there twice"
            told[code] = cells
    assert set(told) == set(rules.RULES)
    for code, cells in told.items():
        for cell, start in zip(cells, said(rules.RULES[code], code), strict=True):
            assert cell.startswith(start) and bool(cell) == bool(start), (code, cell, start)
    assert (rules.FAILURES, rules.WINDOW_S) == (3, 60), "three in a minute"
    assert f"A call waits {LONGEST_WAIT_S:g} s in all." in GUIDE


class Provider:
    """Answers for every model but those in `ill`, which have too many requests for the next minute."""

    def __init__(self) -> None:
        self.ill = {"hot", "hotter"}
        self.asked: list[str] = []

    async def handle(self, exchange: Exchange) -> None:
        model = json.loads(exchange.body)["model"]
        self.asked.append(model)
        if model in self.ill:
            await exchange.start(429, {"retry-after": "60"}, content_type="application/json")
            await exchange.send(json.dumps({"error": {"message": f"{model} is too hot"}}).encode())
        else:
            await exchange.start()
            for event in (chunk(content="ok"), END, USAGE):
                await exchange.send(event)
        await exchange.end()


async def typed(at: Deployment, line: str) -> str:
    ran = await call(at, *shlex.split(line)[1:])
    assert (ran.code, ran.err) == (0, ""), ran
    return ran.out


async def test_its_commands_limit_models_and_show_them(tmp_path: Path) -> None:
    async with deployed(tmp_path, synchronous="normal") as at:
        setting, listing, clearing = COMMANDS
        for line in COMMANDS:  # each prints the model as it stands then
            heading, row = (await typed(at, line)).splitlines()
            assert heading.split()[:4] == ["model", "requests", "tokens", "per"]
            assert row.split()[:5] == [MODEL, "1000", "300000", "60", "s"]
        (view,) = json.loads(await typed(at, f"{listing} --json"))
        limits = {"model": MODEL, "requests": 1000, "tokens": 300_000, "perMs": 60_000}
        assert {name: view[name] for name in limits} == limits

        # What is not given stays; `none` takes a limit away.
        begin = f"signalbox model-limits set {MODEL}"
        for options, expected in (
            ("--requests 7", (7, 300_000, 60_000)),
            ("--per 10s", (7, 300_000, 10_000)),
            ("--tokens none", (7, None, 10_000)),
            ("--requests none --per 1h", (None, None, 3_600_000)),
            ("--tokens 5 --per 500ms", (None, 5, 500)),
        ):
            now = json.loads(await typed(at, f"{begin} {options} --json"))
            assert (now["requests"], now["tokens"], now["perMs"]) == expected

        for options, parts in (
            ("--requests 0", ["requests", "0"]),
            ("--per 99ms", ["perMs", "99"]),
            ("--per 25h", ["perMs", "90000000"]),
        ):
            refused(await call(at, *shlex.split(f"{begin} {options}")[1:]), *parts)
        refused(await call(at, *shlex.split(setting)[1:], role="submit"), "role submit", "operator")
        refused(await call(at, *shlex.split(clearing)[1:], role="submit"), "role submit", "operator")
        assert (await call(at, *shlex.split(listing)[1:], role="submit")).code == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "give --requests, --tokens or --per"),
        (["--requests", "many"], "'many' is neither a whole number nor none"),
        (["--tokens", "1.5"], "'1.5' is neither a whole number nor none"),
        (["--per", "1d"], "'1d' is not a time such as 1m, 10s or 500ms"),
        (["--per", "1"], "'1' is not a time such as 1m, 10s or 500ms"),
    ],
)
def test_a_limit_of_the_wrong_kind_is_a_usage_error(options: list[str], says: str) -> None:
    ran = invoke("model-limits", "set", MODEL, *options)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


async def test_attempts_are_shown_and_a_model_that_cools_is_cleared(tmp_path: Path) -> None:
    provider = Provider()
    async with deployed(tmp_path, synchronous="normal") as at, serving(provider.handle) as server:
        at.worker("w", "--agents", "tests.routed_agents", SIGNALBOX_MODEL_BASE_URL=server.base_url)
        await at.know("chain")
        (view,) = await at.ended([await at.submit("chain", ["hot", "cold"])])
        assert view.output == '"default/cold"'
        assert (
            "`signalbox tasks show TASK` lists model, outcome, time, tokens, cost and failure of each"
            in GUIDE
        )
        shown = await typed(at, f"signalbox tasks show {view.task}")
        failed, answered = [
            line.split(maxsplit=2)[2] for line in shown.splitlines() if line.startswith("model call")
        ]
        assert re.fullmatch(
            r"1\.1  default/hot  failed +\d+\.\d\d s  \$0\.000000  rate_limited: hot is too hot", failed
        ), failed
        assert re.fullmatch(r"1\.2  default/cold  succeeded +\d+\.\d\d s  7\+3 tokens", answered), answered

        (view,) = await at.ended([await at.submit("chain", ["hotter", "hotter"], attempts=1)])
        assert view.error is not None and view.error.code == "rate_limited"
        assert "default/hotter: rate_limited: " in view.error.message

        with anyio.fail_after(15):  # what workers tell is settled a moment later
            while "hotter is too hot" not in (listed := await typed(at, "signalbox model-limits list")):
                await anyio.sleep(0.05)
        (row,) = [line for line in listed.splitlines() if line.startswith("default/hot ")]
        assert re.search(r"  (60|5\d) s +\d", row) and "rate_limited: " in row
        provider.ill.clear()
        assert "default/hot " in await typed(at, "signalbox model-limits clear default/hot")
        asked = len(provider.asked)
        (view,) = await at.ended([await at.submit("chain", ["hot"])])
        assert (view.output, provider.asked[asked:]) == ('"default/hot"', ["hot"])

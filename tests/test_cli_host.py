"""The verbs of `signalbox host` against a running one, as docs/testing-with-the-host.md shows them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.deployment import REPOSITORY
from tests.host_process import HostProcess
from worker.cli import main, parser
from worker.cli.host_aids import duration_ms

PAGE = (REPOSITORY / "docs" / "testing-with-the-host.md").read_text(encoding="utf-8")
START = "2026-01-01T00:00:00Z"
FUNCTIONS = {
    "shop.ts": """
        import { anyApi, internalMutationGeneric, mutationGeneric, queryGeneric } from "convex/server";
        export const order = mutationGeneric({
          handler: async (ctx, { item }) => {
            const open = await ctx.db.query("orders").filter((q) => q.eq(q.field("item"), item)).collect();
            await ctx.db.insert("orders", { item, number: open.length });
            const total = await ctx.db.query("totals").first();
            if (total === null) await ctx.db.insert("totals", { orders: 1 });
            else await ctx.db.patch(total._id, { orders: total.orders + 1 });
            await ctx.scheduler.runAfter(3600_000, anyApi.shop.remind, {});
          },
        });
        export const remind = internalMutationGeneric({
          handler: async (ctx) => void (await ctx.db.insert("reminders", { at: Date.now() })),
        });
        export const reminders = queryGeneric({
          handler: async (ctx) => (await ctx.db.query("reminders").collect()).map(({ at }) => at),
        });
        export const note = mutationGeneric({
          handler: async (ctx, { text }) => void (await ctx.db.insert("notes", { text })),
        });
    """,
}


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shop")
    (root / "node_modules").symlink_to((REPOSITORY / "node_modules").resolve())
    folder = root / "convex"
    folder.mkdir()
    for name, text in FUNCTIONS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def host(functions: Path) -> Iterator[HostProcess]:
    with HostProcess(functions, flags=["--clock", f"virtual:{START}", "--record"]) as process:
        yield process


@pytest.fixture
def run(host: HostProcess, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(host, capsys)


class Run:
    """Runs verbs against the host and returns what they print."""

    def __init__(self, host: HostProcess, capsys: pytest.CaptureFixture[str]) -> None:
        self.host = host
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        at = ["--url", self.host.url, "--admin-key", self.host.admin_key]
        assert main(["host", *arguments, *at]) == code
        said = self._capsys.readouterr()
        return said.out if code == 0 else said.err

    def mutation(self, path: str, **args: object) -> None:
        answer = httpx.post(f"{self.host.url}/api/mutation", json={"path": path, "args": args}).json()
        assert answer["status"] == "success", answer


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("250ms", 250),
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("7d", 604_800_000),
        ("2w", 1_209_600_000),
        ("0s", 0),
        ("", None),
        ("1", None),
        ("1.5h", None),
        ("-1h", None),
        ("1h 30m", None),
        ("1y", None),
    ],
)
def test_a_duration_is_read(text: str, ms: int | None) -> None:
    assert duration_ms(text) == ms


def test_advance_runs_what_falls_due_and_tells_the_time(run: Run) -> None:
    assert run("advance", "0s") == "2026-01-01T00:00:00Z: 0 scheduled functions ran\n"
    run.mutation("shop:order", item="pen")
    assert run("advance", "59m59s999ms") == "2026-01-01T00:59:59.999Z: 0 scheduled functions ran\n"
    assert run("advance", "2026-01-01T02:00:00Z") == "2026-01-01T02:00:00Z: 1 scheduled function ran\n"
    answer = httpx.post(f"{run.host.url}/api/query", json={"path": "shop:reminders", "args": {}}).json()
    assert answer["value"] == [1_767_225_600_000 + 3_600_000]
    assert json.loads(run("advance", "1d", "--json")) == {"now": 1_767_225_600_000 + 26 * 3_600_000, "ran": 0}
    assert "the clock never goes back" in run("advance", START, code=1)


def test_conflicts_prints_the_worst_first(run: Run) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: run.mutation("shop:order", item=f"pen {i % 2}"), range(40)))
    for text in ("a", "b"):
        run.mutation("shop:note", text=text)
    lines = run("conflicts", "--window", "1000").splitlines()
    assert lines[0] == "42 runs of mutations, each taken to last 1000 ms"
    assert lines[2].split() == ["mutation", "again", "share", "because", "of", "over"]
    assert re.fullmatch(
        r"shop:order +\d+ +\d+% +shop:order +(orders|totals)\.by_creation_time \d+.*", lines[3]
    )
    assert lines[5].split() == ["mutation", "runs", "wrote", "again", "share", "subscriptions", "most"]
    assert lines[6].split()[:3] == ["shop:order", "40", "40"]
    assert lines[7].split() == ["shop:note", "2", "2", "0", "0%", "0.0", "0"]
    matrix = json.loads(run("conflicts", "--window", "1000", "--json"))
    assert matrix["pairs"][0]["conflicts"] > 30
    assert [row["path"] for row in matrix["mutations"]] == ["shop:order", "shop:note"]
    assert run("conflicts", "--clear") == "forgot 42 runs\n"
    assert "none of them would have run again" in run("conflicts")
    assert "'window' must be a whole number of ms from 1 to 10000" in run(
        "conflicts", "--window", "0", code=1
    )
    assert "from 1 to 10000" in run("conflicts", "--window", "10001", code=1)


def test_faults_are_set_shown_and_cleared(run: Run) -> None:
    assert run("faults").startswith("off\n")
    assert run("faults", "drop=1,seed=3").splitlines()[0] == "delay=0,drop=1,disconnect=0,seed=3"
    with pytest.raises(httpx.HTTPError):
        run.mutation("shop:note", text="lost")
    assert json.loads(run("faults", "--json"))["drop"] == 1
    assert run("faults", "off").splitlines()[0] == "off"
    run.mutation("shop:note", text="kept")
    assert "drop must be a share from 0 to 1" in run("faults", "drop=2", code=1)
    assert "there is no fault 'rain'" in run("faults", "rain=1", code=1)


def test_a_host_that_is_not_there_or_has_another_key_is_one_line(
    host: HostProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["host", "advance", "1h", "--url", "http://127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.startswith("signalbox host: No host answers at http://127.0.0.1:1: ")
    assert main(["host", "faults", "--url", host.url, "--admin-key", "wrong"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [["advance", "soon"], ["advance"], ["faults", "drop"], ["conflicts", "--window", "x"]]
)
def test_what_makes_no_sense_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["host", *arguments])
    assert "usage: signalbox host" in capsys.readouterr().err


def test_every_flag_of_the_host_is_given_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr("os.execve", lambda _, command, env: seen.append(command))
    flags = ["--clock", "virtual", "--conflicts", "0.2:7", "--faults", "delay=5", "--record"]
    main(["host", *flags])
    given = " ".join(seen[0])
    for flag in ("--clock virtual", "--conflicts 0.2:7", "--faults delay=5", "--record"):
        assert flag in given


def page_commands() -> list[tuple[str, str]]:
    """Return each command of the page that asks a running host, with what the page says that it prints."""
    return re.findall(
        r"^```console\n\$ (signalbox host (?:advance|conflicts|faults)[^\n]*)\n(.*?)^```$", PAGE, re.S | re.M
    )


def shape(text: str) -> str:
    """Return a text with every number replaced, and the padding of tables left out."""
    return re.sub(r" +", " ", re.sub(r"\d+(\.\d+)?", "N", text))


def test_the_page_shows_what_these_commands_print(run: Run) -> None:
    for _ in range(20):
        run.mutation("shop:order", item="pen")
    run.mutation("shop:note", text="a")
    commands = page_commands()
    assert {shlex.split(command)[2] for command, _ in commands} == {"advance", "conflicts", "faults"}
    # The clock goes last: what it lets run would be in the matrix too.
    for command, printed in sorted(commands, key=lambda each: "advance" in each[0]):
        assert shape(run(*shlex.split(command)[2:])) == shape(printed), command


def test_the_page_names_flags_that_exist() -> None:
    launches = re.findall(r"^\$ (signalbox host --[^\n]*)$", PAGE, re.M)
    assert len(launches) >= 4
    for launch in launches:
        assert parser().parse_args(shlex.split(launch)[1:]).command == "host"

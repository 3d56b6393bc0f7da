"""What README.md tells people to type, typed; and what the documents name, looked up."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.deployment import REPOSITORY
from tests.scripted_model import scripted_model
from worker import serve
from worker.llm.providers import Catalogue
from worker.settings import VARIABLES

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(
    path.relative_to(REPOSITORY)
    for pattern in ("*.md", "docs/*.md", "scripted_model/*.md")
    for path in REPOSITORY.glob(pattern)
)
START_S = 30.0
# What stands in the README belongs to whoever follows it: a test has ports and data of its own.
HOST = "signalbox host"
ANY_PORT = "signalbox host --port 0 --site-port 0 --data"
URL = "http://127.0.0.1:3210"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def block(language: str, start: str) -> str:
    """Return the one block with a line that starts so."""
    (found,) = [text for text in blocks(language) if re.search(rf"^{re.escape(start)}", text, re.MULTILINE)]
    return found


class Terminal:
    """A shell of somebody who follows the README; what it starts ends with the test."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.url = URL
        self._folder = folder
        self._stack = stack
        self._env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SIGNALBOX_", "CONVEX_"))},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # as `. .venv/bin/activate` does
            "PYTHONUNBUFFERED": "1",
            "CONVEX_ADMIN_KEY": "",  # not one from .env: the host of the test has the development key
        }

    def start(
        self, script: str, cwd: Path = REPOSITORY, settings: dict[str, str] | None = None
    ) -> Iterator[str]:
        """Start a script that goes on until the end of the test and return the lines it prints."""
        process = subprocess.Popen(
            ["sh", "-euc", self._own(script)],
            cwd=cwd,
            env={**self._env, **(settings or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._stack.callback(end, process)
        assert process.stdout is not None
        return iter(process.stdout)

    def run(self, script: str) -> str:
        """Run a script to its end, with success, and return what it prints."""
        ran = subprocess.run(
            ["sh", "-euc", self._own(script)],
            cwd=REPOSITORY,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran
        assert ran.stderr == ""
        return ran.stdout

    def _own(self, script: str) -> str:
        own_host = f"{ANY_PORT} '{self._folder / 'host'}'"
        return re.sub(rf"^{HOST}$", own_host, script, flags=re.MULTILINE).replace(URL, self.url)


def end(process: subprocess.Popen[str]) -> None:
    """End a shell and what it started."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=START_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        assert process.stdout is not None
        process.stdout.close()


def await_line(lines: Iterator[str], part: str) -> str:
    """Return the first line with `part`; the test's own time limit bounds the wait."""
    seen = []
    for line in lines:
        seen.append(line)
        if part in line:
            return line
    raise AssertionError(f"ended without {part!r}: {''.join(seen)}")


@contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    with ExitStack() as stack:
        yield Terminal(folder, stack)


@pytest.mark.timeout(120)
def test_what_the_readme_tells_to_type_works(tmp_path: Path) -> None:
    with scripted_model() as model, terminal(tmp_path) as at:
        ready: dict[str, Any] = json.loads(await_line(at.start(block("sh", HOST)), '"ready"'))
        at.url = ready["url"]
        worker = block("sh", "signalbox worker")
        settings = {"SIGNALBOX_MODEL_BASE_URL": model.base_url, "SIGNALBOX_MODEL": "scripted-instant"}
        await_line(at.start(worker, settings=settings), "registered")

        use = block("sh", "signalbox submit count_words")
        said = at.run(use).splitlines()
        words = len((REPOSITORY / "LICENSE").read_text(encoding="utf-8").split())
        assert said[0].startswith(f"LICENSE: {words} words. Most frequent: license (")
        assert json.loads(said[1])["words"] == words
        assert said[2].split()[:3] == ["task", "agent", "status"]
        assert said[3].split()[1:3] == ["count_words", "succeeded"]

        (tmp_path / "greet.py").write_text(block("python", "@agent"), encoding="utf-8")
        own = worker.replace("examples.first_light", "greet")
        assert own != worker
        await_line(at.start(own, cwd=tmp_path), "registered")
        exports = "".join(line + "\n" for line in use.splitlines() if line.startswith("export "))
        greeted = at.run(exports + block("sh", "signalbox submit greet"))
        assert greeted == 'Hello, Ada. \n"greeted"\n'

        answered = at.run(exports + block("sh", "signalbox agents sync")).splitlines()
        assert answered[:2] == ["writer: changed", "planner: changed"]
        output = json.loads(answered[-1])
        assert output["model"] == "scripted-instant"
        assert "\n".join(answered[2:-1]) == output["text"].strip()


def test_every_make_target_that_the_documents_name_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = {
        target
        for document in DOCUMENTS
        for target in re.findall(
            r"(?:^|`)(?:[A-Z]+=\S+ )?make ([a-z]+)", (REPOSITORY / document).read_text("utf-8"), re.MULTILINE
        )
    }
    assert {"demo", "test", "setup"} <= named
    assert named <= targets


def test_every_line_of_shell_in_the_readme_is_run_by_these_tests() -> None:
    run_elsewhere = {"make demo", "make test"}  # by test_demo.py, and by whoever runs this
    starts = (HOST, "signalbox worker", "signalbox submit count_words", "signalbox submit greet")
    run_here = {block("sh", start) for start in (*starts, "signalbox agents sync")}
    assert set(blocks("sh")) == run_here | {f"{line}\n" for line in run_elsewhere}
    assert blocks("python") == [block("python", "@agent")]


def test_the_example_environment_lists_every_setting_and_no_other() -> None:
    example = (REPOSITORY / ".env.example").read_text(encoding="utf-8")
    listed = re.findall(r"^([A-Z_]+)=", example, re.MULTILINE)
    providers = Catalogue.load().providers.values()
    theirs = {name for each in providers for name in (each.key_variable, each.base_url_variable) if name}
    ours = {*VARIABLES.values(), *serve.VARIABLES.values(), "CONVEX_ADMIN_KEY"}
    assert sorted(listed) == sorted(ours | theirs)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_a_link_leads_to_a_file_and_to_a_heading_that_exist(document: Path) -> None:
    source = REPOSITORY / document
    for link in re.findall(r"\]\(([^)\s]+)\)", source.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = source.parent / path if path else source
        assert target.exists(), f"{document} links to {link}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}

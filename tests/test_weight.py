"""What a worker weighs: the packages it needs, and what its start imports."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deployment import REPOSITORY

MOST_DISTRIBUTIONS = 18  # with this package
EXTRAS = {"mcp", "mcp_types", "httpx2", "httpcore2", "cryptography", "jsonschema", "starlette", "uvicorn"}
HEAVY = {
    *EXTRAS,
    "convex",
    "_convex",
    "requests",
    "urllib3",
    "opentelemetry",
    "numpy",
    "hypothesis",
    "pytest",
}


def test_a_worker_needs_few_packages() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {"signalbox"}
    wanted = [Requirement(text) for text in project["dependencies"]]
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        found.add(name)
        for text in requires(name) or []:
            further = Requirement(text)
            extras = requirement.extras or {""}
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append(further)
    assert len(found) <= MOST_DISTRIBUTIONS, sorted(found)
    assert len(found) > len(project["dependencies"])  # the walk has gone on from these


def imported_by(statement: str) -> set[str]:
    code = f"import json, sys; {statement}; print(json.dumps(list(sys.modules)))"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return set(json.loads(said.stdout))


def test_importing_the_package_imports_nothing_else() -> None:
    before, after = imported_by("pass"), imported_by("import worker")
    assert {name for name in after - before if name.partition(".")[0] == "worker"} == {"worker"}
    assert len(after - before) < 20, sorted(after - before)


@pytest.mark.parametrize(
    "statement",
    ["from worker.cli import parser; parser()", "import worker.service", "import worker.runtime"],
)
def test_the_start_of_a_worker_imports_nothing_of_the_extras(statement: str) -> None:
    roots = {name.partition(".")[0] for name in imported_by(statement)}
    assert not roots & HEAVY
    assert {"worker", "pydantic", "httpx"} <= roots


def test_a_worker_starts_without_the_client_whose_models_it_does_not_use() -> None:
    imported = imported_by("import worker.cli.work")
    assert "worker.service" in imported
    assert "worker.client" not in imported

"""The peers in an environment of their own, made once from their locks: nothing of them is in Signalbox's."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.errors import SettingsError
from worker.local import REPOSITORY, find_node

HERE = Path(__file__).resolve().parent
PYTHON_LOCK = HERE / "requirements.txt"
NPM_FILES = (HERE / "package.json", HERE / "package-lock.json", REPOSITORY / ".npmrc")
_PIN = re.compile(r"(?m)^([\w.-]+)==(\S+)")


@dataclass(frozen=True)
class Installed:
    """Where the peers are.

    Attributes:
        python: The interpreter that has the Python peers.
        modules: The folder whose node_modules has the others.
    """

    python: Path
    modules: Path


def versions() -> Mapping[str, str]:
    """Return the version of each package that the locks name."""
    found = dict(_PIN.findall(PYTHON_LOCK.read_text(encoding="utf-8")))
    packages = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    return found | {
        name.removeprefix("node_modules/"): row["version"] for name, row in packages.items() if name
    }


def installed() -> Installed:
    """Return the peers' environment; one that was made from the same locks before is taken as it is.

    Raises:
        SettingsError: The packages cannot be had, or there is no npm.
    """
    key = hashlib.sha256(sys.version.encode())
    for file in (PYTHON_LOCK, *NPM_FILES):
        key.update(file.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "signalbox-bench-peers" / key.hexdigest()[:16]
    made = Installed(folder / "venv" / "bin" / "python", folder)
    done = folder / "installed"
    if done.exists():
        return made
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"The peers' packages are installed into {folder}", file=sys.stderr)
    _install([sys.executable, "-m", "venv", str(folder / "venv")], folder)
    _install(
        [
            *(str(made.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--require-hashes", "--requirement", str(PYTHON_LOCK)),
        ],
        folder,
    )
    for file in NPM_FILES:
        shutil.copy(file, folder)
    _install([*_npm(), "ci", "--ignore-scripts", "--loglevel=error"], folder)
    done.touch()
    return made


def _npm() -> list[str]:
    """Return the npm of the Node that the host runs on; a wheel's npm is called by its file."""
    node = find_node()
    script = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if script.is_file():
        return [str(node), str(script)]
    found = shutil.which("npm")
    if found is None:
        raise SettingsError("the peers need npm and PATH has none: install Node with it, or run make setup")
    return [found]


def _install(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise SettingsError(f"the peers' packages could not be installed (why stands above): {command[0]}")

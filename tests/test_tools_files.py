"""File tools: nothing outside of their root is read, listed or written, whatever lies there."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import SettingsError
from worker.runtime.tools import ToolError
from worker.tools.files import Root, files, parts_of


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    return tmp_path / "outside"


@pytest.fixture
def root(tmp_path: Path, outside: Path) -> Root:
    folder = tmp_path / "root"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "text").write_text("größe")
    (folder / "link").symlink_to(outside / "secret")
    (folder / "out").symlink_to(outside)
    (folder / "a" / "up").symlink_to("..")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    return Root(folder, max_read_bytes=100, max_write_bytes=1000, max_entries=6)


def test_files_are_read_in_parts_that_do_not_split_characters(root: Root) -> None:
    assert root.read("a/text") == {"text": "größe", "bytes": 7, "next": None}
    assert root.read("./a//text", 2) == {"text": "öße", "bytes": 7, "next": None}
    (root.folder / "long").write_text("ä" * 120 + "x")
    first = root.read("long")
    (root.folder / "odd").write_text("x" + "ä" * 60)
    assert root.read("odd") == {"text": "x" + "ä" * 49, "bytes": 121, "next": 99}
    assert (first["text"], first["next"]) == ("ä" * 50, 100)
    assert root.read("long", 200) == {"text": "ä" * 20 + "x", "bytes": 241, "next": None}
    assert root.read("long", 9999) == {"text": "", "bytes": 241, "next": None}


HOSTILE = [
    ("../outside/secret", "must not hold"),
    ("a/../../outside/secret", "must not hold"),
    ("/etc/passwd", "relative"),
    ("~/.ssh/id_rsa", "relative"),
    ("a\0b", "zero byte"),
    ("link", "symbolic link"),
    ("out/secret", "symbolic link"),
    ("a/up/a/text", "symbolic link"),
    ("loop", "symbolic link"),
    ("loop/x", "symbolic link"),
    ("nothing", "There is no"),
    ("a/text/x", "no folder"),
    ("x/" * 33, "33 folders deep"),
    ("x" * 1025, "at most 1024"),
    ("x" * 256, "255 bytes"),
    ("ü" * 128, "255 bytes"),
]


@pytest.mark.parametrize(("path", "says"), HOSTILE, ids=range(len(HOSTILE)))
def test_no_path_leads_out(root: Root, outside: Path, path: str, says: str) -> None:
    for touch in (root.read, root.list):
        with pytest.raises(ToolError, match=says):
            touch(path)
    if says != "There is no" and path not in {"link", "loop"} and not path.startswith("x/"):
        with pytest.raises(ToolError, match=says):
            root.write(path, "changed")
    assert [(file.name, file.read_text()) for file in outside.iterdir()] == [("secret", "secret")]


@pytest.mark.parametrize("path", ["pipe", "a", ""])
def test_what_is_no_file_is_not_read(root: Root, path: str) -> None:
    with pytest.raises(ToolError):
        root.read(path)


def test_what_is_no_text_is_not_read(root: Root) -> None:
    (root.folder / "image").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ToolError, match="no text"):
        root.read("image")


def test_a_link_that_is_written_over_is_replaced_itself(root: Root, outside: Path) -> None:
    root.write("link", "mine")
    assert (outside / "secret").read_text() == "secret"
    assert not (root.folder / "link").is_symlink() and (root.folder / "link").read_text() == "mine"


def test_files_are_written_whole_with_the_folders_above_them(root: Root) -> None:
    assert root.write("new/deep/file", "one") == {"bytes": 3}
    assert root.write("new/deep/file", "two") == {"bytes": 3}
    assert [p.name for p in (root.folder / "new" / "deep").iterdir()] == ["file"]
    assert root.read("new/deep/file")["text"] == "two"
    with pytest.raises(ToolError, match="is a folder"):
        root.write("new/deep", "x")
    with pytest.raises(ToolError, match="no file"):
        root.write(".", "x")
    root.write("limit", "x" * 1000)
    with pytest.raises(ToolError, match="1001 bytes; at most 1000"):
        root.write("limit", "x" * 1001)
    assert len((root.folder / "limit").read_text()) == 1000


def test_a_folder_is_listed_up_to_a_bound(root: Root) -> None:
    listed = root.list()
    assert listed["more"] is False
    assert listed["entries"] == [
        {"name": "a", "kind": "folder"},
        {"name": "link", "kind": "link"},
        {"name": "loop", "kind": "link"},
        {"name": "out", "kind": "link"},
        {"name": "pipe", "kind": "other"},
    ]
    for n in range(2):
        (root.folder / f"file{n}").touch()
    listed = root.list()
    assert (len(listed["entries"]), listed["more"]) == (6, True)


def test_a_folder_that_is_swapped_for_a_link_meanwhile_leads_nowhere(root: Root, outside: Path) -> None:
    """A race: one side swaps `box` for a link to the outside and back, the other reads through it."""
    (root.folder / "box").mkdir()
    (root.folder / "box" / "secret").write_text("inside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (root.folder / "box").rename(root.folder / "kept")
            (root.folder / "box").symlink_to(outside)
            (root.folder / "box").unlink()
            (root.folder / "kept").rename(root.folder / "box")

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen: set[Any] = set()
    try:
        for _ in range(2000):
            try:
                seen.add(root.read("box/secret")["text"])
            except ToolError:
                seen.add(None)
    finally:
        stop.set()
        swapping.join()
    assert "secret" not in seen


@given(st.text(alphabet="ab./~\0\n", max_size=40))
def test_the_names_of_a_path_are_names(path: str) -> None:
    try:
        parts = parts_of(path)
    except ToolError:
        return
    assert all(part not in {"", ".", ".."} and "/" not in part for part in parts)


def test_the_root_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no folder"):
        files(tmp_path / "nothing")


def test_writing_is_a_tool_only_where_it_is_allowed(tmp_path: Path) -> None:
    assert [made.name for made in files(tmp_path)] == ["read_file", "list_files"]
    assert [(made.name, made.effect, made.access) for made in files(tmp_path, write=True, prefix="x_")] == [
        ("x_read_file", "pure", "read"),
        ("x_list_files", "pure", "read"),
        ("x_write_file", "idempotent", "write"),
    ]

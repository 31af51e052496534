"""Storage takes names as they are, and knows the time of the place that keeps the files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest

from kd_core.runtime.storage import Storage

ODD = ["a[1].txt", "b*.txt", "c?.txt", "d/x[1]", "e#f", "g,h", "i j"]
"""Names that a file system or a library might take for patterns or lists."""


@pytest.fixture(params=["local", "remote"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return Storage(tmp_path)
    fsspec.filesystem("memory").store.clear()
    return Storage("memory://place")


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_deleted_as_it_is_and_no_other(storage: Storage, name: str) -> None:
    near = name.replace("[1]", "1").replace("*", "x").replace("?", "x").replace("#", "x").replace(",", "x")
    for each in {name, near, f"{name}x"}:
        storage.write(each, each.encode())
    assert storage.read(name) == name.encode()
    storage.delete(name)
    assert set(storage.list()) == {near, f"{name}x"} - {name}
    storage.delete(name)


def test_a_folder_is_deleted_with_all_in_it(storage: Storage) -> None:
    for name in ("x/a", "x/b/c", "xy/a"):
        storage.write(name, b"")
    storage.delete("x")
    assert storage.list() == ["xy/a"]


def test_a_renewed_file_keeps_its_content_and_one_that_is_gone_is_told(storage: Storage) -> None:
    storage.write("a/b", b"content")
    assert storage.renew("a/b")
    assert storage.read("a/b") == b"content"
    assert not storage.renew("a/c")
    assert storage.list() == ["a/b"]


def test_a_renewed_local_file_is_young(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.write("a", b"")
    os.utime(tmp_path / "a", (0, 0))
    assert storage.renew("a")
    assert time.time() - (tmp_path / "a").stat().st_mtime < 60


def test_the_time_is_that_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, machine = Storage(tmp_path), time.time
    monkeypatch.setattr(time, "time", lambda: machine() + 1000)
    assert abs(storage.now().timestamp() - machine()) < 60
    os.utime(tmp_path, (0, 0))
    assert storage.list() == []


def test_local_files_are_listed_as_fsspec_lists_them(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "here")
    for name in ("b", "a/c", "a/d/e"):
        storage.write(name, name.encode())
    (tmp_path / "here" / "broken").symlink_to("nowhere")
    (tmp_path / "here" / "folder").symlink_to("a")
    (tmp_path / "here" / "empty").mkdir()
    theirs = fsspec.filesystem("file")
    for name in ("", "a", "b", "a/d"):
        found = theirs.find(str(tmp_path / "here" / name))
        assert storage.list(name) == sorted(
            filter(None, (path[len(f"{tmp_path}/here/{name}") :].strip("/") for path in found))
        )
    assert storage.list("missing") == []
    found = storage.status("b")
    assert found is not None
    assert found.size == 1
    assert found.modified.timestamp() == pytest.approx((tmp_path / "here/b").stat().st_mtime, abs=1e-5)
    assert storage.status("broken") is None
    storage.delete("folder")
    assert storage.list("a") == ["c", "d/e"]


def test_a_local_place_needs_no_fsspec(tmp_path: Path) -> None:
    code = f"import sys; from kd_core.runtime.storage import Storage; Storage({str(tmp_path)!r}).list(); " + (
        "sys.exit('fsspec' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_local_file_is_said_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Storage(f"file://{tmp_path}").read("missing")
    with pytest.raises(FileNotFoundError):
        Storage(tmp_path).download("missing", tmp_path / "target")

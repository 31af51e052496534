"""Files written whole or not at all, and on the disk before they have their name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kd_core.runtime.files import whole, write_json, write_whole
from kd_core.runtime.storage import Storage


def test_json_is_read_back_and_names_are_kept(tmp_path: Path) -> None:
    value = {"b": 1, "a": ["ü", "\ud800"]}
    write_json(tmp_path / "new/x.json", value)
    data = (tmp_path / "new/x.json").read_bytes()
    assert json.loads(data.decode("utf-8", "surrogatepass")) == value
    assert "ü".encode() in data
    assert list(json.loads(data.decode("utf-8", "surrogatepass"))) == ["b", "a"]


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_whole(path, b"old")

    def fail() -> None:
        with whole(path) as partial:
            partial.write_bytes(b"ne")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 -- raised three lines above
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("way", ["write", "upload", "create"])
def test_the_store_has_content_on_the_disk_before_its_name_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    source, store = tmp_path / "source", Storage(tmp_path / "store")
    source.write_bytes(b"content")
    synced: list[tuple[bool, bool]] = []
    original = os.fsync

    def fsync(handle: int) -> None:
        synced.append((Path(f"/proc/self/fd/{handle}").resolve().is_dir(), (tmp_path / "store/a").exists()))
        original(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    {
        "write": lambda: store.write("a", b"content"),
        "upload": lambda: store.upload(source, "a"),
        "create": lambda: store.create("a", b"content"),
    }[way]()
    assert (tmp_path / "store/a").read_bytes() == b"content"
    assert synced == [(False, False), (True, True)], "first the file, without its name, then the folder with it"

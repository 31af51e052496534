"""Rot in store and cache: what is read is hashed; a damaged object is named, deleted and made again."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import md5
from pathlib import Path

import pytest

from kd_core.runtime.errors import InvalidDataError, TryAgainError
from kd_core.runtime.storage import Storage
from kd_ops.base.documents import from_yaml, to_yaml
from kd_ops.bridge.stage_run import run_stage
from kd_ops.runs.objects import Objects, file_md5, object_name
from kd_ops.runs.outs import Outs
from kd_ops.runs.runs import Run
from tests.helpers.bridge_stages import compute, prepared_parts
from tests.helpers.miniature import Miniature

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "changed": lambda data: bytes([data[0] ^ 1]) + data[1:],
}


def damaged(place: Path | str, name: str, how: str) -> Path:
    """Damage an object as a failing disk does: its mode stays."""
    path = Path(place, object_name(name))
    mode = path.stat().st_mode
    data = DAMAGE[how](path.read_bytes())
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(mode)
    return path


def number(run: Run, mini: Miniature) -> tuple[str, str]:
    """The folder that make@a wrote, and the file in it that part@a reads."""
    record = run.stage("make@a")
    assert record is not None
    folder = record.outs["parts/a"]
    return folder, Objects(mini.settings()).listing(folder)["number.txt"]


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_object_of_the_store_is_named_deleted_and_made_again(
    mini: Miniature, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    run = prepared_parts(mini)
    _, file = number(run, mini)
    there = damaged(f"{mini.store_uri}/dvc", file, how)
    assert run_stage(run, "part@a", mini.settings("two")) == 65, "trying again cannot help"
    said = capsys.readouterr().err
    assert "could not be fetched" in said
    assert file in said
    assert "run make@a again, or start a new run" in said
    assert not there.exists()
    again = mini.run("again")
    assert compute(mini, again, "make@a", "part@a", machine="two") == [False, False]
    assert file_md5(there) == file


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_object_of_the_cache_is_fetched_again(mini: Miniature, how: str) -> None:
    run = prepared_parts(mini)
    _, file = number(run, mini)
    here = damaged(mini.settings().cache_dir, file, how)
    assert run_stage(run, "part@a", mini.settings()) == 0
    assert file_md5(here) == file


def test_a_damaged_copy_is_not_uploaded(mini: Miniature) -> None:
    run = prepared_parts(mini)
    _, file = number(run, mini)
    Path(mini.store_uri, "dvc", object_name(file)).unlink()
    damaged(mini.settings().cache_dir, file, "changed")
    assert compute(mini, mini.run("again"), "make@a") == [False]
    assert Storage(f"{mini.store_uri}/dvc").read(object_name(file)) == b"111"


def test_a_push_replaces_a_truncated_object_of_the_same_name(mini: Miniature) -> None:
    run = prepared_parts(mini)
    _, file = number(run, mini)
    there = damaged(f"{mini.store_uri}/dvc", file, "truncated")
    record = run.stage("make@a")
    assert record is not None
    Storage(mini.store_uri).delete(f"dvc/runs/{str(record.key)[:2]}")
    assert compute(mini, mini.run("again"), "make@a") == [False]
    assert there.read_bytes() == b"111"


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_listing_is_computed_again(mini: Miniature, how: str) -> None:
    run = prepared_parts(mini)
    folder, _ = number(run, mini)
    for place in (f"{mini.store_uri}/dvc", mini.settings().cache_dir):
        damaged(place, folder, how)
    assert compute(mini, mini.run("again"), "make@a", "part@a") == [False, False]


@pytest.mark.parametrize("key", ["cmd", "deps", "outs"])
def test_an_entry_that_is_not_its_keys_is_replaced(mini: Miniature, key: str) -> None:
    compute(mini, mini.run(), "make@a")
    (entry,) = (path for path in Path(mini.store_uri, "dvc/runs").rglob("*") if path.is_file())
    content = from_yaml(entry.read_bytes())
    good = entry.read_bytes()
    content[key] = "rm -r" if key == "cmd" else [{**content[key][0], "path": "elsewhere"}]
    entry.write_bytes(to_yaml(content))
    assert compute(mini, mini.run("again"), "make@a") == [False]
    assert entry.read_bytes() == good


@pytest.mark.parametrize("how", DAMAGE)
def test_outputs_are_read_from_the_sound_copy_or_not_at_all(mini: Miniature, how: str) -> None:
    run = prepared_parts(mini)
    _, file = number(run, mini)
    here = damaged(mini.settings().cache_dir, file, how)
    assert Outs.of(run, mini.settings()).read("parts/a/number.txt") == b"111"
    assert not here.exists()
    damaged(f"{mini.store_uri}/dvc", file, how)
    with pytest.raises(InvalidDataError, match=f"{file} is in neither cache nor store; start a new run"):
        Outs.of(run, mini.settings()).read("parts/a/number.txt")


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "a/../../escaped", "..\\escaped"])
def test_a_listing_with_a_file_outside_its_folder_is_refused(mini: Miniature, tmp_path: Path, name: str) -> None:
    run = prepared_parts(mini)
    _, file = number(run, mini)
    listing = json.dumps([{"md5": file, "relpath": name}]).encode()
    folder = f"{md5(listing, usedforsecurity=False).hexdigest()}.dir"
    Storage(f"{mini.store_uri}/dvc").write(object_name(folder), listing)
    record, lock = run.stage("make@a"), run.lock("make@a")
    assert record is not None
    assert lock is not None
    record.outs["parts/a"] = lock["outs"][0]["md5"] = folder
    run.write_stage(record)
    run.write_lock("make@a", lock)
    with pytest.raises(InvalidDataError, match=f"object {folder} lists the file"):
        Outs.of(run, mini.settings()).fetch("parts/a", tmp_path / "target" / "deep")
    assert run_stage(run, "join", mini.settings()) == 65
    assert not list(tmp_path.rglob("*escaped*"))


def test_a_part_that_nobody_wrote_is_still_try_again(mini: Miniature) -> None:
    with pytest.raises(TryAgainError):
        Outs.of(prepared_parts(mini), mini.settings()).read("joined/all.txt")

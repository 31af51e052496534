"""Local inputs stand in the store under the hash of what was copied."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from kd_core.runtime.errors import InvalidDataError, TryAgainError
from kd_core.runtime.fingerprint import of_file, of_folder
from kd_ops.resolving.addresses import Addresses
from kd_ops.stages import inputs
from tests.helpers.recipes import machine


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    (folder / "deeper").mkdir(parents=True)
    (folder / "model.safetensors").write_text("first")
    (folder / "deeper" / "config.json").write_text("{}")
    return folder


def laid_out(address: str, store: str, folder: Path) -> Path:
    inputs.lay_out({address}, store, folder)
    return folder / address


def changing(patch: pytest.MonkeyPatch, act: Any) -> None:
    """Do `act` after the first hashing, before anything is copied."""
    copied = inputs._copied

    def later(path: Path, folder: Path) -> Path:
        act()
        return copied(path, folder)

    patch.setattr(inputs, "_copied", later)


def test_a_folder_or_file_comes_back_as_it_was(source: Path, store: str, tmp_path: Path) -> None:
    found = inputs.snapshot(source, store)
    assert found.digest == of_folder(source)
    assert found.files["deeper/config.json"] == of_file(source / "deeper" / "config.json")
    assert of_folder(laid_out(found.address, store, tmp_path / "work")) == found.digest
    single = inputs.snapshot(source / "model.safetensors", store)
    assert single.digest == of_file(laid_out(single.address, store, tmp_path / "work"))


def test_what_changes_while_it_is_stored_stands_under_the_hash_of_the_copy(
    source: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = of_folder(source)
    changing(monkeypatch, lambda: (source / "model.safetensors").write_text("second"))
    found = inputs.snapshot(source, store)
    assert found.digest == of_folder(source) != before
    assert of_folder(laid_out(found.address, store, tmp_path / "work")) == found.digest


def test_the_record_of_weights_has_the_hashes_of_the_copy(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing(monkeypatch, lambda: (source / "model.safetensors").write_text("second"))
    record = Addresses(machine(tmp_path, "home"), []).model(str(source), "teachers.t.weights")
    assert record["sha256"] == of_file(source / "model.safetensors")
    assert record["files"] == of_folder(source)


def test_what_disappears_meanwhile_is_tried_again(source: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_files", lambda folder: [folder / "gone.csv"])
    with pytest.raises(TryAgainError, match=r"gone\.csv: disappeared while it was copied"):
        inputs.snapshot(source, store)


def test_what_is_stored_already_is_not_copied_again(source: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = inputs.snapshot(source, store)
    monkeypatch.setattr(shutil, "copyfile", None)
    assert inputs.snapshot(source, store) == first


@pytest.mark.parametrize("damage", ["truncated", "lost", "more"])
def test_an_input_that_is_damaged_in_the_store_is_deleted_and_put_back_by_the_next_run(
    tmp_path: Path, damage: str
) -> None:
    source, store = tmp_path / "rows", str(tmp_path / "store")
    source.mkdir()
    (source / "a.csv").write_text("text\nhello\n")
    address = inputs.snapshot(source, store).address
    kept = Path(store, address)
    if damage == "truncated":
        (kept / "a.csv").write_text("text\n")
    elif damage == "lost":
        (kept / "a.csv").unlink()
    else:
        (kept / "b.csv").write_text("text\nmore\n")
    with pytest.raises(InvalidDataError, match=f"{address} is damaged in the store and was deleted; start a new run"):
        inputs.lay_out({address}, store, tmp_path / "workspace")
    with pytest.raises(InvalidDataError, match=f"{address} is not in the store"):
        inputs.lay_out({address}, store, tmp_path / "workspace")
    assert inputs.snapshot(source, store).address == address
    inputs.lay_out({address}, store, tmp_path / "again")
    assert (tmp_path / "again" / address / "a.csv").read_text() == "text\nhello\n"

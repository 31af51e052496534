"""Split ledgers: which one a run starts from, and what it leaves for later ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kd_core.data.splits.ledger import Ledger
from kd_core.runtime.errors import InvalidDataError, KDError
from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.resolving.resolve import resolve
from kd_ops.resolving.split_ledgers import publish_ledgers
from kd_ops.runs.objects import file_md5, listing_md5, object_name
from kd_ops.runs.runs import Run
from tests.helpers.recipes import ROWS, bring


def ingest(run: Run, settings: Settings, ledger: bytes) -> None:
    """What the ingest stages of a run would leave: a folder with a ledger."""
    path = settings.home / "ledger.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ledger)
    listing = {"ledger.parquet": file_md5(path)}
    folder = listing_md5(listing)
    entries = [{"md5": md5, "relpath": name} for name, md5 in listing.items()]
    for md5, data in ((listing["ledger.parquet"], ledger), (folder, json.dumps(entries).encode())):
        target = settings.cache_dir / object_name(md5)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    for role in ("pretraining", "reference"):
        run.write_lock(f"ingest@{role}", {"outs": [{"path": f"data/raw/{role}", "md5": folder}]})


def test_the_same_data_start_from_the_same_ledger_and_other_data_from_the_last(
    settings: Settings, tmp_path: Path
) -> None:
    def ledger(recipe: Path) -> str | None:
        sha256: str | None = resolve(recipe, settings=settings).params()["resolved"]["data"]["reference"]["ledger"]
        return sha256

    recipe = bring(tmp_path / "own")
    first = resolve(recipe, settings=settings)
    ingest(first, settings, b"first ledger")
    publish_ledgers(first, settings)
    assert ledger(recipe) is None, "a rerun must hit the cache"
    (tmp_path / "own/rows.csv").write_text(ROWS + "a new text,one\n")
    left = ledger(recipe)
    assert left is not None
    assert (tmp_path / "store/ledgers" / f"{left}.parquet").read_bytes() == b"first ledger"
    second = resolve(recipe, settings=settings)
    ingest(second, settings, b"second ledger")
    publish_ledgers(second, settings)
    assert ledger(recipe) == left
    (tmp_path / "own/rows.csv").write_text(ROWS + "yet another text,one\n")
    assert ledger(recipe) not in (None, left)
    (tmp_path / "own/rows.csv").write_text(ROWS)
    assert ledger(recipe) is None


A, B, C = (frozenset({number}) for number in range(3))


def splits(tmp_path: Path, splits: dict[frozenset[int], str]) -> bytes:
    """A split ledger as ingest writes it."""
    Ledger(splits).write(tmp_path / "splits.parquet")
    return (tmp_path / "splits.parquet").read_bytes()


def ledger_of(run: Run) -> str | None:
    sha256: str | None = run.params()["resolved"]["data"]["reference"]["ledger"]
    return sha256


def test_data_seen_before_start_from_their_first_ledger_whatever_came_between(
    settings: Settings, tmp_path: Path
) -> None:
    recipe, other = bring(tmp_path / "own"), ["data.reference.split.train=1000"]
    starts = []
    for overrides, content in (([], {A: "train"}), (other, {A: "train", B: "test"}), ([], {A: "train"})):
        run = resolve(recipe, overrides, settings=settings)
        ingest(run, settings, splits(tmp_path, content))
        publish_ledgers(run, settings)
        starts.append(ledger_of(run))
    assert starts[0] is starts[2] is None
    assert ledger_of(resolve(recipe, other, settings=settings)) == starts[1] is not None
    decides_no_split = ["data.reference.validation.tolerance=0.5", "data.reference.task.max_length=16"]
    assert ledger_of(resolve(recipe, decides_no_split, settings=settings)) is None


def test_a_ledger_that_the_store_has_lost_takes_a_new_run(settings: Settings, tmp_path: Path) -> None:
    run = resolve(bring(tmp_path / "own"), settings=settings)
    ingest(run, settings, splits(tmp_path, {A: "train"}))
    for place in (settings.cache_dir, Path(settings.store_uri, "dvc")):
        shutil.rmtree(place / "files", ignore_errors=True)
    with pytest.raises(InvalidDataError, match=r"lost the ledger that ingest@\w+ wrote; start a new run"):
        publish_ledgers(run, settings)


def test_of_two_runs_at_once_neither_forgets_what_the_other_trained_on(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, other = bring(tmp_path / "own"), ["data.reference.split.train=1000"]
    first, second = resolve(recipe, settings=settings), resolve(recipe, other, settings=settings)
    ingest(first, settings, splits(tmp_path, {A: "train", B: "test"}))
    ingest(second, settings, splits(tmp_path, {A: "test", C: "valid"}))
    create, waiting = Storage.create, [second]

    def slow(store: Storage, name: str, data: bytes) -> bool:
        if waiting:  # the second run publishes between the first one's reading and writing
            publish_ledgers(waiting.pop(), settings)
        return create(store, name, data)

    monkeypatch.setattr(Storage, "create", slow)
    publish_ledgers(first, settings)
    left = ledger_of(resolve(recipe, ["data.reference.split.train=7"], settings=settings))
    kept = Ledger.from_bytes((tmp_path / f"store/ledgers/{left}.parquet").read_bytes(), "kept")
    assert kept.splits == {A: "train", B: "test", C: "valid"}
    assert ledger_of(resolve(recipe, settings=settings)) is None
    assert ledger_of(resolve(recipe, other, settings=settings)) is None


def test_an_unfinished_run_publishes_no_ledger(settings: Settings, tmp_path: Path) -> None:
    run = resolve(bring(tmp_path / "own"), settings=settings)
    with pytest.raises(KDError, match="has not ended"):
        publish_ledgers(run, settings)
    assert [path.name for path in (tmp_path / "store").glob("ledgers/*")] == ["runs"]  # the note of the run itself

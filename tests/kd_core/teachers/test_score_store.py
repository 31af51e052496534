"""The score store: by content, in whole shards, shared by processes, at any URL."""

from __future__ import annotations

import dataclasses
import multiprocessing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks.units import Units
from kd_core.teachers.score_keys import ScoreSpec, row_key, row_keys
from kd_core.teachers.score_store import ScoreStore
from tests.helpers.one_unit import one
from tests.helpers.tiny import tiny_rows

SPEC = ScoreSpec(
    fingerprint="f", tokenizer="t", labels=("a", "b"), label_order=(0, 1), pair=False, max_length=64, precision="fp32"
)


def values(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)


def keys(n: int, prefix: str = "text") -> list[str]:
    return [row_key(f"{prefix}{index}") for index in range(n)]


@pytest.mark.parametrize("remote", [False, True])
def test_what_was_added_is_found_by_a_fresh_store(remote: bool, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/scores" if remote else str(tmp_path / "scores")
    names, logits = keys(20), values(20)
    ScoreStore(url).add(SPEC, names[:8], one(logits[:8]))
    ScoreStore(url).add(SPEC, names[8:15], one(logits[8:15]))
    order = [17, 3, 14, 8, 0]
    found, result = ScoreStore(url).lookup(SPEC, [names[index] for index in order])
    assert found.tolist() == [False, True, True, True, True]
    assert result.sizes.tolist() == [0, 1, 1, 1, 1]
    np.testing.assert_array_equal(result.values, logits[order[1:]])


def test_an_empty_store_and_no_rows(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path)
    found, result = store.lookup(SPEC, keys(3))
    assert not found.any()
    assert result.values.shape == (0, 2)
    assert store.lookup(SPEC, [])[1].values.shape == (0, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "g"},
        {"tokenizer": "u"},
        {"labels": ("b", "a")},
        {"label_order": (1, 0)},
        {"pair": True},
        {"max_length": 32},
        {"precision": "bf16"},
        {"scorer_version": 2},
    ],
)
def test_another_teacher_length_precision_or_scorer_reuses_nothing(change: dict[str, object], tmp_path: Path) -> None:
    store = ScoreStore(tmp_path)
    store.add(SPEC, keys(5), one(values(5)))
    other = dataclasses.replace(SPEC, **change)
    assert not store.lookup(other, keys(5))[0].any()
    assert store.lookup(SPEC, keys(5))[0].all()


def test_keys_tell_texts_apart_wherever_they_are_cut() -> None:
    assert row_key("ab", "c") != row_key("a", "bc")
    assert row_key("ab") != row_key("ab", "")
    rows = tiny_rows(10, pair=True)
    assert row_keys(rows, pair=True) == row_keys(rows.iloc[::-1], pair=True)[::-1]
    assert row_keys(rows, pair=True) != row_keys(rows, pair=False)
    with pytest.raises(InvalidDataError, match="text_pair"):
        row_keys(tiny_rows(2), pair=True)


def _add_many(url: str, prefix: str) -> None:
    store = ScoreStore(url)
    for start in range(0, 40, 4):
        store.add(SPEC, keys(40, prefix)[start : start + 4], one(values(4, start)))


def test_two_processes_adding_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_add_many, args=(str(tmp_path), prefix)) for prefix in ("one", "two")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    found, _ = ScoreStore(tmp_path).lookup(SPEC, keys(40, "one") + keys(40, "two"))
    assert found.all()


@pytest.mark.parametrize("damage", ["truncated", "changed", "of an earlier release"])
def test_a_damaged_shard_is_named_and_deleted_and_its_texts_are_scored_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    ScoreStore(tmp_path).add(SPEC, keys(5), one(values(5)))
    shard = next(tmp_path.rglob("*.parquet"))
    (shard.parent / ".half.parquet.123.tmp").write_bytes(b"PAR1")
    assert ScoreStore(tmp_path).lookup(SPEC, keys(5))[0].all()
    data = shard.read_bytes()
    middle = len(data) // 2
    changed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    if damage == "of an earlier release":
        shard = shard.rename(shard.with_name(f"{'0' * 32}.parquet"))
    shard.write_bytes(changed if damage == "changed" else data[:-20])
    ScoreStore(tmp_path).add(SPEC, keys(3, "other"), one(values(3)))
    found, _ = ScoreStore(tmp_path).lookup(SPEC, keys(5) + keys(3, "other"))
    assert found.tolist() == [False] * 5 + [True] * 3
    assert f"{shard.name}: damaged shard" in caplog.text
    assert not shard.exists()


def test_a_shard_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    ScoreStore(tmp_path).add(SPEC, keys(5), one(values(5)))
    shard = next(tmp_path.rglob("*.parquet"))
    shard.rename(shard.with_name(f"{'0' * 32}.parquet"))
    assert ScoreStore(tmp_path).lookup(SPEC, keys(5))[0].all()


def test_texts_of_several_units_and_shards_of_one_size_are_read_alike(tmp_path: Path) -> None:
    """Shards written before rows had units hold lists of one size."""
    store, logits = ScoreStore(tmp_path), Units.of_sizes(values(6), [1, 3, 2])
    store.add(SPEC, keys(3), logits)
    old = pa.FixedSizeListArray.from_arrays(pa.array(values(2).ravel()), 2)
    table = pa.table({"key": pa.array(keys(2, "old"), pa.string()), "logits": old})
    pq.write_table(table, tmp_path / SPEC.key / "old.parquet")
    found, result = ScoreStore(tmp_path).lookup(SPEC, [*keys(3)[1:], *keys(2, "old")])
    assert found.all()
    assert result.sizes.tolist() == [3, 2, 1, 1]
    np.testing.assert_array_equal(result.values, np.concatenate([values(6)[1:], values(2)]))

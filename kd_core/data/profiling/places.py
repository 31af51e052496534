"""Which source a user's path stands for: files, files of splits, or a Hugging Face data set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

import pyarrow as pa
import pyarrow.parquet as pq

from kd_core.config.base import parse
from kd_core.config.data import HuggingFaceSource
from kd_core.config.names import Split
from kd_core.data.sources.huggingface import configs_of, splits_of
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.tables.formats import format_of
from kd_core.tables.listing import list_folder

_WORDS: dict[Split, str] = {
    "train": "train|training",
    "valid": "valid|validation|val|dev|development",
    "calibration": "calibration",
    "test": "test|testing|eval|evaluation",
    "unlabelled": "unlabelled|unlabeled|unsupervised",
}
_CARD = re.compile(r"^(dataset_info|configs):", re.MULTILINE)


def split_named(name: str) -> Split | None:
    """The split that a file or split of somebody else is called after: `dev-00000-of-00001.parquet` is valid."""
    stem = PurePath(name).name.split(".")[0].lower()
    found = [split for split, words in _WORDS.items() if re.search(rf"(^|[-_ ])({words})([-_ ]|$)", stem)]
    return found[0] if len(found) == 1 else None


def is_hugging_face(folder: Path) -> bool:
    """Whether `datasets` wrote the folder: it then knows what numbers of classes mean, which other readers do not."""
    card = folder / "README.md"
    if card.is_file() and _CARD.search(card.read_text(encoding="utf-8", errors="replace")):
        return True
    if next(folder.rglob("*.arrow"), None) is not None:
        return True
    return any(_knows_features(path) for path in sorted(folder.rglob("*.parquet"))[:1])


def hugging_face_source(folder: Path, config: str | None) -> tuple[HuggingFaceSource, list[str]]:
    """The source, its splits by our names, and notes. Raises ParamsError where a configuration must be chosen."""
    configs = configs_of(str(folder))
    if config is None and len(configs) > 1:
        raise ParamsError(f"{folder}: has the configurations {', '.join(configs)}; choose one with --config")
    splits, notes = by_split(splits_of(str(folder), config))
    chosen: dict[Split, str] = {split: names[0] for split, names in splits.items()}
    values = {"kind": "huggingface", "name": str(folder), "config": config, "splits": chosen}
    return parse(HuggingFaceSource, values, "source"), notes


def by_split(names: Sequence[str]) -> tuple[dict[Split, list[str]], list[str]]:
    """Splits of somebody else by ours, and a note on those that are left out; a lone one is train."""
    found: dict[Split, list[str]] = {}
    for name in names:
        if (split := split_named(name)) is not None and split not in found:
            found[split] = [name]
    if "train" not in found:
        first = next((name for name in names if [name] not in found.values()), None)
        if first is None:
            raise InvalidDataError(f"there is no split to train on (there: {', '.join(names)}); give one called train")
        found = {"train": [first], **found}
    left = [name for name in names if [name] not in found.values()]
    return found, [f"splits that are left out: {', '.join(left)}"] if left else []


def files_by_split(folder: Path) -> dict[Split, list[str]] | None:
    """The files of a folder by split, if the name of each tells one and there is one to train on."""
    found: dict[Split, list[str]] = {}
    for name in list_folder(folder).files:
        split = split_named(name)
        if split is None:
            return None
        found.setdefault(split, []).append(name)
    return found if "train" in found and len(found) > 1 else None


def given_by_split(paths: Iterable[str]) -> dict[Split, list[str]] | None:
    """Several files that were given, by split; as `files_by_split`."""
    found: dict[Split, list[str]] = {}
    for path in paths:
        split = split_named(path) if format_of(PurePath(path)) else None
        if split is None:
            return None
        found.setdefault(split, []).append(path)
    return found if "train" in found and len(found) > 1 else None


def compact(paths: Mapping[Split, Sequence[str]]) -> dict[Split, str | list[str]]:
    """As a recipe has them: one path as it is, several as a list."""
    return {split: names[0] if len(names) == 1 else list(names) for split, names in paths.items()}


def _knows_features(path: Path) -> bool:
    try:
        return b"huggingface" in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError):
        return False  # who reads the file says what is wrong with it

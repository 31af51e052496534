"""Public data sets as recipes: their files brought into a form that `ingest` reads, their given test split kept whole.

The files stand in the folder that KD_SHARED_DATA names and are not part of the project. What is written into the work
folder is a recipe like any other: `kd repro --recipe WORK/recipes/banking77.yaml` runs the whole pipeline on it.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kd_core.runtime.errors import ParamsError
from kd_ops.base.documents import to_yaml
from kd_ops.base.settings import PROJECT
from kd_ops.resolving.merge import recipe_path

Row = tuple[str, ...]


def recipe_of(name: str, work: Path) -> Path:
    """The recipe of a data set: one made from public files, one of the project's by name, or any recipe's own file.

    Raises ParamsError for an unknown name, or if KD_SHARED_DATA does not lead to the public files.
    """
    if name in PUBLIC:
        folder = _shared(name)
        values = PUBLIC[name](folder, work / "data" / name)
        path = work / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_yaml({"recipe": name, **values, "registry": {"name": f"kd-{name}"}}))
        return path
    try:
        found = recipe_path(name, PROJECT)
    except ParamsError as error:
        raise ParamsError(f"{error}; public data sets: {', '.join(PUBLIC)}") from None
    if found is None or not found.is_file():
        raise ParamsError(f"{name}: no such recipe; public data sets: {', '.join(PUBLIC)}")
    return found


def _shared(name: str) -> Path:
    root = os.environ.get("KD_SHARED_DATA")
    if not root:
        raise ParamsError(f"{name}: set KD_SHARED_DATA to the folder that holds {name}/")
    folder = Path(root) / name
    if not folder.is_dir():
        raise ParamsError(f"{folder}: not there; KD_SHARED_DATA must name the folder that holds {name}/")
    return folder.resolve()


def banking77(folder: Path, target: Path) -> dict[str, Any]:
    """77 intents of bank customers (Casanueva et al. 2020): csv files as they are."""
    labels = json.loads((folder / "categories.json").read_text(encoding="utf-8"))
    files = {split: str(folder / f"{split}.csv") for split in ("train", "test")}
    task = {"kind": "classification", "labels": labels, "max_length": 64}
    return _recipe(task, files, {"text": "text", "label": "category"}, {"valid": 770, "calibration": 500})


def sst2(folder: Path, target: Path) -> dict[str, Any]:
    """Sentiment of sentences (Socher et al. 2013), one `label text` a line; the given dev split validates."""
    names = {"0": "negative", "1": "positive"}
    files = {}
    for ours, theirs in {"train": "train", "valid": "dev", "test": "test"}.items():
        lines = _text(folder / f"stsa.binary.{theirs}").splitlines()
        rows = [(text, names[label]) for label, _, text in (line.partition(" ") for line in lines)]
        files[ours] = _write(target / f"{ours}.csv", ("text", "label"), rows)
    task = {"kind": "classification", "labels": list(names.values()), "max_length": 64}
    return _recipe(task, files, {}, {"calibration": 500})


def rte(folder: Path, target: Path) -> dict[str, Any]:
    """Textual entailment, GLUE's pairs: dev is the test split, since the labels of the real one are not public."""
    files = {}
    for ours, theirs in {"train": "train", "test": "dev"}.items():
        lines = _text(folder / f"{theirs}.tsv").splitlines()
        cells = [tuple(row[1:4]) for row in csv.reader(lines[1:], delimiter="\t", quoting=csv.QUOTE_NONE)]
        files[ours] = _write(target / f"{ours}.csv", ("text", "text_pair", "label"), cells)
    labels = ["not_entailment", "entailment"]
    task = {"kind": "classification", "pair": True, "labels": labels, "max_length": 128}
    return _recipe(task, files, {"text_pair": "text_pair"}, {"valid": 250, "calibration": 100})


PUBLIC: dict[str, Callable[[Path, Path], dict[str, Any]]] = {"banking77": banking77, "sst2": sst2, "rte": rte}


def _recipe(
    task: dict[str, Any], files: dict[str, str], columns: dict[str, str], split: dict[str, int]
) -> dict[str, Any]:
    """Stage one learns from the training texts, their labels dropped; what is left of train stays train."""
    source = {"kind": "files", "columns": columns}
    texts = {ours: theirs for ours, theirs in columns.items() if ours != "label"}
    return {
        "data": {
            "reference": {"task": task, "source": {**source, "path": files}, "split": split},
            "pretraining": {"source": {"kind": "files", "path": files["train"], "columns": texts}},
        }
    }


def _text(path: Path) -> str:
    """UTF-8 where it is, else latin-1, in which older copies of these files are."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _write(path: Path, header: Row, rows: Iterable[Row]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return str(path)

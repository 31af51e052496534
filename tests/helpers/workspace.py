"""A workspace of the data stages: params.yaml and source files in a temporary folder; stages run in this process."""

from __future__ import annotations

import gzip
import importlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from components.base import Context
from kd_core.data.sources.columns import RowForm
from kd_core.rows import read_rows

SPLITS = ("train", "valid", "calibration", "test", "unlabelled")
LABELS = ["billing", "delivery", "returns"]
SUBJECTS = ["invoice", "parcel", "refund", "card", "courier", "voucher", "receipt", "address", "deposit", "coupon"]
VERBS = ["where", "when", "why", "how", "cancel", "change", "track", "print", "update", "dispute"]


def texts(count: int) -> list[tuple[str, str]]:
    """Different (text, label) rows, none near another."""
    rows = []
    for i in range(count):
        verb, subject = VERBS[i % len(VERBS)], SUBJECTS[(i // len(VERBS)) % len(SUBJECTS)]
        rows.append((f"{verb} {subject} n{i} k{i * 7} z{i * 13}", LABELS[i % len(LABELS)]))
    return rows


def write_csv(path: Path, rows: list[tuple[Any, ...]], header: tuple[str, ...] = ("text", "label")) -> Path:
    pd.DataFrame(rows, columns=list(header)).to_csv(path, index=False)
    return path


def task(labels: list[str] | None = None, pair: bool = False) -> dict[str, Any]:
    return {"kind": "classification", "labels": labels or LABELS, "pair": pair}


def files_data(path: Any, **more: Any) -> dict[str, Any]:
    return {"source": {"kind": "files", "path": path, **more.pop("source", {})}, "task": task(), **more}


def write_params(
    root: Path, reference: dict[str, Any], pretraining: dict[str, Any] | None = None, **resolved: Any
) -> None:
    root.mkdir(parents=True, exist_ok=True)
    data = {"reference": reference, "pretraining": pretraining or {**reference, "task": None}}
    values: dict[str, Any] = {"data": data}
    if resolved:
        values["resolved"] = {"data": {"reference": resolved}}
    (root / "params.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")


def stage(root: Path, name: str, role: str = "reference") -> Context:
    module = importlib.import_module(f"components.{name}")
    context = Context(module.COMPONENT, {"role": role}, root)
    module.main(context)
    context.check_outputs()
    return context


def splits(root: Path, kind: str = "raw", role: str = "reference") -> dict[str, pd.DataFrame]:
    return {name: read_rows(root / "data" / kind / role / f"{name}.parquet") for name in SPLITS}


def record(root: Path, kind: str = "raw", role: str = "reference") -> dict[str, Any]:
    return dict(json.loads((root / "data" / kind / role / "dataset.json").read_text(encoding="utf-8")))


def service_model(
    folder: Path, service: str, operations: dict[str, str], shapes: dict[str, Any] | None = None, **metadata: str
) -> None:
    """A miniature botocore service model."""
    path = folder / service / "2020-01-01"
    path.mkdir(parents=True)
    content = {
        "operations": {name: {"name": name, "documentation": text} for name, text in operations.items()},
        "shapes": shapes or {},
        "metadata": metadata,
    }
    (path / "service-2.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))


def row_form(columns: dict[Any, Any] | None = None, **more: Any) -> RowForm:
    """Labelled rows of single texts in the reference data, unless `more` says otherwise."""
    return RowForm(**{"role": "reference", "columns": columns or {}, "pair": False, "labelled": True, **more})

"""A recipe with data and a teacher of its own, and machines to resolve it on."""

from __future__ import annotations

from pathlib import Path

import yaml

from kd_ops.base.settings import PROJECT, Settings

ROWS = "text,label\nthe first text,one\nthe second text,two\n"


def machine(folder: Path, name: str) -> Settings:
    home = folder / name
    return Settings(
        project=PROJECT,
        home=home,
        store_uri=str(folder / "store"),
        runs_uri=str(folder / "runs"),
        cache_dir=home / "cache",
    )


def bring(folder: Path, rows: str = ROWS) -> Path:
    """A recipe with data and a teacher of its own, all in `folder`."""
    teacher = folder / "weights"
    teacher.mkdir(parents=True)
    (teacher / "config.json").write_text("{}")
    (teacher / "model.safetensors").write_bytes(b"weights")
    (folder / "rows.csv").write_text(rows)
    task = {"kind": "classification", "labels": ["one", "two"]}
    source = {"kind": "files", "path": str(folder / "rows.csv")}
    recipe = {
        "recipe": "own",
        "data": {"reference": {"task": task, "source": source}, "pretraining": {"source": source}},
        "teachers": {"mine": {"weights": str(teacher)}},
        "student": {"base": str(teacher)},
        "pretrain": {"teachers": ["mine"]},
        "finetune": {"teachers": ["mine"]},
        "registry": {"name": "kd-own"},
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path

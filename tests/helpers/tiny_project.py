"""A copy of the project with one tiny recipe: toy texts in csv files, random teachers, a pipeline of two minutes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from tests.conftest import PROJECT
from tests.helpers.tiny import FILLER, LABELS, TOPICS, tiny_base

CODE = ("kd_core", "components", "kd_ops", "dags", "teachers", "scores", "dvc.yaml", "params.yaml", ".dvcignore")
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]


def toy_rows(count: int, seed: int, labelled: bool = True) -> pd.DataFrame:
    """Sentences of fillers, random words and one topic word that decides the label; no two are near-duplicates."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        label = index % len(LABELS)
        noise = ["".join(random.choice(LETTERS, size=4)) for _ in range(4)]
        words = [*random.choice(FILLER, size=5), *noise, TOPICS[label]]
        random.shuffle(words)
        rows.append({"sentence": " ".join(words), "colour": LABELS[label] if labelled else None})
    return pd.DataFrame(rows)


def optimisation(epochs: int, **values: Any) -> dict[str, Any]:
    return {"epochs": epochs, "learning_rate": 0.003, "batch_tokens": 512, **values}


def recipe(root: Path) -> dict[str, Any]:
    """The tiny recipe."""
    base = str(root / "base")
    teacher = {"weights": base, "precision": "fp32"}
    task = {"kind": "classification", "labels": list(LABELS), "max_length": 48}
    columns = {"text": "sentence", "label": "colour"}
    return {
        "recipe": "tiny",
        "data": {
            "reference": {
                "task": task,
                "source": {"kind": "files", "path": str(root / "labelled.csv"), "columns": columns},
                "split": {"train": 150, "valid": 90, "calibration": 60, "test": 180},
            },
            "pretraining": {
                "source": {"kind": "files", "path": str(root / "texts.csv"), "columns": {"text": "sentence"}},
            },
        },
        "teachers": {
            "deep": {**teacher, "fine_tune": optimisation(8, seed=1)},
            "shallow": {**teacher, "layers": [0], "fine_tune": optimisation(8, seed=2)},
        },
        "student": {"base": base, "layers": 2, "hidden": 16, "heads": 2, "intermediate": 32},
        "pretrain": {"teachers": ["deep", "shallow"], "optimisation": optimisation(3)},
        "finetune": {"teachers": ["deep"], "optimisation": optimisation(6, patience=None)},
        "self_distill": {"width": 16, "optimisation": optimisation(3)},
        "baseline": {"optimisation": optimisation(4, patience=None)},
        "measure": {"texts": 32, "repeats": 2},
        "gate": {"min_accuracy": 0.5, "min_share_of_best_teacher": 0.5, "min_speedup": 0.01},
        "registry": {"name": "kd-tiny"},
    }


def make(root: Path) -> Path:
    """The project below `root`/project; data and weights stand beside it."""
    project = root / "project"
    for name in CODE:
        source = PROJECT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "minilm*")
            shutil.copytree(source, project / name, ignore=ignore)
        else:
            shutil.copy(source, project / name)
    tiny_base(root / "base", layers=3, hidden=32)
    toy_rows(700, seed=1).to_csv(root / "labelled.csv", index=False)
    toy_rows(400, seed=2, labelled=False)[["sentence"]].to_csv(root / "texts.csv", index=False)
    shutil.copytree(PROJECT / "recipes" / "variants", project / "recipes" / "variants")
    (project / "recipes" / "tiny.yaml").write_text(yaml.safe_dump(recipe(root)), encoding="utf-8")
    return project


def environment(project: Path, **values: str) -> dict[str, str]:
    """The environment of a user of that project."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KD_", "AIRFLOW", "MLFLOW_TRACKING"))}
    return {**kept, "PYTHONPATH": str(project), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **values}


def kd(project: Path, *words: str, timeout: float = 900, **values: str) -> subprocess.CompletedProcess[str]:
    """Run the `kd` command line in the project."""
    return subprocess.run(
        [sys.executable, "-m", "kd_ops.cli", *words],
        cwd=project,
        env=environment(project, **values),
        capture_output=True,
        text=True,
        timeout=timeout,
    )

"""Run folders as the bridge leaves them, made by hand: records, outs in the cache, params; no stage is run."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kd_core.config.names import SPLITS
from kd_core.runtime.files import to_json
from kd_core.serving.exits.dial import Dial
from kd_ops.base.documents import to_yaml
from kd_ops.base.settings import PROJECT, Settings
from kd_ops.resolving.merge import merged_params, recipe_path
from kd_ops.runs.objects import object_name
from kd_ops.runs.runs import Run, StageRecord
from kd_ops.stages.code_snapshot import digest, keep, project_code
from tests.helpers.counting import row_counts

LABELS = ("red", "green", "blue")
GATE = {"min_accuracy": 0.6, "min_share_of_best_teacher": 0.6}
"""Floors that planted models of every quality can be compared above."""


def make_settings(folder: Path) -> Settings:
    """Everything below `folder`, the code from the project."""
    return Settings(home=folder / "home")


def put(settings: Settings, content: bytes | Path | Mapping[str, bytes]) -> str:
    """Bytes, or a folder's files, into this machine's DVC cache; the hash."""
    from hashlib import md5

    if isinstance(content, Path):
        content = {p.relative_to(content).as_posix(): p.read_bytes() for p in content.rglob("*") if p.is_file()}
    if isinstance(content, bytes):
        digest = md5(content, usedforsecurity=False).hexdigest()
        _object(settings, digest, content)
        return digest
    listing = [{"md5": put(settings, data), "relpath": name} for name, data in sorted(content.items())]
    data = json.dumps(listing, sort_keys=True).encode()
    digest = md5(data, usedforsecurity=False).hexdigest() + ".dir"
    _object(settings, digest, data)
    return digest


def _object(settings: Settings, digest: str, data: bytes) -> None:
    path = settings.cache_dir / object_name(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def new_run(settings: Settings, name: str, overrides: tuple[str, ...] = ()) -> Run:
    """A resolved run of recipe `route` without stages."""
    run = Run.named(name, settings)
    params = merged_params(PROJECT, recipe_path("route", PROJECT), list(overrides), None).model_dump(mode="json")
    params["gate"] |= GATE
    about = {"run": name, "recipe": "route", "created": f"2026-01-01T00:00:00+00:00 {name}", "git": None}
    about["git"] = {"sha": "0123abcd", "dirty": False}
    run.storage.write("run.json", to_json(about))
    code = project_code(settings)
    keep(code, settings.store_uri)
    resolved = {
        "data": {role: {"ledger": None} for role in ("pretraining", "reference")},
        "teachers": {teacher: {"revision": None} for teacher in params["teachers"]},
        "student": {"revision": None},
        "code": digest(code),
    }
    run.storage.write("params.yaml", to_yaml({**params, "resolved": resolved}))
    return run


def done(
    run: Run, settings: Settings, stage: str, outs: Mapping[str, bytes | Path | Mapping[str, bytes]], **values: Any
) -> StageRecord:
    """A stage that ended well and wrote `outs`."""
    hashes = {path: put(settings, content) for path, content in outs.items()}
    record = StageRecord(stage, "done", **{"seconds": 2.0, "exit_code": 0, "tries": 1, "outs": hashes, **values})
    run.write_stage(record)
    run.write_lock(stage, {"cmd": "", "deps": [], "outs": [{"path": path, "md5": md5} for path, md5 in hashes.items()]})
    return record


def labelled_rows(n: int = 300) -> pd.DataFrame:
    """Labelled test rows, groups of one or two."""
    return pd.DataFrame(
        {
            "id": [f"row{i:04d}" for i in range(n)],
            "group": [f"group{i // 2 if i % 4 else i}" for i in range(n)],
            "text": [f"the {['apple', 'river', 'stone'][i % 3]} near {i}" for i in range(n)],
            "label": [LABELS[i % 3] for i in range(n)],
        }
    )


def other_rows(n: int, what: str) -> pd.DataFrame:
    """Rows that resemble no test row and no row of another `what`, each a group of its own."""
    names = [f"{what}{i:04d}" for i in range(n)]
    texts = [f"{what} text number {i} of its own" for i in range(n)]
    return labelled_rows(n).assign(id=names, group=names, text=texts)


def checked(rows: pd.DataFrame, trained: pd.DataFrame | None) -> dict[str, dict[str, bytes]]:
    """The outs of validate, by role: the test rows, the training rows and a few others."""
    names = [f"{role}/{split}" for role in ("pretraining", "reference") for split in SPLITS]
    frames = {name: other_rows(4, name.replace("/", " ")) for name in names} | {"reference/test": rows}
    if trained is not None:
        frames["reference/train"] = trained
    outs: dict[str, dict[str, bytes]] = {"pretraining": {}, "reference": {}}
    for name, frame in frames.items():
        outs[name.partition("/")[0]][f"data/checked/{name}.parquet"] = parquet(frame)
    outs["reference"]["data/checked/reference/dataset.json"] = b'{"revision": "1.43.117"}'
    return outs


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def evaluation(
    correct: np.ndarray, rows: pd.DataFrame, teacher: float = 0.9, test_hash: str = "hash1"
) -> dict[str, Any]:
    """The outs of evaluate for a student that answers rightly where `correct` says so."""
    wrong = rows["label"].map(dict(zip(LABELS, LABELS[1:] + LABELS[:1], strict=True)))
    examples = rows[["id", "group", "label"]].copy()
    examples["adaptive"] = np.where(correct, rows["label"], wrong)
    examples["adaptive/counts"] = row_counts(correct).tolist()
    examples["teacher:minilm_l6/counts"] = row_counts(np.arange(len(rows)) * 3 % 10 < teacher * 10).tolist()
    examples["exit_layer"] = 1
    models = {
        "teacher:minilm_l6": {"accuracy": teacher, "macro_f1": teacher},
        "adaptive": {
            "accuracy": float(correct.mean()),
            "accuracy_interval": [0.8, 0.9],
            "macro_f1": float(correct.mean()),
        },
        "adaptive@0.1": {"accuracy": 0.8},
    }
    metrics = {"test": {"rows": len(rows), "hash": test_hash}, "models": models, "gap_closed": None}
    return {
        "evaluation/details": {"examples.parquet": parquet(examples)},
        "evaluation/metrics.json": json.dumps(metrics).encode(),
    }


def measurement(
    latency: float = 2.0, speedup: float = 9.5, cpu: str = "this", relative: float = 0.5
) -> dict[str, bytes]:
    """The outs of measure."""
    rows = [
        {"model": "adaptive", "batch": 1, "samples_per_second": 500.0, "latency_ms": {"p50": latency, "p99": 3.0}},
        {"model": "adaptive", "batch": 32, "samples_per_second": 900.0, "speedup": speedup},
        {"model": "teacher:minilm_l6", "batch": 32, "samples_per_second": 95.0, "speedup": 1.0},
    ]
    found = {
        "machine": {"cpu": cpu},
        "rows": rows,
        "relative_latency": {"ratio": relative, "reference_ms": 4.0},
        "curve": [{"model": "adaptive@0.3", "batch": 32, "speedup": 9.1}],
    }
    return {"measure/metrics.json": json.dumps(found).encode()}


def report() -> dict[str, Mapping[str, bytes]]:
    """The out of report."""
    models = [
        ("teacher:minilm_l6", "Teacher minilm_l6", 0.862, 86.7),
        ("teacher:minilm_l3", "Teacher minilm_l3", 0.848, 65.4),
        ("trunk", "Student, all layers", 0.846, 17.4),
        ("adaptive", "Student, early exits", 0.843, 17.6),
        ("alone", "Student fine-tuned alone", 0.796, None),
        ("frozen", "Frozen base, logistic regression", 0.782, None),
        ("tfidf", "TF-IDF, logistic regression", 0.771, None),
    ]
    rows: list[dict[str, Any]] = [
        {
            "model": model,
            "name": name,
            "accuracy": accuracy,
            "interval": [accuracy - 0.02, accuracy + 0.02],
            "size_mb": mb,
        }
        for model, name, accuracy, mb in models
    ]
    for row, speed in zip(rows, (310, 590, 4100, 5200, None, None, None), strict=True):
        row["samples_per_second"] = speed
        row["speedup"] = speed / 310 if speed else None
        row["latency_ms"] = 3200 / speed if speed else None
    summary = {
        "rows": rows,
        "batch": 32,
        "latency_batch": 1,
        "exits_conclusion": "Early exits: at batch 1 …",
        "confidence": 0.95,
    }
    summary |= {"threshold": 0.21, "exits": {"1": 0.41, "2": 0.59}}
    summary |= {"gap_closed": {"value": 0.76, "adaptive": 0.71}, "gap_conclusion": "the best teacher is better"}
    files = {"report.html": b"<html>", "model_card.md": b"# Card", "summary.json": json.dumps(summary).encode()}
    return {"report": files}


def fake_student(weights: str = "one") -> dict[str, bytes]:
    """A student's folder that nothing can load, told apart by its weights."""
    record = {"task": {"kind": "classification", "labels": LABELS, "pair": False}}
    return {"model.json": json.dumps(record).encode(), "model.safetensors": weights.encode()}


def dial() -> Dial:
    """Of a model with exits after layers 1 and 2, as if 300 texts had tested two points."""
    points = [((0.0,), (0, 300), 0, 0.0), ((0.3,), (120, 180), 1, 0.0158), ((1.0,), (290, 10), 60, 0.242)]
    fields = ("thresholds", "leaves", "disagreements", "bound")
    found = [dict(zip(fields, point, strict=True)) for point in points]
    return Dial.model_validate({"confidence": 0.95, "layers": (1, 2), "rows": 300, "design_rows": 0, "points": found})


def real_student(folder: Path, seed: int = 0) -> Path:
    """A tiny student as export leaves it."""
    from tests.helpers.tiny import tiny_base, tiny_student

    base = tiny_base(folder.parent / f"{folder.name}_base", layers=2, hidden=16, heads=2, seed=seed)
    model = tiny_student(base, seed=seed)
    model.add_branches(8)
    model.save_pretrained(folder)
    for file in base.glob("token*"):
        shutil.copy(file, folder)
    _write_graphs(model, folder, weights=str(seed))
    return folder


def _write_graphs(model: Any, folder: Path, weights: str) -> None:
    from kd_core.export.folder import hashed, write_graphs
    from kd_core.export.tracing import inputs_of
    from kd_core.models.loading import load_tokenizer
    from kd_core.serving.folder.profile import NAME, Profile
    from kd_core.serving.folder.record import ModelRecord
    from tests.helpers.tiny import tiny_task
    from tests.helpers.traced import traced

    tokenizer = load_tokenizer(folder)
    graph = traced(model, inputs_of(model, tokenizer))
    network = write_graphs(graph, model, tokenizer, tiny_task(LABELS), "fp32", folder)
    Profile(np.array([4, 8]), np.array([[0.1, 0.1], [0.9, 0.2]], dtype=np.float32)).write(folder, network.exits)
    ModelRecord(
        **dict(network),
        thresholds=(0.3,),
        max_disagreement=0.02,
        dial=dial(),
        profile=hashed(NAME, folder),
        weights=weights,
    ).write(folder)


def finished_run(
    settings: Settings,
    name: str,
    correct: np.ndarray | None = None,
    student: Mapping[str, bytes] | Path | None = None,
    overrides: tuple[str, ...] = (),
    cached: bool = False,
    test_hash: str = "hash1",
    trained: pd.DataFrame | None = None,
    **measured: Any,
) -> Run:
    """A run whose stages have all ended well, as far as tracking, registration and the gate look at them.

    `trained` are its gold training rows; `measured` goes to `measurement`.
    """
    run = new_run(settings, name, overrides)
    rows = labelled_rows(300 if correct is None else len(correct))
    correct = np.arange(len(rows)) % 8 != 0 if correct is None else correct
    for role in ("pretraining", "reference"):
        done(run, settings, f"ingest@{role}", {f"data/raw/{role}": {"ledger.parquet": role.encode()}}, cached=cached)
    history = json.dumps({"curves": {"loss": [[1, 2.0], [2, 1.0]], "valid/accuracy": [[2, 0.8]]}}).encode()
    outs = {
        **{f"validate@{role}": written for role, written in checked(rows, trained).items()},
        "finetune": {"models/finetune": {"history.json": history}},
        "export": {"models/student": student or fake_student(name)},
        "evaluate": evaluation(correct, rows, test_hash=test_hash),
        "measure": measurement(**measured),
        "report": report(),
    }
    for stage, written in outs.items():
        done(run, settings, stage, written, cached=cached)
    return run

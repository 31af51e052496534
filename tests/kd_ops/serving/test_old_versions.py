"""Versions that an earlier release registered: asked by their own modules, described by their own inference.json."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.serving.prediction_log import MODEL, SCHEMA
from kd_ops.base.settings import Settings
from kd_ops.registry.registry import MODEL_FOLDER, connect
from kd_ops.serving.served import ServedModel, serve
from tests.helpers.calling import invoke
from tests.helpers.settings import with_registry

ANSWERS = """\
import json, os, sys
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
for line in sys.stdin:
    answer = {"label": "red", "probability": 0.9, "exit_layer": 1, "entropy": 0.1}
    print(json.dumps({**json.loads(line), **answer, "words": sorted(words)}))
"""
TIMES = "import os, sys; print(os.environ['KD_COSTS'], sys.argv[1])"


@pytest.fixture
def old(settings: Settings, tmp_path: Path) -> ServedModel:
    """A registered version with the module names and the documents of the first releases."""
    folder = tmp_path / "model"
    for module, text in {"inference/predict.py": ANSWERS, "serving/calibrate.py": TIMES}.items():
        path = folder / "code" / "kd_core" / module
        path.parent.mkdir(parents=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    (folder / "code" / "kd_core" / "__init__.py").touch()
    student = folder / "artifacts" / MODEL_FOLDER
    student.mkdir(parents=True)
    (student / "inference.json").write_text(json.dumps({"dial": {}, "exits": [1, 2], "columns": {"text": "body"}}))
    uncertainty = {"layer_1": [0.1] * 100 + [0.8] * 100, "layer_2": [0.05] * 200}
    pq.write_table(pa.table(uncertainty), student / "uncertainties.parquet")
    client = connect(with_registry(settings))
    client.create_registered_model("kd-old")
    client.create_model_version("kd-old", source=str(folder))
    return serve("models:/kd-old/1", settings)


def test_it_is_asked_through_the_modules_that_it_has(old: ServedModel, tmp_path: Path) -> None:
    said = invoke("predict", "--model", "models:/kd-old/1", "--max-disagreement", "0.1", "--json", "a text").output
    assert json.loads(said) == {
        "text": "a text", "label": "red", "probability": 0.9, "exit_layer": 1, "entropy": 0.1,
        "words": ["--max-disagreement", "--model"],
    }  # fmt: skip
    assert old.calibrate(tmp_path / "costs").split() == [str(tmp_path / "costs"), "--model"]
    assert old.as_named(["text"]) == ["--column", "text=text"]


def test_drift_reads_its_own_documents(old: ServedModel, tmp_path: Path) -> None:
    log = pa.table(
        {
            "time": [datetime.now(UTC)] * 200,
            "exit_layer": [1] * 100 + [2] * 100,
            "entropy": [0.1] * 100 + [0.05] * 100,
            "labels": [["red"]] * 200,
            "thresholds": [[0.5]] * 200,
        },
        SCHEMA.with_metadata({MODEL: fingerprint.of_file(old.student / "inference.json")}),
    )
    (tmp_path / "log").mkdir()
    pq.write_table(log, tmp_path / "log" / "one.parquet")
    found = invoke("drift", str(tmp_path / "log"), "--model", "models:/kd-old/1")
    assert found.exit_code == 0, found.output
    assert "200 answers against 200 calibration texts" in found.output


def test_from_before_exits_were_calibrated_it_takes_no_wish(old: ServedModel, tmp_path: Path) -> None:
    (old.student / "inference.json").write_text(json.dumps({"threshold": 0.2}))
    for words in (("predict", "a", "--max-disagreement", "0.1"), ("drift", str(tmp_path))):
        refused = invoke(*words, "--model", "models:/kd-old/1").exception
        assert isinstance(refused, ParamsError)
        assert "registered before exits were calibrated" in str(refused)


def test_an_option_that_its_code_does_not_have_is_named(old: ServedModel, tmp_path: Path) -> None:
    (old.code / "kd_core/inference/predict.py").write_text(
        "import argparse\nparser = argparse.ArgumentParser()\n"
        "for name in ('model', 'input', 'output'):\n    parser.add_argument(f'--{name}')\nparser.parse_args()\n"
    )
    (tmp_path / "x.csv").write_text("text\na\n")
    words = (
        "predict",
        "--model",
        "models:/kd-old/1",
        "--input",
        str(tmp_path / "x.csv"),
        "--output",
        str(tmp_path / "y.csv"),
    )
    assert invoke(*words).exit_code == 0
    refused = invoke(*words, "--skip-empty", "--min-throughput", "10").exception
    assert isinstance(refused, ParamsError)
    assert str(refused).startswith("--min-throughput, --skip-empty: this version answers with the code of the release")


def test_a_damaged_record_is_named(old: ServedModel) -> None:
    for damage, said in ((b"{", r"inference\.json: not JSON"), (None, r"inference\.json: missing")):
        path = old.student / "inference.json"
        path.unlink() if damage is None else path.write_bytes(damage)
        with pytest.raises(InvalidDataError, match=said):
            old.described()

"""Serving by itself: no torch, the same tokens as transformers, files that are what was exported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tokenizers import Tokenizer

from kd_core.config.data import CLASSIFICATION
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.folder.network import Tokenization
from kd_core.serving.graphs.tokens import TextEncoder
from kd_core.serving.predictor import Predictor
from tests.conftest import PROJECT
from tests.helpers.tiny import tiny_bpe, tiny_rows, tiny_tokenizer, tiny_unigram
from tests.helpers.tiny_exits import exported_student

TEXTS = [
    "the old river", "a", "", "  spaces \t and\nlines  ", "😀👩‍👩‍👧‍👦 tiger 🏳️‍🌈", "مرحبا بالعالم apple", "שלום river",
    "naïve café ﬁ Å", "日本語 stone", "a" * 500, "cloud " * 4000, "[SEP] [CLS] </s> [MASK]", "\u200b\u202eabc\x00d",
]  # fmt: skip

WITHOUT_TORCH = """\
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        refused = {"torch", "transformers", "safetensors", "onnx", "accelerate", "datasets", "sklearn", "scipy"}
        if name.split(".")[0] in refused:
            raise ImportError(f"{name} must not be needed to serve")

sys.meta_path.insert(0, Refuse())
from kd_core.serving.__main__ import main
raise SystemExit(main(["predict", *sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_student(tmp_path_factory.mktemp("alone"))


def test_texts_are_answered_where_torch_cannot_be_imported(folder: Path, tmp_path: Path) -> None:
    rows = tiny_rows(12)
    rows.to_csv(tmp_path / "in.csv", index=False)
    words = ["--model", str(folder), "--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv")]
    command = [sys.executable, "-c", WITHOUT_TORCH, *words, "--threshold", "0.5"]
    done = subprocess.run(command, cwd=PROJECT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = Predictor.load(folder).predict(rows, threshold=0.5)
    assert pd.read_csv(tmp_path / "out.csv")["predicted_label"].tolist() == expected["label"].tolist()


@pytest.mark.parametrize("kind", [tiny_tokenizer, tiny_bpe, tiny_unigram])
@pytest.mark.parametrize("max_length", [8, 128])
@pytest.mark.parametrize("side", ["right", "left"])
def test_tokens_are_those_of_transformers(kind: Any, max_length: int, side: str) -> None:
    theirs = kind()
    theirs.truncation_side = side
    how = Tokenization(
        file="", sha256="", max_length=max_length, truncation_side=side, pad_id=theirs.pad_token_id, token_types=True
    )  # type: ignore[arg-type]
    ours = TextEncoder(Tokenizer.from_str(kind().backend_tokenizer.to_str()), how, CLASSIFICATION)
    pairs = list(reversed(TEXTS))
    for columns in ([TEXTS], [TEXTS, pairs]):
        expected = theirs(*columns, truncation=True, max_length=max_length, return_token_type_ids=True)
        found = ours.encode(columns)
        assert found.ids == expected["input_ids"]
        assert found.types == expected["token_type_ids"]
        assert found.lengths.tolist() == [len(ids) for ids in expected["input_ids"]]
        assert max(found.lengths) == max_length


def test_half_a_character_is_refused_by_row(folder: Path) -> None:
    with pytest.raises(InvalidDataError, match="no text in row 2"):
        Predictor.load(folder).predict(["fine 😀", "broken \ud83d"])


def test_what_was_changed_or_lost_is_named(tmp_path: Path) -> None:
    folder = exported_student(tmp_path)
    for file in ("onnx/layers_2_2.onnx", "onnx/whole.onnx", "onnx/tokenizer.json", "profile.parquet"):
        kept = (folder / file).read_bytes()
        (folder / file).write_bytes(kept + b" ")
        with pytest.raises(InvalidDataError, match=f"{file}: not the file that was exported"):
            Predictor.load(folder)
        (folder / file).unlink()
        with pytest.raises(InvalidDataError, match=f"{file}: missing"):
            Predictor.load(folder)
        (folder / file).write_bytes(kept)
    Predictor.load(folder)


@pytest.mark.parametrize("change", [{"schema_version": 2}, {"exits": "unheard of"}, {"more": 1}])
def test_another_schema_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = exported_student(tmp_path)
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(record | change))
    with pytest.raises(InvalidDataError, match=r"model\.json: not a record of this version"):
        Predictor.load(folder)

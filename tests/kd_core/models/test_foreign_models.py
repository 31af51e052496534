"""Models and tokenizers that somebody else made: read where their meaning is plain, refused in a sentence where not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from kd_core.models.loading import load_classifier, load_encoder, load_tokenizer
from kd_core.models.tokenizer_files import tokenizer_files
from kd_core.runtime.errors import InvalidDataError
from kd_core.teachers.model import _tokenizer_hash, fingerprint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertForSequenceClassification(BertConfig(vocab_size=20, num_labels=2, **shape)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def says(folder: Path, **values: Any) -> Path:
    """The folder, its config.json with these values."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    return folder


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"0": "no", "1": "yes"}, {0: "no", 1: "yes"}),
        ({"1": "yes", "0": "no"}, {0: "no", 1: "yes"}),
        ({"0": 0, "1": 1}, {0: "0", 1: "1"}),
        ({"0": False, "1": True}, {0: "false", 1: "true"}),
        (["no", "yes"], {0: "no", 1: "yes"}),
        (None, {0: "LABEL_0", 1: "LABEL_1"}),
    ],
)
def test_names_of_outputs_are_text_however_they_are_written(folder: Path, written: Any, meant: dict[int, str]) -> None:
    config = load_classifier(says(folder, id2label=written, label2id=None)).config
    assert config.id2label == meant
    assert config.num_labels == 2


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"0": "a", "2": "b"}, "id2label has no name for output 1 .it names 0, 2.; number its labels from 0 to 1"),
        ({"1": "a", "2": "b"}, "id2label has no name for output 0"),
        ({"0": None, "1": "b"}, "id2label has no name for output 0"),
        ({"a": 0, "b": 1}, "id2label: invalid literal for int"),
        ({"0": ["a"], "1": "b"}, "id2label: a list"),
        ("a,b", "id2label is no list of names"),
    ],
)
def test_outputs_without_a_name_are_refused(folder: Path, written: Any, said: str) -> None:
    with pytest.raises(InvalidDataError, match=rf"config\.json: {said}"):
        load_classifier(says(folder, id2label=written))
    load_encoder(folder), load_classifier(folder, fresh_labels=3)  # what is fine-tuned gets outputs of its own


@pytest.mark.parametrize("key", ["return_dict", "use_return_dict"])
def test_old_configs_that_ask_for_tuples_answer_by_name(folder: Path, key: str) -> None:
    model = load_classifier(says(folder, **{key: False}))
    assert model(input_ids=torch.tensor([[1, 2]])).logits.shape == (1, 2)


def test_another_number_of_outputs_than_the_config_says_is_told(folder: Path) -> None:
    with pytest.raises(InvalidDataError, match=r"the weights have 2 outputs, config\.json names 3 labels; correct"):
        load_classifier(says(folder, id2label={"0": "a", "1": "b", "2": "c"}))
    with pytest.raises(InvalidDataError, match=r"weights have another shape than config\.json says: .* correct config"):
        load_classifier(says(folder, id2label={"0": "a", "1": "b"}, vocab_size=30))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model_type": "nothing"}, "model_type 'nothing' is unknown"),
        ({"hidden_size": "8"}, "not a config of its model_type .bert.: .*hidden_size"),
    ],
)
def test_a_config_that_no_model_has_is_refused(folder: Path, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidDataError, match=rf"(?s)config\.json: {said}"):
        load_classifier(says(folder, **values))


def tokenizer(folder: Path, name: str) -> Path:
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    (folder / "vocab.txt").write_text("a 3\nb@@ 2\nc 2\n")
    (folder / "bpe.codes").write_text("a b</w> 3\nb c</w> 2\n")
    return folder


def test_every_file_that_a_tokenizer_s_class_names_is_known_and_in_the_fingerprint(tmp_path: Path) -> None:
    folder = tokenizer(tmp_path, "PhobertTokenizer")
    assert tokenizer_files(folder) == {"vocab.txt", "bpe.codes"}
    assert load_tokenizer(folder).tokenize("a bc") == ["a", "bc"]
    before = fingerprint(folder), _tokenizer_hash(folder)
    (folder / "bpe.codes").write_text("a c</w> 3\n")
    assert before[0] != fingerprint(folder)
    assert before[1] != _tokenizer_hash(folder)


def test_a_package_that_a_tokenizer_needs_is_named(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"<unk>": 0, "a": 1}')
    (tmp_path / "merges.txt").write_text("#v\n")
    with pytest.raises(InvalidDataError, match=r"the tokenizer needs a Python package: .*install sacremoses"):
        load_tokenizer(tokenizer(tmp_path, "XLMTokenizer"))

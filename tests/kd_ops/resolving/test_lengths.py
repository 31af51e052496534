"""Texts longer than a model's positions: refused when a run starts, by the same numbers as its stages go by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModel

from kd_core.models import layers
from kd_core.runtime.errors import ParamsError
from kd_ops.base.settings import Settings
from kd_ops.resolving.lengths import most_tokens
from kd_ops.resolving.resolve import resolve
from tests.helpers.recipes import bring
from tests.helpers.tiny import ARCHITECTURES, tiny_config

BART = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 16, "encoder_attention_heads": 2}
SIZES = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}


@pytest.mark.parametrize("padding", [0, 1, 5])
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "bart"])
def test_config_json_tells_what_the_model_has(architecture: str, padding: int, tmp_path: Path) -> None:
    values: dict[str, Any] = BART if architecture == "bart" else SIZES
    config = tiny_config(architecture, vocab_size=50, **values | {"pad_token_id": padding})
    config.save_pretrained(tmp_path)
    told = most_tokens(json.loads((tmp_path / "config.json").read_text()))
    assert told == layers.most_tokens(AutoModel.from_config(config))


def test_an_unknown_architecture_is_left_to_the_stages() -> None:
    assert most_tokens({"model_type": "gpt2", "max_position_embeddings": 8}) is None
    assert most_tokens({"model_type": "bert", "max_position_embeddings": "many"}) is None


def run(folder: Path, settings: Settings, *overrides: str, nested: bool = False) -> None:
    """Start a run whose teacher `mine` and base have positions for 62 tokens."""
    recipe = bring(folder)
    config: dict[str, Any] = {"model_type": "roberta", "max_position_embeddings": 64, "pad_token_id": 1}
    (folder / "weights/config.json").write_text(json.dumps({"encoder": config} if nested else config))
    resolve(recipe, overrides, settings=settings)


@pytest.mark.parametrize("nested", [False, True])
def test_a_longer_max_length_is_refused_by_name_before_anything_is_written(
    settings: Settings, tmp_path: Path, nested: bool
) -> None:
    longer = "data.reference.task.max_length=63"
    with pytest.raises(
        ParamsError, match=r"teachers\.mine: max_length 63, .* positions for 62 tokens; set teachers\.m"
    ):
        run(tmp_path / "1", settings, longer, nested=nested)
    with pytest.raises(ParamsError, match=r"data\.reference\.task: max_length 63, .* for 62 tokens; .*student\.base"):
        run(tmp_path / "2", settings, longer, "teachers.mine.max_length=62", nested=nested)
    shorter = "data.reference.task.max_length=62"
    with pytest.raises(ParamsError, match=r"teachers\.mine: max_length 90"):
        run(tmp_path / "3", settings, shorter, "teachers.mine.max_length=90", nested=nested)
    assert not Path(settings.runs_uri).exists()
    run(tmp_path / "4", settings, shorter, nested=nested)
    run(
        tmp_path / "5",
        settings,
        longer,
        "teachers.mine.max_length=62",
        "student={layers: 0, heads: null}",
        nested=nested,
    )

"""How many tokens a model has positions for: so many are read, one more is refused before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from kd_core.config.teachers import TeacherParams
from kd_core.models.layers import check_length, most_tokens
from kd_core.runtime.errors import ParamsError
from kd_core.teachers.model import prepare
from tests.helpers.tiny import ARCHITECTURES, tiny_base, tiny_config, tiny_task


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_so_many_tokens_are_read_and_no_more(architecture: str) -> None:
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    model = AutoModel.from_config(tiny_config(architecture, vocab_size=50, **sizes)).eval()

    def read(length: int) -> None:
        ids = torch.full((1, length), 7)
        model(input_ids=ids, attention_mask=torch.ones_like(ids))

    most = most_tokens(model)
    read(most or 500)
    if most is None:
        return
    with pytest.raises((RuntimeError, IndexError)):
        read(most + 1)
    check_length(model, most, "task", "")
    with pytest.raises(ParamsError, match=f"task: max_length {most + 1}, but the model has positions for {most} tok"):
        check_length(model, most + 1, "task", "")


def test_a_teacher_with_fewer_positions_is_refused_by_name(tmp_path: Path) -> None:
    base, task = tiny_base(tmp_path / "base"), tiny_task(max_length=1000)
    params = {"weights": "base", "fine_tune": {"epochs": 1, "learning_rate": 1e-3}}
    prepare("small", TeacherParams.model_validate(params | {"max_length": 64}), task, base)
    with pytest.raises(ParamsError, match=r"teachers\.small: max_length 1000.*tokens; set teachers\.small\.max_length"):
        prepare("small", TeacherParams.model_validate(params), task, base)

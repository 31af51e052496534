"""Teachers learn the gold labels, from a probe on; and the outputs that every stage asks for come in order."""

from __future__ import annotations

import torch

from kd_core.inference.batches import encode
from kd_core.teachers.teaching import pass_features_on, probe
from tests.helpers.distilling import PROGRESS, TASK, TOKENIZER, copy_of, moved, optimisation, tiny_student, tiny_teacher
from tests.helpers.one_unit import fine_tune, outputs_of, targets_of
from tests.helpers.tiny import tiny_rows


def test_a_teacher_learns_the_gold_labels() -> None:
    teacher = tiny_teacher()
    tuned = optimisation(epochs=8, learning_rate=0.003, patience=4)
    curves = fine_tune(teacher, tiny_rows(150), tiny_rows(45, seed=3), tuned, PROGRESS)
    assert max(value for _, value in curves["valid_accuracy"]) > 0.8


def test_the_probe_sees_the_encoder_s_features_and_not_those_of_an_untrained_pooler() -> None:
    teacher = tiny_teacher()
    before = copy_of(teacher.model)
    torch.nn.init.constant_(teacher.model.bert.pooler.dense.weight, 0.0)  # every text looks the same behind it
    pass_features_on(teacher.model)
    changed = moved(teacher.model, before)
    assert changed == {"bert.pooler"}
    encoded = encode(tiny_rows(150), teacher.tokenizer, teacher.task)
    probe(teacher, encoded, 512)
    answers = outputs_of(teacher.model, teacher.logits, encoded, teacher.tokenizer, 512)
    assert float((answers.argmax(-1) == targets_of(encoded)).float().mean()) > 0.6  # by chance: a third


def test_outputs_come_in_the_order_of_the_rows() -> None:
    rows = tiny_rows(20)
    encoded = encode(rows, TOKENIZER, TASK)
    model = tiny_student()
    lengths = outputs_of(model, lambda batch: batch["attention_mask"].sum(1), encoded, TOKENIZER, 40)
    assert lengths.tolist() == encoded.lengths

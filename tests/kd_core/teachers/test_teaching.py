"""Teachers learn the gold labels, from a probe on; and the outputs that every stage asks for come in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoModelForSequenceClassification

from kd_core.inference.batches import encode
from kd_core.teachers.head_layers import pass_features_on, pass_through_relu
from kd_core.teachers.model import Teacher, prepare
from kd_core.teachers.teaching import PROBE_REGULARISATION, _classifier, _inputs_of, probe
from tests.helpers import tiny_multi_label
from tests.helpers.distilling import PROGRESS, TASK, TOKENIZER, copy_of, moved, optimisation, tiny_student, tiny_teacher
from tests.helpers.one_unit import (
    fine_tune,
    outputs_of,
    targets_of,
)
from tests.helpers.teachers import as_it_is, batch_for
from tests.helpers.tiny import tiny_config, tiny_rows


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


def features_of(teacher: Teacher, layer: torch.nn.Linear) -> torch.Tensor:
    """What reaches `layer` for each of 150 rows."""
    caught: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
    ask_all(teacher)
    hook.remove()
    return torch.cat(caught).double()


def ask_all(teacher: Teacher) -> None:
    encoded = encode(tiny_rows(150), teacher.tokenizer, teacher.task)
    with torch.no_grad():
        outputs_of(teacher.model, teacher.logits, encoded, teacher.tokenizer, 512)


HEADS = {"bert": False, "deberta-v2": False, "electra": False, "mpnet": False, "roberta": False, "distilbert": True}


@pytest.mark.parametrize("architecture", HEADS)
def test_the_probe_sees_the_encoder_s_features_whatever_activation_stands_before_it(architecture: str) -> None:
    teacher = tiny_teacher()
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = tiny_config(architecture, **size, vocab_size=len(teacher.tokenizer), num_labels=3)
    torch.manual_seed(0)
    teacher.model = AutoModelForSequenceClassification.from_config(config)
    pass_features_on(teacher.model)
    classifier = _classifier(teacher)
    assert pass_through_relu(teacher.model, classifier, lambda: ask_all(teacher)) is HEADS[architecture]
    seen = features_of(teacher, classifier)
    if HEADS[architecture]:
        seen = seen[:, :16] - seen[:, 16:]  # each direction, and its negative
        given = features_of(teacher, teacher.model.pre_classifier)
        varied = (given - given.mean(0)).square().sum()
        assert (seen - seen.mean(0)).square().sum() > 0.9 * varied, "little of what tells texts apart is lost"
    assert (seen == 0).double().mean() < 0.01
    assert torch.linalg.matrix_rank(seen - seen.mean(0), rtol=1e-5) == seen.shape[1]


def test_outputs_come_in_the_order_of_the_rows() -> None:
    rows = tiny_rows(20)
    encoded = encode(rows, TOKENIZER, TASK)
    model = tiny_student()
    lengths = outputs_of(model, lambda batch: batch["attention_mask"].sum(1), encoded, TOKENIZER, 40)
    assert lengths.tolist() == encoded.lengths


def test_the_probe_is_one_regression_a_label(base: Path) -> None:
    rows, task = tiny_multi_label.multi_label_rows(120, seed=5), tiny_multi_label.TASK
    rows["label"] = [tuple(label for label in row if label != "blue") for row in rows["label"]]
    teacher = prepare("t", as_it_is(base, fine_tune=optimisation()), task, base)
    before = teacher.model.classifier.weight.detach().clone()
    encoded = encode(rows, teacher.tokenizer, task)
    probe(teacher, encoded, 256)
    after = teacher.model.classifier.weight.detach()
    assert torch.equal(after[2], before[2]), "a label that no row has cannot be learnt"
    features = _inputs_of(teacher.model.classifier, teacher, encoded, 256)
    features, gold = features.values - features.values.mean(0), targets_of(encoded)
    logits = teacher.logits(batch_for(teacher, rows)).squeeze(1).detach().numpy()
    for label in (0, 1, 3):
        regression = LogisticRegression(C=PROBE_REGULARISATION, max_iter=500).fit(features, gold[:, label])
        np.testing.assert_allclose(logits[:, label], regression.decision_function(features), atol=1e-3)

"""Early exits: threshold 0 is the full model, answers do not depend on the batch, simulation is execution."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from kd_core.inference.all_exits import all_exits, exit_layers
from kd_core.inference.batches import Encoded, encode
from kd_core.models.student import StudentModel
from kd_core.serving.exits.outcomes import Exits, shares
from kd_core.tasks.decide.classification import normalised_entropy as entropy
from tests.helpers.one_unit import uncertainty
from tests.helpers.tiny import ARCHITECTURES, LABELS, tiny_rows, tiny_tokenizer
from tests.helpers.tiny_exits import LAYERS, TASK, one_by_one, tiny_student


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> StudentModel:
    return tiny_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    return encode(tiny_rows(61), tiny_tokenizer(), TASK)


def middle_threshold(exits: Exits) -> float:
    """A threshold at which every exit is used."""
    return float(np.median(entropy(exits.probabilities)[:, :-1]))


@pytest.mark.parametrize(
    ("model_type", "share"),
    [*product(["bert", "distilbert", "mpnet"], [0.0, 0.5]), *product(ARCHITECTURES, [1.0])],
)
def test_answers_do_not_depend_on_the_batch(tmp_path: Path, model_type: str, share: float) -> None:
    model = tiny_student(tmp_path, model_type)
    encoded = encode(tiny_rows(61), tiny_tokenizer(), TASK)
    threshold = share * middle_threshold(all_exits(model, encoded, pad_id=0))
    expected = one_by_one(model, encoded, threshold)
    for batch_tokens in (1, 30, 200, 10_000):
        found = all_exits(model, encoded, pad_id=0, batch_tokens=batch_tokens).simulate(threshold)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
        assert found.exit_layer.tolist() == expected.exit_layer.tolist()
    if share == 1.0:
        assert set(found.exit_layer) == {1, 2, 3}


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.35, 0.6, 0.9, 1.0])
def test_simulation_is_execution(model: StudentModel, encoded: Encoded, threshold: float) -> None:
    simulated = all_exits(model, encoded, pad_id=0, batch_tokens=64).simulate(threshold)
    real = one_by_one(model, encoded, threshold)
    assert simulated.exit_layer.tolist() == real.exit_layer.tolist()
    np.testing.assert_allclose(simulated.probabilities, real.probabilities, atol=1e-5)
    np.testing.assert_allclose(simulated.entropy, real.entropy, atol=1e-5)
    assert simulated.answers.values.tolist() == real.answers.values.tolist()


def test_a_higher_threshold_never_exits_later(model: StudentModel, encoded: Encoded) -> None:
    exits, previous = all_exits(model, encoded, pad_id=0), np.full(len(encoded), LAYERS)
    for threshold in np.linspace(0, 1, 15):
        layers = exits.simulate(float(threshold)).exit_layer
        assert (layers <= previous).all()
        previous = layers
    assert previous.max() < LAYERS


@pytest.mark.parametrize("thresholds", [(0.0, 0.6), (0.6, 0.0), (0.35, 0.9), (0.6, 0.1)])
def test_each_exit_has_a_threshold_of_its_own(
    model: StudentModel, encoded: Encoded, thresholds: tuple[float, float]
) -> None:
    exits = all_exits(model, encoded, pad_id=0)
    real = one_by_one(model, encoded, thresholds)
    assert exits.simulate(thresholds).exit_layer.tolist() == real.exit_layer.tolist()
    certain = exits.uncertainty[:, :2] < np.float32(thresholds)
    expected = np.where(certain[:, 0], 1, np.where(certain[:, 1], 2, LAYERS))
    assert real.exit_layer.tolist() == expected.tolist()
    assert len(set(expected)) > 1


def test_disagreement_is_with_the_full_model() -> None:
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    exits = Exits(
        (1, 2, 3), np.array([[right, wrong, right], [wrong, wrong, wrong]], dtype=np.float32), "classification"
    )
    assert exits.disagrees.tolist() == [[False, True], [False, False]]


def test_without_branches_only_the_last_layer_answers(tmp_path: Path, encoded: Encoded) -> None:
    model = tiny_student(tmp_path, branches=False)
    assert exit_layers(model) == (LAYERS,)
    exits = all_exits(model, encoded, pad_id=0)
    assert exits.probabilities.shape == (len(encoded), 1, len(LABELS))
    found = one_by_one(model, encoded, 1.0)
    np.testing.assert_allclose(found.probabilities, exits.only(LAYERS).values, atol=1e-5)


def test_no_rows(model: StudentModel) -> None:
    nothing = encode(tiny_rows(3).head(0), tiny_tokenizer(), TASK)
    assert all_exits(model, nothing, pad_id=0).probabilities.shape == (0, LAYERS, 3)


def test_entropy_agrees_with_torch() -> None:
    probabilities = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.9, 0.05, 0.05]])
    np.testing.assert_allclose(entropy(probabilities.numpy()), uncertainty(probabilities).numpy(), atol=1e-6)
    assert entropy(probabilities.numpy())[[0, 2]].tolist() == pytest.approx([0.0, 1.0])


def test_shares_name_every_exit() -> None:
    assert shares(np.array([1, 1, 3, 3]), (1, 2, 3)) == {"1": 0.5, "2": 0.0, "3": 0.5}


def test_simulation_is_strict_too() -> None:
    exits = Exits((1, 2), np.array([[[0.9, 0.1], [0.5, 0.5]]], dtype=np.float32), "classification")
    u = entropy(exits.probabilities)[0, 0]
    assert exits.simulate(float(u)).exit_layer.tolist() == [2]
    assert exits.simulate(float(np.nextafter(u, np.float32(1)))).exit_layer.tolist() == [1]

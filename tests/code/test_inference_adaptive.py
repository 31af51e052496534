"""Early exits: threshold 0 is the full model, answers do not depend on the batch, simulation is execution."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from kd_core.inference.adaptive import _repack, adaptive_predict, all_exits, answer_batch, exit_layers
from kd_core.inference.exits import Exits, entropy, shares
from kd_core.models.student import StudentModel
from kd_core.runtime.errors import ParamsError
from kd_core.tasks.decode import uncertainty
from kd_core.tasks.encode import Encoded, collate, encode
from tests.code.tiny import ARCHITECTURES, LABELS, tiny_rows, tiny_tokenizer
from tests.code.tiny_exits import LAYERS, TASK, tiny_student


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> StudentModel:
    return tiny_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    return encode(tiny_rows(61), tiny_tokenizer(), TASK)


def middle_threshold(exits: Exits) -> float:
    """A threshold at which every exit is used."""
    return float(np.median(entropy(exits.probabilities)[:, :-1]))


def test_threshold_zero_is_the_full_model_bit_for_bit(model: StudentModel, encoded: Encoded) -> None:
    batch = collate(encoded, range(len(encoded)), pad_id=0)
    with torch.inference_mode():
        expected = model.answer(model.decode(model.hidden_states(batch)[-1], batch["attention_mask"]))
    probabilities, layers = answer_batch(model, batch, threshold=0.0)
    assert torch.equal(probabilities, expected)
    assert layers.tolist() == [LAYERS] * len(encoded)


def test_a_certain_text_stays_at_threshold_zero(model: StudentModel, encoded: Encoded) -> None:
    """U = 0 is not below 0: the rule is strict, even where a branch is absolutely certain."""
    batch = collate(encoded, [0, 1], pad_id=0)
    with torch.no_grad():
        bias = model.branches["1"].linear.bias
        before = bias.clone()
        bias[0] = 1e4
    try:
        assert answer_batch(model, batch, 0.0)[1].tolist() == [LAYERS, LAYERS]
        assert answer_batch(model, batch, 1e-6)[1].tolist() == [1, 1]
    finally:
        with torch.no_grad():
            bias.copy_(before)


def test_the_threshold_is_strict(model: StudentModel, encoded: Encoded) -> None:
    batch = collate(encoded, [3], pad_id=0)
    with torch.inference_mode():
        hidden = model.layer(0, model.embed(batch), batch["attention_mask"])
        u = float(uncertainty(model.branch_logits(1, hidden, batch["attention_mask"]).softmax(-1)))
    assert answer_batch(model, batch, u)[1].item() > 1
    assert answer_batch(model, batch, np.nextafter(np.float32(u), np.float32(2)).item())[1].item() == 1


@pytest.mark.parametrize(
    ("model_type", "share"),
    [*product(["bert", "distilbert", "mpnet"], [0.0, 0.5]), *product(ARCHITECTURES, [1.0])],
)
def test_answers_do_not_depend_on_the_batch(tmp_path: Path, model_type: str, share: float) -> None:
    model = tiny_student(tmp_path, model_type)
    encoded = encode(tiny_rows(61), tiny_tokenizer(), TASK)
    threshold = share * middle_threshold(all_exits(model, encoded, pad_id=0))
    alone = [answer_batch(model, collate(encoded, [row], 0), threshold) for row in range(len(encoded))]
    expected = torch.cat([probabilities for probabilities, _ in alone]).numpy()
    for batch_tokens in (1, 30, 200, 10_000):
        found = adaptive_predict(model, encoded, threshold, pad_id=0, batch_tokens=batch_tokens)
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
        assert found.exit_layer.tolist() == [int(layers) for _, layers in alone]
    if share == 1.0:
        assert set(found.exit_layer) == {1, 2, 3}


def test_an_answer_is_the_one_of_its_exit(model: StudentModel, encoded: Encoded) -> None:
    exits = all_exits(model, encoded, pad_id=0)
    found = adaptive_predict(model, encoded, middle_threshold(exits), pad_id=0)
    for row, layer in enumerate(found.exit_layer):
        np.testing.assert_allclose(found.probabilities[row], exits.only(int(layer))[row], atol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.35, 0.6, 0.9, 1.0])
def test_simulation_is_execution(model: StudentModel, encoded: Encoded, threshold: float) -> None:
    simulated = all_exits(model, encoded, pad_id=0, batch_tokens=64).simulate(threshold)
    real = adaptive_predict(model, encoded, threshold, pad_id=0)
    assert simulated.exit_layer.tolist() == real.exit_layer.tolist()
    np.testing.assert_allclose(simulated.probabilities, real.probabilities, atol=1e-5)
    np.testing.assert_allclose(simulated.entropy, real.entropy, atol=1e-5)
    assert simulated.answers.tolist() == real.answers.tolist()


def test_a_higher_threshold_never_exits_later(model: StudentModel, encoded: Encoded) -> None:
    previous = np.full(len(encoded), LAYERS)
    for threshold in np.linspace(0, 1, 15):
        layers = adaptive_predict(model, encoded, float(threshold), pad_id=0).exit_layer
        assert (layers <= previous).all()
        previous = layers
    assert previous.max() < LAYERS


@pytest.mark.parametrize("thresholds", [(0.0, 0.6), (0.6, 0.0), (0.35, 0.9), (0.6, 0.1)])
def test_each_exit_has_a_threshold_of_its_own(
    model: StudentModel, encoded: Encoded, thresholds: tuple[float, float]
) -> None:
    exits = all_exits(model, encoded, pad_id=0)
    real = adaptive_predict(model, encoded, thresholds, pad_id=0)
    assert exits.simulate(thresholds).exit_layer.tolist() == real.exit_layer.tolist()
    certain = exits.uncertainty[:, :2] < np.float32(thresholds)
    expected = np.where(certain[:, 0], 1, np.where(certain[:, 1], 2, LAYERS))
    assert real.exit_layer.tolist() == expected.tolist()
    assert len(set(expected)) > 1


def test_a_branch_with_threshold_zero_is_not_asked(
    model: StudentModel, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    logits = model.branch_logits
    monkeypatch.setattr(model, "branch_logits", lambda layer, *rest: asked.append(layer) or logits(layer, *rest))
    answer_batch(model, collate(encoded, [0, 1], pad_id=0), (0.0, 0.5))
    assert asked == [2]


@pytest.mark.parametrize("thresholds", [(0.1,), (0.1, 0.2, 0.3), (0.1, 1.2), -0.1])
def test_thresholds_that_fit_no_exits_are_refused(
    model: StudentModel, encoded: Encoded, thresholds: float | tuple[float, ...]
) -> None:
    with pytest.raises(ParamsError, match="threshold"):
        answer_batch(model, collate(encoded, [0], pad_id=0), thresholds)


def test_disagreement_is_with_the_full_model() -> None:
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    exits = Exits((1, 2, 3), np.array([[right, wrong, right], [wrong, wrong, wrong]], dtype=np.float32))
    assert exits.disagrees.tolist() == [[False, True], [False, False]]


def test_without_branches_only_the_last_layer_answers(tmp_path: Path, encoded: Encoded) -> None:
    model = tiny_student(tmp_path, branches=False)
    assert exit_layers(model) == (LAYERS,)
    exits = all_exits(model, encoded, pad_id=0)
    assert exits.probabilities.shape == (len(encoded), 1, len(LABELS))
    found = adaptive_predict(model, encoded, 1.0, pad_id=0)
    np.testing.assert_allclose(found.probabilities, exits.only(LAYERS), atol=1e-5)


def test_no_rows(model: StudentModel) -> None:
    nothing = encode(tiny_rows(3).head(0), tiny_tokenizer(), TASK)
    assert adaptive_predict(model, nothing, 0.5, pad_id=0).probabilities.shape == (0, 3)
    assert all_exits(model, nothing, pad_id=0).probabilities.shape == (0, LAYERS, 3)


def test_leavers_are_not_computed_further(
    model: StudentModel, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The point of it all: each layer sees only the texts that are still undecided, without needless padding."""
    seen: list[tuple[int, ...]] = []
    step = model.layer

    def spy(index: int, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(mask.shape))
        assert mask.any(0).all()
        return step(index, hidden, mask)

    monkeypatch.setattr(model, "layer", spy)
    batch = collate(encoded, range(len(encoded)), pad_id=0)
    threshold = middle_threshold(all_exits(model, encoded, pad_id=0))
    layers = answer_batch(model, batch, threshold)[1]
    assert [rows for rows, _ in seen] == [int((layers >= layer).sum()) for layer in range(1, LAYERS + 1)]
    assert seen[0][0] > seen[1][0] > seen[2][0] > 0


def test_entropy_agrees_with_torch() -> None:
    probabilities = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.9, 0.05, 0.05]])
    np.testing.assert_allclose(entropy(probabilities.numpy()), uncertainty(probabilities).numpy(), atol=1e-6)
    assert entropy(probabilities.numpy())[[0, 2]].tolist() == pytest.approx([0.0, 1.0])


def test_shares_name_every_exit() -> None:
    assert shares(np.array([1, 1, 3, 3]), (1, 2, 3)) == {"1": 0.5, "2": 0.0, "3": 0.5}


def test_no_branch_is_asked_at_threshold_zero(
    model: StudentModel, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "branch_logits", lambda *arguments: pytest.fail("asked"))
    answer_batch(model, collate(encoded, [0, 1], pad_id=0), threshold=0.0)


def test_padding_leaves_with_the_longest_text() -> None:
    hidden, mask = torch.randn(3, 5, 2), torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    rows, packed, left = _repack(torch.tensor([4, 7, 9]), hidden, mask, torch.tensor([True, False, True]))
    assert rows.tolist() == [4, 9]
    assert left.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert torch.equal(packed, hidden[[0, 2], :3])


def test_simulation_is_strict_too() -> None:
    exits = Exits((1, 2), np.array([[[0.9, 0.1], [0.5, 0.5]]], dtype=np.float32))
    u = entropy(exits.probabilities)[0, 0]
    assert exits.simulate(float(u)).exit_layer.tolist() == [2]
    assert exits.simulate(float(np.nextafter(u, np.float32(1)))).exit_layer.tolist() == [1]

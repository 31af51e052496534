"""The teacher contract: what must hold before anything learns from a teacher.

A teacher that breaks it does not fail by itself: it quietly teaches wrong labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kd_core.config.data import Kind, TaskParams
from kd_core.inference.batches import Encoded, encode
from kd_core.row_samples import stratified_sample
from kd_core.runtime.arrays import Floats, Integers
from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks import decide
from kd_core.tasks.units import Units
from kd_core.teachers.asking import probabilities
from kd_core.teachers.model import Teacher

if TYPE_CHECKING:
    import pandas as pd

_ROWS = 2000
"""Gold rows that are looked at, at most; drawn at random, the same ones each time."""
_BATCH_TOKENS = 1024
_SAME = 1e-4
"""Probabilities that vary less than this over all texts tell no text from another."""
_SIGNIFICANCE = 1e-3
"""A permutation is refused if chance explains its advantage with a smaller probability than this."""


def check_teacher(teacher: Teacher, rows: pd.DataFrame, task: TaskParams) -> dict[str, Any]:
    """Check `teacher` against gold `rows` (rows without a label are left out); what was found, for teacher.json.

    Raises InvalidDataError naming the teacher for another label count, labels in another order than the gold's, a
    tokenizer that does not fit, logits that are not finite, the same answer to every text or, with one label a row,
    probabilities that do not sum to one.
    """
    _check_label_count(teacher, task)
    gold = stratified_sample(rows[rows["label"].notna()], _ROWS)
    if gold.empty:
        raise InvalidDataError(f"teacher {teacher.name}: no labelled row to check its labels against")
    encoded = encode(gold, teacher.tokenizer, task, teacher.max_length)
    unknown = _check_tokenizer(teacher, encoded)
    answers, targets, kind = _probabilities(teacher, encoded), encoded.targets, decide.of(task.kind)
    _check_order(teacher.name, answers.values, kind.indicators(targets, len(task.labels)), task.labels)
    counts = kind.counts(kind.decisions(answers), targets)
    return {
        f"gold_{kind.MAIN_METRIC}": round(float(kind.metric(counts.sum(0))), 6),
        **_scales(teacher.name, answers, targets, task.kind),
        "rows": len(gold),
        "unknown_tokens": round(unknown, 6),
    }


def _scales(name: str, answers: Units, targets: Units, kind: Kind) -> dict[str, float]:
    """How sharp the teacher's answers are, and how dear its mistakes: mean normalised entropy, log-loss in nats.

    The losses compare distributions, so no teacher outweighs another by the scale of its logits; one whose answers are
    all the same has nothing to teach, and is refused.
    """
    if len(answers) > 1 and np.ptp(answers.values, axis=0).max() < _SAME:
        raise InvalidDataError(
            f"teacher {name}: gives every text the same answer, to {_SAME:g}; its logits are flat or its weights broken"
        )
    task = decide.of(kind)
    entropy, loss = task.uncertainty(answers).mean(), task.log_loss(answers, targets)
    return {"entropy": round(float(entropy), 6), "log_loss": round(loss, 6)}


def _check_label_count(teacher: Teacher, task: TaskParams) -> None:
    outputs = int(teacher.model.config.num_labels)
    if outputs != len(task.labels) or len(teacher.label_order) != len(task.labels):
        raise InvalidDataError(f"teacher {teacher.name}: has {outputs} labels, the task has {len(task.labels)}")


def _check_tokenizer(teacher: Teacher, encoded: Encoded) -> float:
    """The share of unknown tokens."""
    tokenizer, name = teacher.tokenizer, teacher.name
    table = teacher.model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > table:
        raise InvalidDataError(f"teacher {name}: its tokenizer has {len(tokenizer)} tokens, its embedding only {table}")
    if tokenizer.pad_token_id is None:
        raise InvalidDataError(f"teacher {name}: its tokenizer has no padding token")
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    words = [token for ids in encoded.input_ids for token in ids if token not in special]
    unknown = words.count(tokenizer.unk_token_id) / max(len(words), 1)
    if not words or unknown > 0.5:
        raise InvalidDataError(
            f"teacher {name}: its tokenizer knows only {1 - unknown:.0%} of the texts' tokens; is it the right one?"
        )
    return unknown


def _probabilities(teacher: Teacher, encoded: Encoded) -> Units:
    found = probabilities(teacher, encoded, _BATCH_TOKENS)
    if not np.isfinite(found.values).all():
        raise InvalidDataError(f"teacher {teacher.name}: some logits are not finite; its weights are damaged")
    if not np.allclose(decide.of(teacher.kind).chances(found.values).sum(-1), 1.0, atol=1e-4):
        raise InvalidDataError(f"teacher {teacher.name}: probabilities do not sum to one")
    return found


def _check_order(name: str, answers: NDArray[np.float32], gold: Integers, labels: tuple[str, ...]) -> None:
    """Refuse a teacher whose answers [ΣU, C] another assignment of its outputs to labels explains better.

    A frequent label says no more than a rare one: each counts the same, and where a unit has one label, in the ranks,
    too. Otherwise a teacher that favours a rare class would be told that this output means the frequent one.

    :param gold: [ΣU, C], 1 where a label is true
    """
    weights = gold / np.maximum(gold.sum(0), 1)
    one_each = bool((gold.sum(1) == 1).all())
    _check_meaning(name, _centred_ranks(answers, weights.sum(1) if one_each else np.ones(len(gold))), weights, labels)


def _centred_ranks(probabilities: NDArray[np.float32], weights: Floats) -> Floats:
    """Each label's probabilities [N, C] as ranks over the rows, from −0.5 to 0.5, where row n counts `weights[n]`.

    A label that is given too often, or hardly ever, is not mistaken for another for that.
    """
    ranks = np.empty(probabilities.shape, dtype=np.float64)
    for column, values in enumerate(probabilities.T):
        _, equal = np.unique(values, return_inverse=True)
        together = np.bincount(equal, weights)
        ranks[:, column] = (np.cumsum(together) - together / 2)[equal]
    return np.asarray(ranks / weights.sum() - 0.5)


def _check_meaning(name: str, evidence: Floats, gold: Floats, labels: tuple[str, ...]) -> None:
    """Refuse a teacher whose answers another assignment of its outputs to labels explains clearly better.

    The assignment is found on one half of the rows and judged on the other, both ways, so that a merely bad teacher
    is not mistaken for a permuted one.

    :param evidence: [N, C], how much each output speaks for its label
    :param gold: [N, C], where a label is true how much that row counts, 0 elsewhere
    """
    from scipy.stats import binomtest

    better = worse = 0
    half = np.zeros(len(gold), dtype=bool)
    half[np.lexsort(gold.T)[::2]] = True  # every label in both halves
    for found, judged in ((half, ~half), (~half, half)):
        meaning = _assignment(evidence[found], gold[found])
        moved = (evidence[judged] * gold[judged][:, meaning]).sum(1)
        same = (evidence[judged] * gold[judged]).sum(1)
        better, worse = better + int((moved > same).sum()), worse + int((same > moved).sum())
    if better > worse and binomtest(better, better + worse, 0.5, alternative="greater").pvalue < _SIGNIFICANCE:
        meaning = _assignment(evidence, gold)
        swaps = [f"{labels[i]} means {labels[m]}" for i, m in enumerate(meaning) if i != m]
        raise InvalidDataError(
            f"teacher {name}: its labels are in another order than the gold's: {'; '.join(swaps[:10])}; "
            f"correct teachers.{name}.labels"
        )


def _assignment(evidence: Floats, gold: Floats) -> Integers:
    """For each output the label it stands for, one to one, explaining most of the gold [N, C] (Hungarian method).

    An output moves only to a label of which it says more than of its own. Otherwise outputs that tell the same of all
    labels, only some of them more clearly, would be sorted by the labels' difficulty.
    """
    from scipy.optimize import linear_sum_assignment

    counts = evidence.T @ gold + np.eye(gold.shape[1]) * 1e-6  # where rows decide nothing, an output means itself
    own = counts.diagonal()[:, None]
    counts = np.where(counts >= own, counts, -len(gold))  # less than any sum of evidence
    return np.asarray(linear_sum_assignment(counts, maximize=True)[1])

"""The baseline without any transformer: TF-IDF of words and word pairs, then logistic regression.

Multi-label: one regression a label.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_core.config.data import MULTI_LABEL, Kind
from kd_core.rows import Label, labels_of
from kd_core.runtime.errors import InvalidDataError

Floats = NDArray[np.float64]

INVERSE_REGULARISATION = 300.0
"""Where validation accuracy on the embedded default levels off, so that the baseline is not made weak."""
_MISSING_CLASS = -1e4  # intercept of a class without a single row, or label that never applies: its probability is 0
_TENSORS, _CONFIG = "tfidf.safetensors", "tfidf.json"


@dataclass(frozen=True)
class TfidfModel:
    """A fitted baseline: everything but the vocabulary is arrays."""

    vocabulary: tuple[str, ...]
    """V terms, in the order of the features."""
    idf: Floats
    """[V]"""
    coefficients: Floats
    """[C, F]: F = V for single texts, 2 V + 1 for pairs."""
    intercepts: Floats
    """[C]"""
    pair: bool
    kind: Kind = "classification"

    def predict_proba(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Floats:
        """Probabilities [N, C] in the order of the labels that it was fitted with."""
        from scipy.special import expit, softmax

        features = _features(self._vectorizer(), texts, pairs if self.pair else None)
        logits = features @ self.coefficients.T + self.intercepts
        probabilities: Floats = expit(logits) if self.kind == MULTI_LABEL else softmax(logits, axis=1)
        return probabilities

    def _vectorizer(self) -> Any:
        vectorizer = _new_vectorizer({term: index for index, term in enumerate(self.vocabulary)})
        vectorizer.idf_ = self.idf
        return vectorizer

    def save(self, folder: Path) -> None:
        """Write safetensors and JSON to `folder`; nothing in them can run."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"idf": self.idf, "coefficients": self.coefficients, "intercepts": self.intercepts}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / _TENSORS)
        config: dict[str, Any] = {"pair": self.pair, "vocabulary": list(self.vocabulary)}
        if self.kind != "classification":
            config["kind"] = self.kind
        (folder / _CONFIG).write_text(json.dumps(config, ensure_ascii=False) + "\n", encoding="utf-8")


def fit(
    texts: Sequence[str],
    labels: Sequence[Label],
    classes: Sequence[str],
    pairs: Sequence[str] | None = None,
    kind: Kind = "classification",
) -> TfidfModel:
    """Fit on N labelled texts (or pairs of texts); `classes` are the task's labels in their order.

    A pair's features are those of both texts and their cosine. Raises InvalidDataError with fewer than two classes.
    """
    if len(set(labels)) < 2:
        raise InvalidDataError("the TF-IDF baseline needs labelled rows of at least two classes")
    vectorizer = _new_vectorizer(None).fit([*texts, *(pairs or [])])
    regress = _by_label if kind == MULTI_LABEL else _by_class
    coefficients, intercepts = regress(_features(vectorizer, texts, pairs), labels, classes)
    terms = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
    return TfidfModel(tuple(terms), vectorizer.idf_, coefficients, intercepts, pairs is not None, kind)


def load(folder: Path) -> TfidfModel:
    """The model saved in `folder`. Raises InvalidDataError if a file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        arrays = load_file(folder / _TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        raise InvalidDataError(f"{folder}: no readable TF-IDF model ({error}); run baseline again") from None
    kind = config.get("kind", "classification")
    return TfidfModel(vocabulary=tuple(config["vocabulary"]), pair=config["pair"], kind=kind, **arrays)


def _new_vectorizer(vocabulary: dict[str, int] | None) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, vocabulary=vocabulary)


def _features(vectorizer: Any, texts: Sequence[str], pairs: Sequence[str] | None) -> Any:
    """Sparse [N, V]; for pairs [N, 2 V + 1]."""
    from scipy.sparse import csr_matrix, hstack

    first = vectorizer.transform(list(texts))
    if pairs is None:
        return first
    second = vectorizer.transform(list(pairs))
    cosine = first.multiply(second).sum(axis=1)  # rows have unit length
    blocks: list[Any] = [first, second, csr_matrix(np.asarray(cosine).reshape(-1, 1))]
    return hstack(blocks, format="csr")


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=INVERSE_REGULARISATION, max_iter=2000)


def _by_label(features: Any, labels: Sequence[Label], classes: Sequence[str]) -> tuple[Floats, Floats]:
    """Coefficients [C, F] and intercepts [C] in the order of `classes`, each for a sigmoid of its own."""
    sets = [set(labels_of(row)) for row in labels]
    coefficients, intercepts = np.zeros((len(classes), features.shape[1])), np.zeros(len(classes))
    for position, label in enumerate(classes):
        applies = np.array([label in row for row in sets])
        if applies.all() or not applies.any():
            intercepts[position] = -_MISSING_CLASS if applies.all() else _MISSING_CLASS
            continue
        model = _regression().fit(features, applies)
        coefficients[position], intercepts[position] = model.coef_[0], model.intercept_[0]
    return coefficients, intercepts


def _by_class(features: Any, labels: Sequence[Label], classes: Sequence[str]) -> tuple[Floats, Floats]:
    """Coefficients [C, F] and intercepts [C] in the order of `classes`, for a softmax."""
    model = _regression().fit(features, list(labels))
    found, coefficients, intercepts = list(model.classes_), model.coef_, model.intercept_
    if len(found) == 2:  # one row of coefficients, for the second class: sigmoid(z) = softmax(0, z)
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([[0.0], intercepts])
    ordered = np.zeros((len(classes), coefficients.shape[1]))
    offsets = np.full(len(classes), _MISSING_CLASS)
    for position, label in enumerate(classes):
        if label in found:
            ordered[position] = coefficients[found.index(label)]
            offsets[position] = intercepts[found.index(label)]
    return ordered, offsets

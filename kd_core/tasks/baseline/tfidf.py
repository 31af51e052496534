"""The baseline without any transformer: TF-IDF of words and word pairs, then logistic regression.

A kind of task brings the regressions, and what their sums stand for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kd_core.config.data import Kind, TaskParams
from kd_core.rows import Label
from kd_core.runtime.arrays import Floats
from kd_core.runtime.errors import InvalidDataError
from kd_core.runtime.files import write_json
from kd_core.tasks.kinds import kind_in

if TYPE_CHECKING:
    import pandas as pd

Regress = Callable[[Any, Sequence[Label], Sequence[str]], tuple[Floats, Floats]]
"""Features [N, F], labels [N] and label set → coefficients [C, F] and intercepts [C] in the order of the set."""

INVERSE_REGULARISATION = 300.0
"""Where validation accuracy on the embedded default levels off, so that the baseline is not made weak."""
MISSING_CLASS = -1e4  # intercept of a class without a single row, or label that never applies: its probability is 0
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
    kind: Kind

    def logits(self, rows: pd.DataFrame) -> Floats:
        """[N, C] of rows (text, text_pair), in the order of the labels that it was fitted with."""
        features = _features(self._vectorizer(), *_texts(rows, self.pair))
        found: Floats = features @ self.coefficients.T + self.intercepts
        return found

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
        config: dict[str, Any] = {"kind": self.kind, "pair": self.pair, "vocabulary": list(self.vocabulary)}
        write_json(folder / _CONFIG, config)


def fit(rows: pd.DataFrame, task: TaskParams, regress: Regress) -> TfidfModel:
    """Fit on N labelled rows (text, text_pair, label) of texts or pairs of texts.

    A pair's features are those of both texts and their cosine. Raises InvalidDataError with fewer than two classes.
    """
    labels = rows["label"].tolist()
    if len(set(labels)) < 2:
        raise InvalidDataError("the TF-IDF baseline needs labelled rows of at least two classes")
    texts, pairs = _texts(rows, task.pair)
    vectorizer = _new_vectorizer(None).fit([*texts, *(pairs or [])])
    coefficients, intercepts = regress(_features(vectorizer, texts, pairs), labels, task.labels)
    terms = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
    return TfidfModel(tuple(terms), vectorizer.idf_, coefficients, intercepts, task.pair, task.kind)


def _texts(rows: pd.DataFrame, pair: bool) -> tuple[list[str], list[str] | None]:
    return rows["text"].tolist(), rows["text_pair"].tolist() if pair else None


def load(folder: Path) -> TfidfModel:
    """The model saved in `folder`. Raises InvalidDataError if a file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        arrays = load_file(folder / _TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        raise InvalidDataError(f"{folder}: no readable TF-IDF model ({error}); run baseline again") from None
    return TfidfModel(vocabulary=tuple(config["vocabulary"]), pair=config["pair"], kind=kind_in(config), **arrays)


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


def regression() -> Any:
    """Logistic regression as all kinds take it."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=INVERSE_REGULARISATION, max_iter=2000)

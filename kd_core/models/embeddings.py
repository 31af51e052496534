"""Embedding tables of a base model reduced to fewer dimensions, so that a narrow student knows its words."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kd_core.runtime.errors import ParamsError


def reduced_embeddings(encoder: PreTrainedModel, columns: int) -> dict[str, Tensor]:
    """Embedding tables with `columns` columns for a student of this encoder, by the names of its state dict.

    Word embeddings are reduced to their principal axes, centred first: for a given number of axes that reconstructs
    them best, and the constant that is lost is one that the LayerNorm behind them can learn. The axes are orthonormal,
    so distances between words keep the base's scale. Positions and token types stay fresh: they lie across the words'
    axes, so that of the packaged MiniLM's positions a seventh would be left. At the base's own width all tables are
    copied. Raises ParamsError if there are fewer columns in the base.
    """
    parts = dict(encoder.get_submodule("embeddings").named_children())
    weights = {name: part.weight.detach() for name, part in parts.items() if isinstance(part, nn.Embedding)}
    known = next(name for name, part in parts.items() if part is encoder.get_input_embeddings())
    words = weights[known]
    if columns > words.shape[1]:
        raise ParamsError(f"student.hidden {columns} is wider than the base's embeddings ({words.shape[1]})")
    if columns < words.shape[1]:
        exact = words.double().cpu()
        weights = {known: ((exact - exact.mean(0)) @ principal_axes(exact, columns)).to(words.dtype)}
    return {f"embeddings.{name}.weight": table.contiguous() for name, table in weights.items()}


def principal_axes(table: Tensor, count: int) -> Tensor:
    """[V, H] → [H, count]: orthonormal axes of the largest variance, in float64, with deterministic signs."""
    from sklearn.decomposition import PCA

    model = PCA(n_components=count, svd_solver="covariance_eigh").fit(table.double().cpu().numpy())
    return torch.from_numpy(model.components_.T.copy())

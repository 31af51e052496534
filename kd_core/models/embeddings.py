"""Embedding tables of a base model reduced to fewer dimensions, so that a narrow student knows its words."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd_core.runtime.errors import ParamsError

_TABLES = ("word_embeddings", "position_embeddings", "token_type_embeddings")


def reduced_embeddings(encoder: nn.Module, hidden: int) -> dict[str, Tensor]:
    """Embedding tables with `hidden` columns for a student of this encoder, by the names of its state dict.

    Word embeddings are reduced to their principal axes, centred first: for a given number of axes that reconstructs
    them best, and the constant that is lost is one that the LayerNorm behind them can learn. The axes are orthonormal,
    so distances between words keep the base's scale. Positions and token types stay fresh: they lie across the words'
    axes, so that of the packaged MiniLM's positions a seventh would be left. At the base's own width all tables are
    copied. Raises ParamsError if `hidden` is too large.
    """
    embeddings = encoder.get_submodule("embeddings")
    tables = {name: getattr(embeddings, name, None) for name in _TABLES}
    weights = {name: table.weight.detach() for name, table in tables.items() if isinstance(table, nn.Embedding)}
    words = weights["word_embeddings"]
    if hidden > words.shape[1]:
        raise ParamsError(f"student.hidden {hidden} is wider than the base's embeddings ({words.shape[1]})")
    if hidden < words.shape[1]:
        exact = words.double().cpu()
        weights = {"word_embeddings": ((exact - exact.mean(0)) @ principal_axes(exact, hidden)).to(words.dtype)}
    return {f"embeddings.{name}.weight": table.contiguous() for name, table in weights.items()}


def principal_axes(table: Tensor, count: int) -> Tensor:
    """[V, H] → [H, count]: orthonormal axes of the largest variance, in float64, with deterministic signs."""
    from sklearn.decomposition import PCA

    model = PCA(n_components=count, svd_solver="covariance_eigh").fit(table.double().cpu().numpy())
    return torch.from_numpy(model.components_.T.copy())

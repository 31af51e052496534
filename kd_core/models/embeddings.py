"""Embedding tables of a base model reduced to fewer dimensions, so that a narrow student knows its words."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kd_core.runtime.errors import ParamsError

_TOKENS = 512
"""Entries of a vocabulary that pass through an encoder at a time."""


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
    if columns != words.shape[1]:
        weights = {known: _reduced(words, columns)}
    return {f"embeddings.{name}.weight": table.contiguous() for name, table in weights.items()}


@torch.inference_mode()
def token_vectors(encoder: PreTrainedModel, columns: int) -> Tensor:
    """[V, columns], what the encoder makes of each entry of its vocabulary alone, reduced to principal axes.

    Raises ParamsError if the encoder is narrower, or its vocabulary has too few entries.
    """
    count = encoder.get_input_embeddings().num_embeddings
    if count < 2:
        raise ParamsError("student.base: its vocabulary has one token, so all texts are the same to a static student")
    parts = torch.split(torch.arange(count, device=encoder.device).unsqueeze(1), _TOKENS)
    table = [encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0] for ids in parts]
    return _reduced(torch.cat(table).clone(), columns)


def _reduced(table: Tensor, columns: int) -> Tensor:
    """[V, H] → [V, columns] along the principal axes, centred first."""
    rows, width = table.shape
    if columns > width:
        raise ParamsError(f"student.hidden {columns} is wider than the base's embeddings ({width})")
    if columns == width:
        return table
    if columns > rows:
        raise ParamsError(f"student.hidden {columns}: the base's vocabulary has {rows} tokens only; set it to no more")
    exact = table.double().cpu()
    return ((exact - exact.mean(0)) @ principal_axes(exact, columns)).to(table.dtype)


def principal_axes(table: Tensor, count: int) -> Tensor:
    """[V, H] → [H, count]: orthonormal axes of the largest variance, in float64, with deterministic signs."""
    from sklearn.decomposition import PCA

    model = PCA(n_components=count, svd_solver="covariance_eigh").fit(table.double().cpu().numpy())
    return torch.from_numpy(model.components_.T.copy())

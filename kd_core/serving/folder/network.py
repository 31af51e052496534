"""The graphs and the tokenizer of a model's folder, with their inputs and outputs; a part of model.json.

A student with exits after layers 1 and 3 of 4 has three segments (1; 2 and 3; 4) and one whole graph. One with a single
exit has only the whole graph. A tensor has the same name in every graph. There are B texts, L tokens, U units per text
(one, unless the kind of task asks about parts of a text), H hidden units and C labels:

    first segment, whole graph    take input_ids, attention_mask[, token_type_ids]  [B, L] int64
    a segment after layer n       takes hidden_n [B, L, H] float32, attention_mask
    graphs whose layers compute   also take token_places [T], the place of each of the T tokens in the batch, row by
    no padding                    row, and padded_places [B, L], the token at each place; both int64
    graphs of a kind that asks    also take unit_mask [B, U] bool and the kind's features of units [B, U] int64
    about parts of a text         (kd_core.tasks.encode)
    a segment up to layer n       gives hidden_n (except the last) and probabilities_n [B · U, C] float32
    whole graph                   gives probabilities_n of the last layer n
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny

from kd_core.config.base import Count, Section
from kd_core.config.data import TaskParams
from kd_core.long_texts import MOST_CHARACTERS

FOLDER = "onnx"
"""The folder of graphs and tokenizer inside a model's folder."""

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
PLACES, PADDED = "token_places", "padded_places"

Precision = Literal["fp32", "int8 static"]


def hidden_name(layer: int) -> str:
    """Name of the hidden states after a layer (1-based)."""
    return f"hidden_{layer}"


def probabilities_name(layer: int) -> str:
    """Name of the answers of the exit after a layer (1-based)."""
    return f"probabilities_{layer}"


class File(Section):
    """A file of the model's folder."""

    file: str
    """Its path inside the folder, such as `onnx/whole.onnx`."""
    sha256: str


class Segment(File):
    """The graph of the layers (1-based) from `first` to `last` and of the exit after them."""

    first: Annotated[int, Field(ge=0)]
    last: Annotated[int, Field(ge=0)]


class Tokenization(File):
    """How texts become tokens; the file is a tokenizer.json of the library `tokenizers`."""

    max_length: Count
    """Most tokens of a text (or pair), special ones included; longer ones are cut."""
    truncation_side: Literal["left", "right"]
    max_characters: Count = MOST_CHARACTERS
    """Most characters of a text that cannot be cut before the tokenizer; others are refused (kd_core.long_texts)."""
    pad_id: int
    token_types: bool
    """Whether the first graph takes token_type_ids."""


class Network(Section):
    """Everything that is needed to run every exit, besides the files that it names."""

    task: SerializeAsAny[TaskParams]
    """The task: the meaning of the probabilities, and so of uncertainty."""
    hidden: Count
    """Number of hidden units, H."""
    exits: tuple[Annotated[int, Field(ge=0)], ...]
    """[E], the layers (1-based; 0: the static encoder) that have an exit, ascending; the last is the full model."""
    precision: Precision
    tokenization: Tokenization
    segments: tuple[Segment, ...]
    """[E], in order; where there is one, it is the whole graph."""
    whole: File
    """All layers and the answer, without exits."""

    @property
    def files(self) -> tuple[File, ...]:
        """Graphs and tokenizer."""
        return (*self.segments, self.whole, self.tokenization)

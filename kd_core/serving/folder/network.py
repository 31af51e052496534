"""The graphs and the tokenizer of a model's folder, and what they take and give; a part of model.json.

A student with exits after layers 1 and 3 of 4 has three segments (1; 2 and 3; 4) and one whole graph. A tensor has the
same name in every graph; B texts, L tokens, U units a text (one, unless the kind of task asks of parts of a text), H
hidden units, C labels:

    first segment, whole graph    take input_ids, attention_mask[, token_type_ids]  [B, L] int64
    a segment behind layer n      takes hidden_n [B, L, H] float32, attention_mask
    graphs whose layers compute   take token_places [T] and padded_places [B, L] int64, too, where T tokens are no
    no padding                    padding: the place of each in the batch, row by row, and the token at each place
    graphs of a kind that asks    take unit_mask [B, U] bool and the kind's features of units [B, U] int64, too
    of parts of a text            (kd_core.tasks.encode)
    a segment up to layer n       gives hidden_n (the last does not) and probabilities_n [B · U, C] float32
    whole graph                   gives probabilities_n of the last layer n
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny

from kd_core.config.base import Count, Section
from kd_core.config.data import TaskParams
from kd_core.long_texts import MOST_CHARACTERS

FOLDER = "onnx"
"""Where graphs and tokenizer are in a model's folder."""

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
PLACES, PADDED = "token_places", "padded_places"

Precision = Literal["fp32", "int8 static"]


def hidden_name(layer: int) -> str:
    """The tensor of hidden states behind a layer (1-based)."""
    return f"hidden_{layer}"


def probabilities_name(layer: int) -> str:
    """The tensor of the answers of the exit behind a layer (1-based)."""
    return f"probabilities_{layer}"


class File(Section):
    """A file of the model's folder."""

    file: str
    """Its path inside the folder, such as `onnx/whole.onnx`."""
    sha256: str


class Segment(File):
    """The graph of the layers (1-based) from `first` to `last`, and of the exit behind them."""

    first: Annotated[int, Field(ge=0)]
    last: Annotated[int, Field(ge=0)]


class Tokenization(File):
    """How texts become tokens; the file is tokenizer.json, as the library `tokenizers` reads it."""

    max_length: Count
    """Tokens that a text (or pair) is cut to, special ones included."""
    truncation_side: Literal["left", "right"]
    max_characters: Count = MOST_CHARACTERS
    """Of a text that cannot be cut before the tokenizer; longer ones are refused (kd_core.long_texts)."""
    pad_id: int
    token_types: bool
    """Whether the first graph takes token_type_ids."""


class Network(Section):
    """All that is needed to ask every exit, beside the files that it names."""

    task: SerializeAsAny[TaskParams]
    """What the probabilities stand for, and with that what uncertainty is."""
    hidden: Count
    """Hidden units H."""
    exits: tuple[Annotated[int, Field(ge=0)], ...]
    """[E], the layers (1-based) that have an exit, ascending; the last is the full model."""
    precision: Precision
    tokenization: Tokenization
    segments: tuple[Segment, ...]
    """[E], in order."""
    whole: File
    """All layers and the answer, without exits."""

    @property
    def files(self) -> tuple[File, ...]:
        """Graphs and tokenizer."""
        return (*self.segments, self.whole, self.tokenization)

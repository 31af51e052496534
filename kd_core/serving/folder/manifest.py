"""manifest.json: what an ONNX folder holds, and what its graphs take and give.

A student with exits after layers 1 and 3 of 4 has three segments (1; 2 and 3; 4) and one whole graph. A tensor has the
same name in every graph; B texts, L tokens, H hidden units, C labels:

    first segment, whole graph    take input_ids, attention_mask[, token_type_ids]  [B, L] int64
    a segment behind layer n      takes hidden_n [B, L, H] float32, attention_mask
    graphs whose layers compute   take token_places [T] and padded_places [B, L] int64, too, where T tokens are no
    no padding                    padding: the place of each in the batch, row by row, and the token at each place
    a segment up to layer n       gives hidden_n (the last does not) and probabilities_n [B, C] float32
    whole graph                   gives probabilities_n of the last layer n
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from kd_core.config.base import Count, Fraction, Section
from kd_core.config.data import Kind
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError

FOLDER = "onnx"
"""The graphs' folder inside a model's."""
NAME = "manifest.json"

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
    """A file of the folder."""

    file: str
    sha256: str


class Segment(File):
    """The graph of the layers (1-based) from `first` to `last`, and of the exit behind them."""

    first: Count
    last: Count


class Tokenization(File):
    """How texts become tokens; the file is tokenizer.json, as the library `tokenizers` reads it."""

    max_length: Count
    """Tokens that a text (or pair) is cut to, special ones included."""
    truncation_side: Literal["left", "right"]
    pad_id: int
    token_types: bool
    """Whether the first graph takes token_type_ids."""


class Manifest(Section):
    """All that is needed to answer, beside the files that it names."""

    schema_version: Literal[1] = 1
    kind: Kind
    """Of the task: what the probabilities stand for, and with that what uncertainty is."""
    labels: tuple[str, ...]
    pair: bool
    hidden: Count
    """Hidden units H."""
    exits: tuple[Count, ...]
    """[E], the layers (1-based) that have an exit, ascending; the last is the full model."""
    thresholds: tuple[Fraction, ...]
    """[E - 1]: a text leaves at the first exit whose uncertainty is below that exit's threshold."""
    precision: Precision
    tokenization: Tokenization
    segments: tuple[Segment, ...]
    """[E], in order."""
    whole: File
    """All layers and the answer, without exits."""
    profile: File
    """See kd_core.serving.folder.profile."""

    def write(self, folder: Path) -> None:
        """Write manifest.json into the folder of the graphs."""
        (folder / NAME).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """From the folder of the graphs, every file compared with its hash.

        Raises InvalidDataError naming the file that is missing, damaged or of another schema version.
        """
        path = folder / NAME
        try:
            manifest = cls.model_validate_json(path.read_bytes())
        except OSError:
            raise InvalidDataError(f"{path}: missing; give a folder that the export stage wrote") from None
        except ValidationError as error:
            raise InvalidDataError(f"{path}: not a manifest of this version: {error}") from None
        for each in (*manifest.segments, manifest.whole, manifest.tokenization, manifest.profile):
            _check(folder / each.file, each.sha256)
        return manifest


def _check(path: Path, expected: str) -> None:
    if not path.is_file():
        raise InvalidDataError(f"{path}: missing; export the model again, or copy its folder whole")
    if fingerprint.of_file(path) != expected:
        raise InvalidDataError(f"{path}: not the file that was exported; export the model again, or copy it again")

"""Train–test contamination: which test rows a model was trained on, in any run, recipe or split.

The split ledger keeps training texts out of the tests of one recipe's later data. A model may still meet a training
text in the test of another recipe, of other split sizes or another seed, or of a run that was under way at the same
time. So a model's record holds, for each training text, its near-duplicate group and its set of hashed words. The
hashes recognise near-duplicates without keeping the text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kd_core.data.splits.near_duplicates import near_duplicates_of
from kd_core.data.splits.words import Words, row_words, signature
from kd_core.runtime.arrays import Booleans
from kd_core.runtime.errors import InvalidDataError

_SCHEMA = pa.schema([("group", pa.string()), ("words", pa.list_(pa.int64()))])


@dataclass(frozen=True)
class TrainedTexts:
    """The texts that a model was trained on, without their wording."""

    texts: frozenset[tuple[str, Words]] = frozenset()
    """Near-duplicate group and hashed words of each text; texts without a word are left out."""

    @classmethod
    def of(cls, frames: Iterable[pd.DataFrame]) -> TrainedTexts:
        """The texts in the rows (group, text, text_pair?) of data splits."""
        pairs = (pair for frame in frames for pair in zip(frame["group"], row_words(frame), strict=True))
        return cls(frozenset((str(group), words) for group, words in pairs if words))

    def __or__(self, other: TrainedTexts) -> TrainedTexts:
        return TrainedTexts(self.texts | other.texts)

    def to_bytes(self) -> bytes:
        """A Parquet file; equal records give equal bytes."""
        rows = sorted((signature(words), group, sorted(words)) for group, words in self.texts)
        columns = [pa.array([row[i] for row in rows], type=_SCHEMA.field(i - 1).type) for i in (1, 2)]
        buffer = BytesIO()
        pq.write_table(pa.table(columns, schema=_SCHEMA), buffer, compression="zstd")
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> TrainedTexts:
        """Read a record. Raises InvalidDataError naming it if the content is not a record."""
        try:
            table = pq.read_table(BytesIO(data))
            pairs = zip(table.column("group").to_pylist(), table.column("words").to_pylist(), strict=True)
            return cls(frozenset((group, frozenset(words)) for group, words in pairs))
        except (pa.ArrowInvalid, KeyError, TypeError) as error:
            raise InvalidDataError(f"{name}: not a record of training texts ({error}); restore it") from None


def contaminated(rows: pd.DataFrame, trained: TrainedTexts, similarity: float) -> Booleans:
    """[N], which test rows (group, text, text_pair?) a model was trained on, near-duplicates included.

    A row counts if it equals a training text, is its near-duplicate or shares its group. Then all rows of its group
    count: groups are the units that the gate resamples, and the rest of a group would be the rows that are least like
    the training text.

    :param similarity: Jaccard similarity of word sets from which two texts are near-duplicates, above 0
    """
    known, groups = {words for _, words in trained.texts}, {group for group, _ in trained.texts}
    matches = near_duplicates_of(row_words(rows), sorted(known, key=signature), similarity)
    names = rows["group"].to_numpy(dtype=str)
    hit = {name for name, match in zip(names, matches, strict=True) if match is not None or name in groups}
    return np.isin(names, sorted(hit))

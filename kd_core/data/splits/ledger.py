"""The split ledger: which split each text was ever in, so that no later revision tests on a text trained on.

One Parquet file: a word set's signature, its hashed words (near-duplicates of texts since removed are still
recognised; the texts themselves are not kept) and its split. The file's metadata holds the revision and the share of
each label, which the next revision is compared with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kd_core.data.splits.words import Words, signature
from kd_core.rows import write_table
from kd_core.runtime.errors import InvalidDataError

_KEY = b"kd_ledger"
_SCHEMA = pa.schema([("signature", pa.string()), ("words", pa.list_(pa.int64())), ("split", pa.string())])


@dataclass(frozen=True)
class Ledger:
    """What is remembered of all revisions so far."""

    splits: Mapping[Words, str] = field(default_factory=dict)
    """Word set → the split that it is in, or was in when last seen."""
    revision: str | None = None
    label_shares: Mapping[str, float] | None = None

    def write(self, path: Path) -> None:
        """Write the ledger; equal ledgers give equal bytes."""
        rows = sorted((signature(words), sorted(words), split) for words, split in self.splits.items())
        columns = [pa.array([row[i] for row in rows], type=_SCHEMA.field(i).type) for i in range(3)]
        about = json.dumps({"revision": self.revision, "label_shares": self.label_shares}, sort_keys=True)
        write_table(path, pa.table(columns, schema=_SCHEMA.with_metadata({_KEY: about.encode()})))

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Ledger:
        """Read a ledger. Raises InvalidDataError naming it if the content is not one."""
        try:
            table = pq.read_table(BytesIO(data))
            about = json.loads((table.schema.metadata or {})[_KEY])
            splits = zip(table.column("words").to_pylist(), table.column("split").to_pylist(), strict=True)
            return cls({frozenset(w): s for w, s in splits}, about["revision"], about["label_shares"])
        except (pa.ArrowInvalid, KeyError, ValueError) as error:
            raise InvalidDataError(f"{name}: not a split ledger ({error}); restore it from a backup") from None

"""What is asked about a data set and what is answered, as JSON between two processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Roles(_Document):
    """Which of the user's columns is what; None: not said."""

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    separator: str | None = None
    """Between the labels of a text cell, where a row may have several."""


class Request(_Document):
    """What to look at."""

    paths: tuple[str, ...]
    """Files, folders and globs, absolute or `s3://…`; or one folder with a Hugging Face data set."""
    base: str
    """Address of the student's base, whose tokenizer counts the tokens."""
    said: Roles = Roles()
    """What the user has said."""
    config: str | None = None
    """Of a Hugging Face data set that has several."""
    guess: bool = False
    """Take the first of several columns that could be meant, instead of asking."""
    min_accuracy: float | None = None
    """What the gate asks for by default."""


class ColumnProfile(_Document):
    """What the cells of a column look like."""

    name: str
    kind: str
    """text, lists, other (objects and the like) or empty."""
    filled: int
    """Rows with something in this column."""
    distinct: int
    """Different values."""
    words: float
    """Mean number of words a cell."""
    numbers: bool
    """Whether all cells are numbers, as a count of rows is."""
    separator: str | None
    """A sign that stands between several short values of a cell, if there seem to be several."""
    examples: tuple[str, ...]


class Question(_Document):
    """Something that only a person can tell."""

    role: str
    """A field of Roles."""
    candidates: tuple[str, ...]
    """Columns that could be meant, the likeliest first; empty: none looks like it."""
    why: str


class Findings(_Document):
    """What the rows look like, read as training will read them."""

    kind: str
    """Of the task."""
    rows: int
    unlabelled: int
    """Rows without a label."""
    labels: Mapping[str, int]
    """Label → rows that have it, the most frequent first."""
    tokens: Mapping[str, int]
    """Tokens of a text or pair, special ones included: median, 95 %, 99 %, longest, cut (texts that max_length cuts
    of all that were counted), counted."""
    max_length: int
    """Proposed."""
    split: Mapping[str, int] | None
    """Proposed sizes, in rows; None: the default shares."""
    sizes: Mapping[str, int]
    """Rows that each split gets."""
    repeated: int
    """Rows whose text stands in an earlier row too."""
    near: int
    """Rows in groups of near-duplicates, those that are the same included."""
    looked_at: int
    """Rows that were compared for near-duplicates."""
    faulty: Mapping[str, int]
    """Role of the data set → rows that validation will set aside."""
    tolerance: Mapping[str, float]
    """Role → share of faulty rows that must be tolerated, where it is more than the default."""
    warnings: tuple[str, ...]


class Overview(_Document):
    """The answer."""

    source: Mapping[str, Any]
    """The data source as a recipe has it: kind, and path or name and splits."""
    columns: tuple[ColumnProfile, ...]
    roles: Roles
    """What was said, and what follows from names and cells."""
    questions: tuple[Question, ...]
    notes: tuple[str, ...] = ()
    findings: Findings | None = None
    """None while there are questions."""

"""Which column is what: from names that people give them, and from what their cells look like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kd_core.data.profiling.words import ColumnProfile, Question, Roles
from kd_core.runtime.errors import InvalidDataError

MOST_LABELS = 1000
"""Different values of a column of labels."""

_TEXTS = ("text", "sentence", "body", "message", "content", "utterance", "review", "document", "tweet")
"""Names that say that a column holds the text, whatever else there is."""
_LABELS = ("label", "labels", "category", "categories", "class", "intent", "target", "sentiment")
"""Names that say that a column holds the labels."""
_PAIRS = (
    ("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"),
    ("text_a", "text_b"), ("text1", "text2"), ("query", "passage"), ("query", "document"), ("question", "answer"),
    ("question", "sentence"), ("question", "context"), ("question", "passage"), ("request", "text"),
)  # fmt: skip
"""First and second texts."""
_IDS = ("id", "idx", "index", "uid", "uuid", "guid", "key", "row")
_ROWS_A_LABEL = 2
"""Mean number of rows with the same label: with fewer, it is no set of labels."""
_WORDS_OF_A_TEXT = 2.0
_WORDS_OF_A_LABEL = 4.0
_SHARE_OF_A_LIST = 0.05
"""Different values ÷ cells, where people choose from a list."""
_DIFFERENT = 0.2
"""Share of the cells of a column of texts that differ, at least."""


def propose(columns: Sequence[ColumnProfile], said: Roles, guess: bool) -> tuple[Roles, list[Question]]:
    """What was said, with what follows; and questions where nothing follows.

    With `guess` the likeliest candidate is taken instead. Raises InvalidDataError for a column that is not there, or
    cannot be what it is said to be.
    """
    by_name = {column.name: column for column in columns}
    for role in ("text", "text_pair", "label"):
        name = getattr(said, role)
        if name is not None and name not in by_name:
            raise InvalidDataError(f"there is no column {name!r} for --{role.replace('_', '-')} ({_there(columns)})")
    label, about_label = _label(columns, said, guess)
    texts = [column for column in columns if column.name not in (label, said.text_pair)]
    text, about_text = _text(texts, said, guess)
    pair = said.text_pair or (None if said.text else _second(text, columns, label))
    separator = said.separator
    if separator is None and label is not None and by_name[label].separator and said.label is None:
        separator = by_name[label].separator
    roles = Roles(text=text, text_pair=pair, label=label, separator=separator)
    return roles, [question for question in (about_text, about_label) if question is not None]


def why_no_labels(column: ColumnProfile) -> str | None:
    """Why the column cannot be that of the labels; None if it can."""
    if column.kind == "empty":
        return "is empty"
    if column.kind == "other":
        return "holds objects or values that are no text"
    if column.distinct < 2:
        return f"has one value only ({column.examples[0]!r})" if column.examples else "has no value"
    if column.separator or column.kind == "lists":
        return None if column.distinct <= MOST_LABELS or column.separator else _too_many(column)
    if column.distinct == column.filled:
        return "has another value in every row, as an id or a text has"
    if column.distinct > MOST_LABELS:
        return _too_many(column)
    if column.filled < _ROWS_A_LABEL * column.distinct:
        return f"has {column.distinct:,} different values in {column.filled:,} rows, as free text or an id has"
    return None


def _too_many(column: ColumnProfile) -> str:
    return (
        f"has {column.distinct:,} different values in {column.filled:,} rows, more than the {MOST_LABELS:,} labels "
        "that are taken; it may be free text or an id, or rare values could be put together"
    )


def _text(columns: Sequence[ColumnProfile], said: Roles, guess: bool) -> tuple[str | None, Question | None]:
    if said.text is not None:
        found = next(column for column in columns if column.name == said.text)
        if found.kind not in ("text", "empty") or found.distinct < 2:
            what = "has one value only" if found.kind == "text" else "holds no texts"
            raise InvalidDataError(f"column {said.text!r} {what}; give the column of the texts with --text")
        return said.text, None
    likely = [column for column in columns if _is_text(column)]
    first = {one for one, two in _PAIRS if {one, two} <= {column.name.lower() for column in likely}}
    named = _named(likely, tuple(first)) or _named(likely, _TEXTS)
    chosen = likely if len(likely) == 1 else named if len(named) == 1 else []
    if chosen:
        return chosen[0].name, None
    ordered = [*named, *(column for column in sorted(likely, key=lambda each: -each.words) if column not in named)]
    if guess and ordered:
        return ordered[0].name, None
    if ordered:
        why = f"{len(ordered)} columns could hold the text"
    else:
        why = "no column looks like texts" + "".join(f"; {each.name!r} {_why_no_text(each)}" for each in columns)
    return None, Question(role="text", candidates=tuple(column.name for column in ordered), why=why)


def _label(columns: Sequence[ColumnProfile], said: Roles, guess: bool) -> tuple[str | None, Question | None]:
    if said.label is not None:
        found = next(column for column in columns if column.name == said.label)
        if said.separator is None and (why := why_no_labels(found)):
            raise InvalidDataError(f"column {said.label!r} {why}; give the column of the labels with --label")
        return said.label, None
    others = [column for column in columns if column.name not in (said.text, said.text_pair)]
    likely = [column for column in others if why_no_labels(column) is None and _is_label(column)]
    named = _named(likely, _LABELS)
    chosen = named if len(named) == 1 else likely if len(likely) == 1 else []
    if chosen:
        return chosen[0].name, None
    ordered = [*named, *(column for column in sorted(likely, key=lambda each: each.distinct) if column not in named)]
    if guess and ordered:
        return ordered[0].name, None
    if ordered:
        why = f"{len(ordered)} columns could hold the labels"
    else:
        why = "no column looks like labels" + "".join(f"; {each}" for each in _refused(others))
    return None, Question(role="label", candidates=tuple(column.name for column in ordered), why=why)


def _refused(columns: Sequence[ColumnProfile]) -> Iterator[str]:
    for column in columns:
        otherwise = "is called like an id" if _is_id(column) else "reads like texts"
        yield f"{column.name!r} {why_no_labels(column) or otherwise}"


def _second(text: str | None, columns: Sequence[ColumnProfile], label: str | None) -> str | None:
    """The column of second texts, where its name goes with that of the first."""
    if text is None:
        return None
    wanted = [two for one, two in _PAIRS if one == text.lower()]
    return next((c.name for c in columns if c.name.lower() in wanted and c.name != label and c.kind == "text"), None)


def _is_text(column: ColumnProfile) -> bool:
    if column.kind != "text" or column.numbers or _is_id(column) or column.distinct < 2:
        return False
    reads_so = column.words >= _WORDS_OF_A_TEXT and column.distinct >= _DIFFERENT * column.filled
    return reads_so or column.name.lower() in _TEXTS


def _is_label(column: ColumnProfile) -> bool:
    """Whether the values are short, or so few that they are chosen from a list."""
    few = column.distinct <= _SHARE_OF_A_LIST * column.filled
    return not _is_id(column) and (column.words <= _WORDS_OF_A_LABEL or few)


def _is_id(column: ColumnProfile) -> bool:
    name = column.name.lower()
    return name in _IDS or name.endswith(("_id", "_idx", "_uuid")) or name.startswith("unnamed:")


def _why_no_text(column: ColumnProfile) -> str:
    if column.kind != "text":
        return "is empty" if column.kind == "empty" else "holds no texts"
    if column.distinct < 2:
        return f"has the same value in every row ({column.examples[0]!r})"
    if column.numbers or _is_id(column):
        return "holds numbers or ids"
    return f"has {column.distinct:,} different values, of {column.words:g} words on average"


def _named(columns: Sequence[ColumnProfile], names: Sequence[str]) -> list[ColumnProfile]:
    return [column for column in columns if column.name.lower() in names]


def _there(columns: Sequence[ColumnProfile]) -> str:
    return "there: " + (", ".join(repr(column.name) for column in columns) or "none")

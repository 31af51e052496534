"""What only a person can tell: asked in a terminal; elsewhere an error says which options to give."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from kd_core.data.profiling.words import ColumnProfile, Question, Roles
from kd_core.runtime.errors import InvalidDataError, ParamsError

_NAMES = {"text": "the text", "text_pair": "the second text", "label": "the labels"}


def answered(questions: Sequence[Question], columns: Sequence[ColumnProfile], said: Roles, console: Console) -> Roles:
    """What was said, with a person's answers.

    Raises InvalidDataError where no column looks right and ParamsError where several do, if nobody can be asked.
    """
    if not is_terminal():
        _explain(questions)
    answers = {question.role: _asked(question, columns, console) for question in questions}
    return said.model_copy(update=answers)


def is_terminal() -> bool:
    """Whether somebody reads and types."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _explain(questions: Sequence[Question]) -> None:
    hopeless = [question for question in questions if not question.candidates]
    if hopeless:
        raise InvalidDataError("; ".join(f"{each.why}; name the column with {_option(each)}" for each in hopeless))
    wishes = " ".join(f"{_option(each)} {each.candidates[0]}" for each in questions)
    reasons = "; ".join(f"{each.why} ({', '.join(each.candidates)})" for each in questions)
    raise ParamsError(f"{reasons}: say which, for instance {wishes}; --yes takes this proposal")


def _asked(question: Question, columns: Sequence[ColumnProfile], console: Console) -> str:
    names = [*question.candidates, *(column.name for column in columns if column.name not in question.candidates)]
    console.print(f"{question.why}:", highlight=False, markup=False)
    for number, name in enumerate(names, start=1):
        examples = next(column.examples for column in columns if column.name == name)
        console.print(f"  {number}  {escape(name)}  [dim]{escape(' · '.join(examples[:2]))}[/]", highlight=False)
    proposal = f" \\[{escape(question.candidates[0])}]" if question.candidates else ""
    while True:
        said = console.input(f"Which column holds {_NAMES[question.role]}? name or number{proposal}: ").strip()
        if not said and question.candidates:
            return question.candidates[0]
        if said in names:
            return said
        if said.isdecimal() and 1 <= int(said) <= len(names):
            return names[int(said) - 1]


def _option(question: Question) -> str:
    return f"--{question.role.replace('_', '-')}"

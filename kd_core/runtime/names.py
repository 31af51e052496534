"""Names that become file names, stage names and words of commands; this module needs no library."""

from __future__ import annotations

import re

from kd_core.runtime.errors import ParamsError

NAME_PATTERN = r"^[a-z0-9_]+$"
"""Of names of teachers and recipes; nothing else is let in."""


def check_name(name: str, what: str) -> str:
    """`name` if it is safe to use in paths and commands; otherwise ParamsError."""
    if not re.fullmatch(NAME_PATTERN[1:-1], name):
        raise ParamsError(f"{what} {name!r}: only lower-case letters, digits and '_' are allowed in a name.")
    return name

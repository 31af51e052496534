"""How long texts may be for a model; both the start of a run and its stages go by it."""

from __future__ import annotations

from kd_core.runtime.errors import ParamsError


def check_positions(most: int | None, asked: int, where: str, remedy: str) -> None:
    """Raises ParamsError where texts of so many tokens are asked for and the model has fewer positions.

    :param most: tokens that the model has positions for; None: nothing limits it
    :param where: what asks for it, e.g. `teachers.large`
    :param remedy: what to set
    """
    if most is not None and asked > most:
        raise ParamsError(f"{where}: max_length {asked}, but the model has positions for {most} tokens; {remedy}")

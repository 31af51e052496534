"""Errors that a person can act on, each with the process exit status that tells a scheduler what to do."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit statuses of every stage and command; Airflow retries by them."""

    DONE = 0
    BUG = 1
    WRONG_PARAMS = 64
    INVALID_DATA = 65
    MISSING_OUTPUT = 70
    TRY_AGAIN = 75
    OUT_OF_MEMORY = 137
    TERMINATED = 143


class KDError(Exception):
    """An expected failure: the message names the file, row, key or teacher and says what to do."""

    exit_code: ExitCode = ExitCode.BUG


class ParamsError(KDError):
    """A parameter is unknown, missing or contradicts another; a retry cannot help."""

    exit_code = ExitCode.WRONG_PARAMS


class InvalidDataError(KDError):
    """Input data, a teacher's folder or a score table is not what it must be; a retry cannot help."""

    exit_code = ExitCode.INVALID_DATA


class MissingOutputError(KDError):
    """A stage ended well but did not write an output that it declares."""

    exit_code = ExitCode.MISSING_OUTPUT


class TryAgainError(KDError):
    """Something outside is not there yet or failed for now: storage, an upstream stage, a full disk."""

    exit_code = ExitCode.TRY_AGAIN

"""Errors that a person can act on, each with the process exit status that tells a scheduler what to do."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterator
from enum import IntEnum

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_STORE_CLIENTS = {"boto3", "botocore", "aiobotocore", "aiohttp"}
"""Packages whose every error says that the object store did not answer, or refused."""

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust (safetensors, tokenizers) tell the errno in exceptions that are no OSError."""


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


class MemoryExhaustedError(KDError):
    """The process, or its GPU, has too little memory; a retry on the same machine cannot help."""

    exit_code = ExitCode.OUT_OF_MEMORY


def report_error(error: Exception) -> int:
    """Tell a person on standard error what failed; the exit status. What is a bug is raised again."""
    known = error if isinstance(error, KDError) else outside_failure(error)
    if known is None:
        raise error
    print(f"error: {known}", file=sys.stderr)
    return int(known.exit_code)


def outside_failure(error: BaseException) -> KDError | None:
    """What a person can do about `error`, if disk, store, network or memory is behind it; None if it is a bug."""
    if isinstance(error, KDError):
        return None
    return next((known for each in _causes(error) if (known := _explained(each)) is not None), None)


def _explained(error: BaseException) -> KDError | None:
    number = _errno(error)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or _is_out_of_memory(error):
        return MemoryExhaustedError(f"out of memory ({error}); lower batch_tokens or use a larger machine")
    if number in _FULL:
        return TryAgainError(f"{error}: free space, then run again")
    if number in _REFUSED or isinstance(error, PermissionError):
        return TryAgainError(f"{error}: make the folder or bucket readable and writable, then run again")
    modules = {kind.__module__.split(".")[0] for kind in type(error).__mro__}
    if isinstance(error, (ConnectionError, TimeoutError)) or modules & _STORE_CLIENTS:
        return TryAgainError(f"{error}: check the store, its address, the credentials and the network, then run again")
    return None


def _errno(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = _OS_ERROR.search(str(error))
    return int(found[1]) if found else None


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch raised it for want of memory; by name, since torch is not imported here."""
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)

"""How an operation's process starts and ends: a stop is an exception, an expected failure one line and its status."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable
from types import FrameType

from kd_core.runtime.errors import KDError, ParamsError, TryAgainError, outside_failure
from kd_ops.base.outages import mlflow_unavailable
from kd_ops.base.redaction import redact

_PLACES = " (places: KD_HOME, KD_CACHE_DIR, KD_STORE_URI, KD_RUNS_URI)"


def stop_on_signals() -> None:
    """Turn SIGTERM into SystemExit(143), so that `finally` blocks run; SIGINT is KeyboardInterrupt already."""
    signal.signal(signal.SIGTERM, _stop)


def collect_rarely() -> None:
    """Look for garbage less often, for processes that spend most of their few seconds on importing.

    Imports make many objects and hardly any garbage: with Python's own limits a tenth of their time is lost on looking.
    """
    gc.set_threshold(100_000, 20, 20)


def expected(error: BaseException) -> KDError | None:
    """What a person can do about `error`: a failure of ours as it is, or what an outage means; None for a bug."""
    if isinstance(error, KDError):
        return error
    if mlflow_unavailable(error):  # before the rest: a refused connection in its chain is not the store's
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        return TryAgainError(f"MLflow or its database does not answer; run it again when it does: {said}")
    if isinstance(error, NotADirectoryError):
        return ParamsError(f"{error}: part of this path is a file; correct the address{_PLACES}")
    known = outside_failure(error)
    return TryAgainError(f"{known}{_PLACES}") if isinstance(known, TryAgainError) else known


def say(text: str) -> None:
    """One line on standard error, as schedulers' logs are searched for it."""
    print(f"error: {text}", file=sys.stderr)


def ended(work: Callable[[], int | None], tell: Callable[[str], None] = say) -> int:
    """Do `work`; its exit status, after `tell` has said what failed. A bug is raised, and so is SystemExit."""
    try:
        return work() or 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        if (known := expected(error)) is None:
            raise
        tell(redact(str(known)))
        return int(getattr(known, "status", known.exit_code))


def main_process(main: Callable[[], int | None]) -> None:
    """Run `main` as this process's job and exit with its status."""
    collect_rarely()
    stop_on_signals()
    if status := ended(main):
        raise SystemExit(status)


def _stop(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)

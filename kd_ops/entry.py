"""How an operation's process starts and ends: a stop is an exception, an expected failure one line and its status."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

from kd_core.runtime.errors import ExitCode, KDError
from kd_ops.registry import mlflow_unavailable
from kd_ops.tracked_values import redact


def stop_on_signals() -> None:
    """Turn SIGTERM into SystemExit(143), so that `finally` blocks run; SIGINT is KeyboardInterrupt already."""
    signal.signal(signal.SIGTERM, _stop)


def main_process(main: Callable[[], None]) -> None:
    """Run `main` as this process's job."""
    stop_on_signals()
    try:
        main()
    except KDError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(int(error.exit_code)) from None
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        if not mlflow_unavailable(error):
            raise
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(
            f"error: MLflow or its database does not answer; run it again when it does: {redact(said)}", file=sys.stderr
        )
        raise SystemExit(int(ExitCode.TRY_AGAIN)) from None


def _stop(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)

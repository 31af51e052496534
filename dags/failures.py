"""One exception class for each exit status of a task's process, and Airflow's reaction to it.

Airflow's retry rules match exception classes, so each status becomes a class.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Context, ExceptionRetryPolicy, RetryAction, RetryDecision, RetryRule


class ProcessFailed(Exception):  # noqa: N818 -- reads as the event that it is
    """A task's process ended with a status that is not listed below: a bug."""


class WrongParams(ProcessFailed):
    """64: the parameters are wrong."""


class InvalidData(ProcessFailed):
    """65: the data or a teacher is invalid."""


class MissingOutput(ProcessFailed):
    """70: a declared output was not written."""


class TryAgain(ProcessFailed):
    """75: an external service or an input was not ready."""


class OutOfMemory(ProcessFailed):
    """137: killed for lack of memory or because the machine was needed, or out of memory without a kill."""


class MoreMemory(OutOfMemory):
    """137, and the next try gets a larger profile."""


class Terminated(ProcessFailed):
    """143: told to stop; the next try resumes."""


BY_STATUS: dict[int, type[ProcessFailed]] = {
    64: WrongParams,
    65: InvalidData,
    70: MissingOutput,
    75: TryAgain,
    137: OutOfMemory,
    143: Terminated,
}

RETRIES = 3


class StatusRetryPolicy(ExceptionRetryPolicy):  # type: ignore[misc]  # Airflow is not followed
    """The rules below, and one that counts tries: a first try that was killed is repeated, since it may resume.

    The status does not distinguish an eviction from a stage that needs more memory than there is. After an eviction the
    second try succeeds; for lack of memory it fails again, and a third try would be useless.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Airflow's reaction to the failure of this try, counted from 1."""
        larger = isinstance(exception, MoreMemory)
        if isinstance(exception, OutOfMemory) and not larger and try_number > 1:
            return RetryDecision.fail("killed after the first try too: give the task a machine with more memory")
        return super().evaluate(exception, try_number, max_tries, context)


RETRY_POLICY = StatusRetryPolicy(
    rules=[
        RetryRule(WrongParams, RetryAction.FAIL, reason="the same parameters would fail again"),
        RetryRule(InvalidData, RetryAction.FAIL, reason="the same data would fail again"),
        RetryRule(MissingOutput, RetryAction.FAIL, reason="the same code would fail again"),
        RetryRule(TryAgain, RetryAction.RETRY, retry_delay=timedelta(seconds=60), reason="wait for the outside"),
        RetryRule(MoreMemory, RetryAction.RETRY, retry_delay=timedelta(seconds=5), reason="resumes with more memory"),
        RetryRule(
            OutOfMemory, RetryAction.RETRY, retry_delay=timedelta(seconds=60), reason="resumes, if it was evicted"
        ),
        RetryRule(Terminated, RetryAction.RETRY, retry_delay=timedelta(seconds=5), reason="resumes at its checkpoint"),
        RetryRule(ProcessFailed, RetryAction.FAIL, match_subclasses=False, reason="a bug: see the task's log"),
    ]
)


def failure(status: int, command: str) -> ProcessFailed:
    """The exception for a process that ended with `status` (not 0)."""
    return BY_STATUS.get(status, ProcessFailed)(f"{command} ended with status {status}; its message stands above")

"""The operators of a DAG: each starts one process of kd_ops beside the Airflow worker."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from dags.failures import RETRIES, RETRY_POLICY, WrongParams, failure

PROJECT = Path(__file__).resolve().parent.parent
GRACE_SECONDS = 60.0

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

TASK_DEFAULTS: dict[str, Any] = {
    "owner": "kd-pipelines",
    "retries": RETRIES,
    "retry_policy": RETRY_POLICY,
}


def interpreter() -> str:
    """The Python that has requirements.lock: KD_PYTHON names it where Airflow's own does not."""
    return os.environ.get("KD_PYTHON") or sys.executable


class ProcessOperator(BaseOperator):  # type: ignore[misc]  # Airflow is not followed: its imports are heavy
    """Runs `python -m MODULE ARGUMENTS…` in the project's folder; its output goes to the task's log.

    :param module: a module of kd_ops
    """

    def __init__(self, *, module: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.module = module
        self._process: subprocess.Popen[str] | None = None

    def run_process(self, arguments: Sequence[str]) -> None:
        """Run the module with these words and copy its output to the log.

        No shell sees the words. Raises the failure class of an exit status other than 0, WrongParams without a Python.
        """
        command = [interpreter(), "-m", self.module, *arguments]
        try:
            self._process = subprocess.Popen(
                command,
                cwd=PROJECT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                preexec_fn=_stop_with_parent,
            )
        except OSError as error:
            raise WrongParams(f"{command[0]} (KD_PYTHON) cannot be started: {error.strerror}") from None
        for line in self._process.stdout or ():
            self.log.info("%s", line.rstrip())
        status = self._process.wait()
        status = 128 - status if status < 0 else status
        if status:
            raise failure(status, " ".join(command[1:]))

    def on_kill(self) -> None:
        """Pass the stop on and wait for the checkpoint that follows it."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()


class ResolveOperator(ProcessOperator):
    """Runs kd_ops.resolving.resolve; pushes the run's folder as XCom `run_uri` and returns one record a teacher.

    Airflow maps tasks over a return value only, hence the records: {teacher, pretraining, reference}.

    :param recipe: name of a file in recipes/, without its ending
    """

    def __init__(self, *, recipe: str, **kwargs: Any) -> None:
        super().__init__(module="kd_ops.resolving.resolve", **kwargs)
        self.recipe = recipe

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """The records."""
        with tempfile.TemporaryDirectory(prefix="kd-resolve-") as folder:
            path = Path(folder, "answer.json")  # what libraries print, to whichever stream, is no part of it
            self.run_process([*self._request(context), "--answer", str(path)])
            answer = json.loads(path.read_text(encoding="utf-8"))
        self.log.info("run %s", answer["run_uri"])
        context["ti"].xcom_push(key="run_uri", value=answer["run_uri"])
        return [
            {
                "teacher": name,
                "pretraining": name in answer["pretraining_teachers"],
                "reference": name in answer["reference_teachers"],
            }
            for name in answer["teachers"]
        ]

    def _request(self, context: Context) -> list[str]:
        params = context["params"]
        revision = ["--revision", params["revision"]] if params["revision"] else []
        variants = [word for variant in params["variants"] for word in ("--variant", variant)]
        overrides = [word for override in params["overrides"] for word in ("--set", override)]
        run = params["run"] or context["run_id"]
        return ["--recipe", self.recipe, "--run", run, *revision, *variants, *overrides]


def _stop_with_parent() -> None:
    """Have the kernel stop this process when the task's ends, even if that is killed: a retry must be alone.

    SIGTERM, so that a checkpoint is written. (kd_ops has the like for its own children; no DAG file may import it.)
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class RunOperator(ProcessOperator):
    """Runs a module of kd_ops on a run that `resolve` started.

    :param run_uri: the run's folder, as `resolve` returned it
    """

    template_fields: Sequence[str] = ("run_uri",)

    def __init__(self, *, run_uri: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run_uri = run_uri

    def words(self) -> list[str]:
        """What follows the run's folder on the command line."""
        return []

    def execute(self, context: Context) -> None:
        """Run the process to its end; without a run the task is skipped."""
        if not self.run_uri:
            raise AirflowSkipException("there is no run: resolve did not finish")
        self.run_process(["--run", self.run_uri, *self.words()])


class StageOperator(RunOperator):
    """Runs one stage of dvc.yaml through the bridge.

    :param stage: the stage's name before any `@`
    :param item: the matrix item: a data role or a teacher's name
    """

    template_fields: Sequence[str] = ("item", "run_uri")

    def __init__(self, *, stage: str, item: Any = "", **kwargs: Any) -> None:
        super().__init__(module="kd_ops.bridge", **kwargs)
        self.stage = stage
        self.item = item

    def words(self) -> list[str]:
        """The stage as dvc.yaml names it."""
        return [f"{self.stage}@{self.item}" if self.item else self.stage]

"""The tasks of a DAG in every runner: the module of kd_ops, its arguments, and the use of its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

SETTLED = "settled"
"""The XCom in which a task names the later tasks whose work it has already done."""


class Task(BaseOperator):  # type: ignore[misc]  # Airflow is not followed: its imports are heavy
    """Runs `python -m MODULE WORDS…`.

    :param module: a module of kd_ops
    """

    answers = False
    """Whether the module writes a JSON document to the file that `--answer` names."""

    def __init__(self, *, module: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.module = module

    def words(self, context: Context) -> list[str]:
        """The arguments after the module on the command line."""
        return []

    def done(self, context: Context, answer: dict[str, Any]) -> Any:
        """The result of the task after the process has succeeded.

        :param answer: the document that the module wrote; empty if it writes none
        """
        return None


class ResolveTask(Task):
    """Starts a run; pushes its folder and the stages that need no process as XComs `run_uri` and `settled`, and returns
    one record for each teacher.

    The records {teacher, pretraining, reference} are the return value because Airflow maps tasks over that only.

    :param recipe: name of a file in recipes/, without its ending
    """

    answers = True

    def __init__(self, *, recipe: str, **kwargs: Any) -> None:
        super().__init__(module="kd_ops.resolving.resolve", **kwargs)
        self.recipe = recipe

    def words(self, context: Context) -> list[str]:
        """The request, from the params of the DAG run."""
        params = context["params"]
        revision = ["--revision", params["revision"]] if params["revision"] else []
        variants = [word for variant in params["variants"] for word in ("--variant", variant)]
        overrides = [word for override in params["overrides"] for word in ("--set", override)]
        run = params["run"] or context["run_id"]
        return ["--recipe", self.recipe, "--run", run, *revision, *variants, *overrides]

    def done(self, context: Context, answer: dict[str, Any]) -> list[dict[str, Any]]:
        """The records."""
        self.log.info("run %s", answer["run_uri"])
        context["ti"].xcom_push(key="run_uri", value=answer["run_uri"])
        context["ti"].xcom_push(key=SETTLED, value=answer.get("settled", []))
        return [
            {
                "teacher": name,
                "pretraining": name in answer["pretraining_teachers"],
                "reference": name in answer["reference_teachers"],
            }
            for name in answer["teachers"]
        ]


class RunTask(Task):
    """Runs a module of kd_ops on a run that `resolve` started, unless an earlier task has done this task's work.

    :param run_uri: the run's folder, from `resolve`
    :param settled_by: the task that may have done the work already, which it then names in its XCom `settled`
    """

    template_fields: Sequence[str] = ("run_uri",)

    def __init__(self, *, run_uri: Any, settled_by: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run_uri = run_uri
        self.settled_by = settled_by

    def work(self) -> str:
        """The name of the task's work in `settled`."""
        return str(self.task_id)

    def words(self, context: Context) -> list[str]:
        """The arguments that name the run; without a run the task is skipped."""
        if not self.run_uri:
            raise AirflowSkipException("there is no run: resolve did not finish")
        return ["--run", self.run_uri]

    def execute(self, context: Context) -> Any:
        """Let the runner do the work, unless it is already done."""
        if self._is_settled(context):
            self.log.info("%s: nothing is left to do, says task %s", self.work(), self.settled_by)
            return None
        return super().execute(context)

    def _is_settled(self, context: Context) -> bool:
        """Whether the work is done. Never in a second try: whoever repeats or clears a task wants its process."""
        task = context["ti"]
        if self.settled_by is None or not self.run_uri or task.try_number > 1:
            return False
        return self.work() in (task.xcom_pull(task_ids=self.settled_by, key=SETTLED) or [])


class TrackTask(RunTask):
    """Tracks a run; pushes the names of the later tasks whose work it did as XCom `settled`."""

    answers = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(module="kd_ops.promotion.close", **kwargs)

    def done(self, context: Context, answer: dict[str, Any]) -> None:
        """Push the answer; nothing is returned."""
        context["ti"].xcom_push(key=SETTLED, value=answer["settled"])


class StageTask(RunTask):
    """Runs one stage of dvc.yaml through the bridge.

    :param stage: the stage's name before any `@`
    :param item: the matrix item: a data role or a teacher's name
    """

    template_fields: Sequence[str] = ("item", "run_uri")

    def __init__(self, *, stage: str, item: Any = "", **kwargs: Any) -> None:
        super().__init__(module="kd_ops.bridge", settled_by="resolve", **kwargs)
        self.stage = stage
        self.item = item

    def work(self) -> str:
        """The stage's name in dvc.yaml."""
        return f"{self.stage}@{self.item}" if self.item else self.stage

    def words(self, context: Context) -> list[str]:
        """The arguments that name the run and the stage."""
        return [*super().words(context), self.work()]

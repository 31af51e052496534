"""What a DAG's tasks ask of kd_ops, whichever runner takes them: the module, its words, what becomes of its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException


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
        """What follows the module on the command line."""
        return []

    def done(self, context: Context, answer: dict[str, Any]) -> Any:
        """What the task returns when the process has ended well.

        :param answer: what the module wrote; empty where it writes none
        """
        return None


class ResolveTask(Task):
    """Starts a run; pushes its folder as XCom `run_uri` and returns one record a teacher.

    Airflow maps tasks over a return value only, hence the records: {teacher, pretraining, reference}.

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
        return [
            {
                "teacher": name,
                "pretraining": name in answer["pretraining_teachers"],
                "reference": name in answer["reference_teachers"],
            }
            for name in answer["teachers"]
        ]


class RunTask(Task):
    """Runs a module of kd_ops on a run that `resolve` started.

    :param run_uri: the run's folder, as `resolve` returned it
    """

    template_fields: Sequence[str] = ("run_uri",)

    def __init__(self, *, run_uri: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run_uri = run_uri

    def words(self, context: Context) -> list[str]:
        """The run; without one the task is skipped."""
        if not self.run_uri:
            raise AirflowSkipException("there is no run: resolve did not finish")
        return ["--run", self.run_uri]


class StageTask(RunTask):
    """Runs one stage of dvc.yaml through the bridge.

    :param stage: the stage's name before any `@`
    :param item: the matrix item: a data role or a teacher's name
    """

    template_fields: Sequence[str] = ("item", "run_uri")

    def __init__(self, *, stage: str, item: Any = "", **kwargs: Any) -> None:
        super().__init__(module="kd_ops.bridge", **kwargs)
        self.stage = stage
        self.item = item

    def words(self, context: Context) -> list[str]:
        """The run, and the stage as dvc.yaml names it."""
        return [*super().words(context), f"{self.stage}@{self.item}" if self.item else self.stage]

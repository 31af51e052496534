"""One DAG for each recipe: the stages of dvc.yaml as tasks, then tracking, registration and promotion.

The first task, `resolve`, turns everything mutable into immutable ids and names the teachers; teacher stages are
mapped over its answer. Tests compare tasks and edges with dvc.yaml.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from airflow.sdk import DAG, Param, TriggerRule, chain
from airflow.sdk.exceptions import AirflowSkipException

from dags.runners import TASK_DEFAULTS, operator

ROLES = ["pretraining", "reference"]
SCHEDULES = Path(__file__).with_name("schedules.yaml")
RECIPES = Path(__file__).parent.parent / "recipes"
RUN_URI = "{{ ti.xcom_pull(task_ids='resolve', key='run_uri') or '' }}"

PARAMS = {
    "variants": Param(
        [],
        type="array",
        items={"type": "string", "pattern": r"^[a-z0-9_]+$"},
        title="Variants",
        description="Files in recipes/variants/, laid over the recipe in this order, as in `kd run --variant`.",
    ),
    "overrides": Param(
        [],
        type="array",
        items={"type": "string", "pattern": r"^[A-Za-z0-9_.]+=.*$"},
        title="Overrides",
        description="key=value, one a line, over params.yaml and the recipe, as in `kd run -S`.",
    ),
    "revision": Param(
        None,
        type=["null", "string"],
        pattern=r"^[A-Za-z0-9._/-]+$",
        title="Data revision",
        description="Revision of the data sets; empty: as the recipe says.",
    ),
    "run": Param(
        None,
        type=["null", "string"],
        pattern=r"^[A-Za-z0-9._-]+$",
        title="Run name",
        description="Folder of the run; empty: made from Airflow's run id.",
    ),
}


def build(recipe: str, schedule: str | None) -> DAG:
    """The DAG of a recipe.

    :param recipe: name of a file in recipes/, without its ending
    :param schedule: cron expression, or None for runs on demand
    """
    with DAG(
        dag_id=f"distill__{recipe}",
        description=f"Distil the teachers of recipe {recipe} into one student, prove it, register it",
        doc_md=__doc__,
        schedule=schedule,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        tags=["kd-pipelines", recipe],
        params=PARAMS,
        default_args=TASK_DEFAULTS,
    ) as dag:
        kind, placed = operator("ResolveOperator", "resolve")
        resolve = kind(recipe=recipe, **placed)
        stages = _stages(resolve)
        kind, placed = operator("TrackOperator", "track")
        track = kind(run_uri=RUN_URI, trigger_rule=TriggerRule.ALL_DONE, **placed)
        register = _closing("register", "kd_ops.registering.register")
        promote = _closing("promote", "kd_ops.promotion.promote")
        list(stages.values()) >> track
        [track, stages["report"]] >> register >> promote
    return dag


def _teacher(record: dict[str, Any]) -> str:
    return str(record["teacher"])


def _pretraining_teacher(record: dict[str, Any]) -> str:
    if not record["pretraining"]:
        raise AirflowSkipException
    return str(record["teacher"])


def _reference_teacher(record: dict[str, Any]) -> str:
    if not record["reference"]:
        raise AirflowSkipException
    return str(record["teacher"])


def _closing(task_id: str, module: str) -> Any:
    kind, placed = operator("RunOperator", task_id)
    return kind(module=module, run_uri=RUN_URI, settled_by="track", **placed)


def _stages(resolve: Any) -> dict[str, Any]:
    def single(stage: str) -> Any:
        kind, placed = operator("StageOperator", stage)
        return kind(stage=stage, run_uri=RUN_URI, trigger_rule=TriggerRule.NONE_FAILED, **placed)

    def mapped(stage: str, items: Any) -> Any:
        kind, placed = operator("StageOperator", stage)
        return kind.partial(
            stage=stage,
            run_uri=RUN_URI,
            trigger_rule=TriggerRule.NONE_FAILED,
            map_index_template="{{ task.item }}",
            **placed,
        ).expand(item=items)

    teachers = resolve.output
    tasks = {
        "ingest": mapped("ingest", ROLES),
        "validate": mapped("validate", ROLES),
        "teach": mapped("teach", teachers.map(_teacher)),
        "score_pretraining": mapped("score_pretraining", teachers.map(_pretraining_teacher)),
        "score_reference": mapped("score_reference", teachers.map(_reference_teacher)),
        **{name: single(name) for name in ("pretrain", "update", "finetune", "self_distill", "baseline", "export")},
        **{name: single(name) for name in ("evaluate", "measure", "report")},
    }
    _connect(resolve, tasks)
    return tasks


def _connect(resolve: Any, tasks: dict[str, Any]) -> None:
    """Add the edges of dvc.yaml, and one more so that no other stage of the run disturbs the timing."""
    chain(resolve, tasks["ingest"], tasks["validate"], tasks["teach"])
    scores = [tasks["score_pretraining"], tasks["score_reference"]]
    [tasks["teach"], tasks["validate"]] >> tasks["score_pretraining"] >> tasks["pretrain"]
    [tasks["teach"], tasks["validate"]] >> tasks["score_reference"] >> tasks["finetune"]
    chain(tasks["pretrain"], tasks["update"], tasks["finetune"], tasks["self_distill"], tasks["export"])
    tasks["validate"] >> tasks["baseline"]
    for name in ("pretrain", "finetune", "self_distill", "export", "evaluate", "measure", "report"):
        tasks["validate"] >> tasks[name]
    for name in ("pretrain", "evaluate", "measure", "report"):
        tasks["teach"] >> tasks[name]
    [tasks["export"], tasks["baseline"]] >> tasks["evaluate"]
    tasks["export"] >> tasks["measure"]
    # measure needs no output of evaluate and waits only for an undisturbed timing.
    tasks["evaluate"] >> tasks["measure"]
    [tasks[name] for name in ("evaluate", "measure", "pretrain", "finetune", "self_distill", "export")] >> tasks[
        "report"
    ]
    resolve >> scores


def _schedules() -> dict[str, str | None]:
    chosen = yaml.safe_load(SCHEDULES.read_text(encoding="utf-8")) or {}
    return {path.stem: chosen.get(path.stem) for path in sorted(RECIPES.glob("*.yaml"))}


for _recipe, _schedule in _schedules().items():
    globals()[f"distill__{_recipe}"] = build(_recipe, _schedule)

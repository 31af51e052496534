"""The arms of a comparison: variants of the pipeline with their own overrides, what each answers to the test rows.

An arm is written `NAME[+NAME…][:KEY=VALUE[;KEY=VALUE…]]`: names of recipes/variants/, laid over one another, and
params. Some names are no variants: `tfidf` and `frozen` (a regression on the states of the student's base), which the
baseline stage fits and which stand alone; and `m_o_m`, as many students as there are teachers, each taught by one
(`one_o_one`), their probabilities averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.predictions import Predictions, predict
from benchmarks.workbench import Run, Workbench
from kd_core.config.data import TaskParams
from kd_core.runtime.errors import ParamsError
from kd_ops.base.settings import PROJECT
from kd_ops.resolving.merge import variant_path

TFIDF, FROZEN, ENSEMBLE = "tfidf", "frozen", "m_o_m"
FITTED = (TFIDF, FROZEN)
"""Models of the baseline stage, by the names of their folders."""
SEEDED = ("student", "pretrain.optimisation", "finetune.optimisation", "self_distill.optimisation")
"""Sections whose seed is an arm's; teachers and the choice of labelled rows are shared by all seeds."""

TEST, RECORD = "data/checked/reference/test.parquet", "data/checked/reference/dataset.json"
TRAINING = ("pretrain", "update", "finetune")


@dataclass(frozen=True)
class Arm:
    """One line of the table."""

    name: str
    """As written."""
    variants: tuple[str, ...]
    overrides: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Arm:
        """Raises ParamsError for an unknown variant, or overrides without a key."""
        names, _, values = text.partition(":")
        variants = tuple(names.split("+"))
        overrides = tuple(values.split(";")) if values else ()
        for variant in variants:
            if variant not in (*FITTED, ENSEMBLE):
                variant_path(variant, PROJECT)
        for variant in variants:
            if len(variants) > 1 and variant in FITTED:
                raise ParamsError(f"{text}: {variant} stands alone")
        return cls(text, variants, overrides)

    @property
    def seeded(self) -> bool:
        """Whether its answers depend on the seed."""
        return self.variants[0] not in FITTED


@dataclass(frozen=True)
class Setting:
    """What all arms of one table share."""

    bench: Workbench
    recipe: Path
    overrides: tuple[str, ...]

    def run(self, arm: Arm, seed: int | None, targets: Sequence[str], *more: str) -> Run:
        """The arm's run of the pipeline; the user's overrides lie over everything but the arm's own."""
        seeds = () if seed is None else tuple(f"{section}.seed={seed}" for section in SEEDED)
        variants = [name for name in arm.variants if name not in (*FITTED, ENSEMBLE)]
        return self.bench.run(self.recipe, [*self.overrides, *seeds, *more, *arm.overrides], variants, targets)


@dataclass(frozen=True)
class Answer:
    """What an arm, with one seed, answers to the test rows, and what it cost."""

    probabilities: np.ndarray
    """[N, C]"""
    training_seconds: float
    """Of the student's stages, when they were computed; teachers and their scores are shared and not in it."""
    students: int
    """Forward passes of a student that one text costs."""
    files: tuple[str, ...]
    """Parquet files of the probabilities."""


def answer(setting: Setting, arm: Arm, seed: int) -> Answer:
    """Compute, or find, what `arm` answers."""
    if arm.variants[0] in FITTED:
        # The stage fits the student alone as well, which has an arm of its own: here one epoch of it is enough.
        run = setting.run(
            arm, None, ["baseline"], "baseline.optimisation.epochs=1", "baseline.optimisation.patience=null"
        )
        found = predict(run, f"models/{arm.variants[0]}", TEST, setting.bench)
        return Answer(found.probabilities, 0.0, 0, (found.file,))
    if ENSEMBLE in arm.variants:
        return _ensemble(setting, arm, seed)
    run = setting.run(arm, seed, ["finetune"])
    found = predict(run, "models/finetune", TEST, setting.bench)
    return Answer(found.probabilities, run.seconds(*TRAINING), 1, (found.file,))


def _ensemble(setting: Setting, arm: Arm, seed: int) -> Answer:
    one = Arm(arm.name, ("one_o_one", *(name for name in arm.variants if name != ENSEMBLE)), arm.overrides)
    teachers = setting.run(Arm("tmkd", ("tmkd",), arm.overrides), seed, []).params["finetune"]["teachers"]
    parts: list[Predictions] = []
    seconds = 0.0
    for name in teachers:
        run = setting.run(one, seed, ["finetune"], f"finetune.teachers=[{name}]")
        parts.append(predict(run, "models/finetune", TEST, setting.bench))
        seconds += run.seconds(*TRAINING)
    mean = np.mean([part.probabilities for part in parts], axis=0)
    return Answer(mean, seconds, len(parts), tuple(part.file for part in parts))


def teachers(setting: Setting) -> dict[str, Predictions]:
    """What the teachers of the reference task answer."""
    run = setting.run(Arm("tmkd", ("tmkd",), ()), None, ["teach"])
    names = [name for name, values in run.params["teachers"].items() if values["data"] == "reference"]
    return {name: predict(run, f"teachers/{name}", TEST, setting.bench) for name in names}


def rows_of(setting: Setting) -> tuple[pd.DataFrame, TaskParams, Run]:
    """The labelled test rows, the task, and the run that brought the data."""
    from kd_core.rows import read_rows

    run = setting.run(Arm("tmkd", ("tmkd",), ()), None, ["validate"])
    rows = read_rows(run.path(TEST))
    task = TaskParams.model_validate(run.params["data"]["reference"]["task"])
    return rows[rows["label"].notna()].reset_index(drop=True), task, run

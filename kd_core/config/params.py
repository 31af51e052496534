"""The whole of params.yaml, merged and validated once at the start of a run."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from kd_core.config.base import Name, Section
from kd_core.config.data import DataParams
from kd_core.config.evaluation import (
    BaselineParams,
    EvaluateParams,
    ExportParams,
    GateParams,
    MeasureParams,
    RegistryParams,
)
from kd_core.config.rules import has_pairs
from kd_core.config.student import StudentParams
from kd_core.config.teachers import TeacherParams
from kd_core.config.training import FinetuneParams, PretrainParams, SelfDistillParams

RESERVED_NAMES = {"none": "no live teacher", "gold": "the decoder of the gold labels", "first": "the first of a list"}
"""Names that no teacher may have, and what they stand for."""


class DataSets(Section):
    """Stage one's and stage two's data."""

    pretraining: DataParams
    reference: DataParams


class Params(Section):
    """All parameters of a run."""

    recipe: Name
    """Name of the recipe, as its file is called."""
    data: DataSets
    teachers: dict[Name, TeacherParams]
    """The teachers by names of your choice; those that no stage names are not trained."""
    student: StudentParams
    pretrain: PretrainParams
    finetune: FinetuneParams
    self_distill: SelfDistillParams
    baseline: BaselineParams
    export: ExportParams = ExportParams()
    evaluate: EvaluateParams = EvaluateParams()
    measure: MeasureParams = MeasureParams()
    gate: GateParams
    registry: RegistryParams
    resolved: dict[str, Any] = {}
    """Immutable ids that `resolve` found; written by it, never by hand."""

    @model_validator(mode="before")
    @classmethod
    def _registered_under_its_own_name(cls, values: Any) -> Any:
        """A recipe that names no registered model has one of its own: a copied recipe touches no other's champion."""
        if not isinstance(values, dict) or not isinstance(values.get("registry") or {}, dict):
            return values
        return {**values, "registry": {"name": f"kd-{values.get('recipe')}", **(values.get("registry") or {})}}

    @model_validator(mode="after")
    def _teachers_are_declared(self) -> Params:
        if self.data.reference.task is None:
            raise ValueError("data.reference.task: the reference data set needs a task")
        if not self.teachers:
            raise ValueError("teachers: declare at least one; the evaluation compares the student with it")
        named = {"pretrain.teachers": self.pretrain.teachers, "finetune.teachers": self.finetune.teachers}
        if self.pretrain.live_teacher != "none":
            named["pretrain.live_teacher"] = (self.pretrain.live_teacher,)
        for key, names in named.items():
            for name in names:
                if name not in self.teachers:
                    raise ValueError(f"{key}: no teacher {name!r} under teachers (there: {', '.join(self.teachers)})")
        for name in self.finetune.teachers:
            if self.teachers[name].data != "reference":
                raise ValueError(f"finetune.teachers: {name!r} belongs to the pre-training data set")
        for name, teacher in self.teachers.items():
            if name in RESERVED_NAMES:
                raise ValueError(
                    f"teachers.{name}: {name!r} is reserved for {RESERVED_NAMES[name]}; rename the teacher"
                )
            if teacher.data == "pretraining" and self.data.pretraining.task is None:
                raise ValueError(f"teachers.{name}.data: the pre-training data set has no task")
        return self

    @model_validator(mode="after")
    def _attention_needs_layers(self) -> Params:
        if self.student.layers == 0 and self.pretrain.live_teacher != "none":
            raise ValueError(
                f"pretrain.live_teacher: {self.pretrain.live_teacher!r}, but a student with layers: 0 has no attention "
                "to distil into; set it to none, or student.layers to more"
            )
        return self

    @model_validator(mode="after")
    def _pairs_need_layers(self) -> Params:
        roles = {"reference": self.data.reference.task, "pretraining": self.data.pretraining.task}
        pairs = [role for role, task in roles.items() if task is not None and task.pair]
        if self.student.layers == 0 and pairs:
            raise ValueError(
                f"student.layers: 0, but data.{pairs[0]}.task asks of pairs: the mean of the tokens of two texts does "
                "not tell how they belong together; set student.layers to more"
            )
        return self

    @model_validator(mode="after")
    def _second_texts_are_there(self) -> Params:
        """Stage one's texts are pairs if its own task says so, without one if stage two's does."""
        data = self.data
        for role, own in (("reference", data.reference), ("pretraining", data.pretraining)):
            task = own.task or data.reference.task
            if task is not None and task.pair and not has_pairs(own):
                how = (
                    "take dataset: pairs"
                    if own.source.kind == "botocore"
                    else f"name the column of the second texts in data.{role}.source.columns.text_pair"
                )
                raise ValueError(f"data.{role}.source: the task is one of pairs; {how}")
        return self

    @model_validator(mode="after")
    def _fitted_weights_are_used(self) -> Params:
        if self.student.combine == "gold" and self.finetune.decoder_weights == "fitted":
            raise ValueError("finetune.decoder_weights: fitted, but student.combine: gold asks one decoder alone")
        return self

    @model_validator(mode="after")
    def _teachers_read_what_the_student_reads(self) -> Params:
        """Stage one's texts are pairs if its own task says so, without one if stage two's does."""
        data, kinds = self.data, {True: "pairs", False: "single texts"}
        tasks = {"pretraining": data.pretraining.task or data.reference.task, "reference": data.reference.task}
        for name in self.pretrain.teachers:
            own, read = tasks[self.teachers[name].data], tasks["pretraining"]
            if own and read and own.pair != read.pair:
                raise ValueError(
                    f"pretrain.teachers: {name!r} reads {kinds[own.pair]}, "
                    f"the pre-training data set has {kinds[read.pair]}"
                )
        return self

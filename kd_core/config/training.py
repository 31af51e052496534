"""Parameters of everything that trains: teachers, the student's stages, its branches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kd_core.config.base import Count, Fraction, Name, Positive, Section
from kd_core.config.student import Pooling

Precision = Literal["fp32", "bf16"]


class Optimisation(Section):
    """One AdamW run with linear warm-up and decay."""

    epochs: Count
    """Passes over the training rows."""
    learning_rate: Positive
    """The highest one, after the warm-up."""
    batch_tokens: Count = 2048
    """Tokens a step, padding included; rows are batched by length."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of AdamW."""
    warmup: Fraction = 0.1
    """Share of the steps during which the learning rate rises."""
    patience: Count | None = None
    """Stop after this many epochs without a better validation score; null: run all, keep the last."""
    precision: Precision = "fp32"
    """Arithmetic of training. bf16 is faster on GPUs and on processors with AMX, slower on many others."""
    threads: Count | None = None
    """CPU threads; null: all. More are of no use to a narrow student; with one, sums do not depend on the cores."""
    seed: int = 0
    """Of the order of batches and of dropout."""
    checkpoint_seconds: Positive = 60.0
    """Seconds between checkpoints, so that a killed stage resumes."""


class Distillation(Section):
    """How far a decoder is from its teacher (docs/methods.md §1)."""

    divergence: Literal["kl", "mse"] = "kl"
    """kl: with temperature, × τ²; mse: squared error of probabilities, summed over classes (the paper)."""
    temperature: Positive = 1.0
    """τ: both distributions are softened by it; kl only."""


class AttentionDistillation(Section):
    """Self-attention distillation from the live teacher (docs/methods.md §2)."""

    alpha: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the query–key relation."""
    beta: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the value relation."""
    relation_heads: Count | None = None
    """Heads that Q, K and V are regrouped into; null: the common head count, which must then agree."""


class PretrainParams(Section):
    """Stage one: one initial decoder per pre-training teacher. Without teachers there is no stage one."""

    teachers: tuple[Name, ...]
    """Empty: only the live teacher's self-attention is distilled; without one the student stays as it was made."""
    optimisation: Optimisation
    distillation: Distillation = Distillation()
    teacher_weights: Literal["uniform", "learned"] = "uniform"
    """Weights of the teachers' losses (docs/methods.md §1); no gold labels here that could tell teachers apart."""
    live_teacher: Name = "none"
    """Teacher whose self-attention is distilled; `none` switches it off."""
    attention: AttentionDistillation = AttentionDistillation()


class FinetuneParams(Section):
    """Stage two: one gold decoder and one per reference teacher. Without teachers: gold labels alone."""

    teachers: tuple[Name, ...]
    """Reference teachers; empty: gold labels alone."""
    decoders: Literal["per_teacher", "one"] = "per_teacher"
    """per_teacher: a decoder for each teacher and one for gold. one: a single decoder, which learns the gold labels and
    the weighted average of the teachers' distributions."""
    optimisation: Optimisation
    distillation: Distillation = Distillation()
    alpha: Fraction = 0.5
    """Share of the teachers' losses beside the gold labels' cross-entropy."""
    teacher_weights: Literal["uniform", "validation_loss", "learned"] = "uniform"
    """Weights of the teachers: equal, by log-loss on the validation split, or by how well they are followed."""
    decoder_weights: Literal["uniform", "fitted"] = "uniform"
    """Weights of the decoders in the combined answer; fitted: least log-loss on the validation split."""

    @model_validator(mode="after")
    def _learned_weights_need_a_loss_a_teacher(self) -> FinetuneParams:
        if self.decoders == "one" and self.teacher_weights == "learned":
            raise ValueError(
                "teacher_weights: learned needs a decoder a teacher, whose losses it compares; "
                "with decoders: one take uniform or validation_loss"
            )
        return self


class SelfDistillParams(Section):
    """Branches on every layer but the last, trained on unlabelled text against the frozen trunk."""

    optimisation: Optimisation
    width: Count = 128
    """Narrow width between a layer's pooled output and the classes."""
    pooling: Pooling | None = None
    """How a layer's tokens become one vector; null: as the trunk does it."""
    direction: Literal["branch_to_trunk", "trunk_to_branch"] = "branch_to_trunk"
    """KL(branch ‖ trunk), or FastBERT's code: KL(trunk ‖ branch)."""

"""The config of a student: what stands in its config.json."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from kd_core.config.data import Kind
from kd_core.config.student import Combine, Pooling
from kd_core.models.kinds import kind_of


class StudentConfig(PreTrainedConfig):  # type: ignore[misc]
    """Everything needed to build a StudentModel."""

    model_type = "kd_student"

    encoder: dict[str, Any] | None = None
    """Config of the encoder, as Hugging Face writes it."""
    decoders: dict[str, list[str]] | None = None
    """Decoder → the labels it predicts, in the order of its logits."""
    decoder_weights: dict[str, float] | None = None
    """Weights of the decoders in the answer; none: uniform."""
    branches: dict[str, Any] | None = None
    """{layers: [1 … L-1], width, pooling}; none: no branches yet."""
    pooling: Pooling = "mean"
    combine: Combine = "probabilities"
    labels: list[str] | None = None
    """The task's labels, in the order of the answer."""
    decoder_kinds: dict[str, Kind] | None = None
    """Decoder → kind of its task, where that is not the student's."""
    kd_kind: Kind | None = None
    """The task's kind, where Hugging Face has no `problem_type` for it."""
    dropout: float = 0.1

    def __post_init__(self, **kwargs: Any) -> None:
        if self.labels:
            self.id2label = dict(enumerate(self.labels))
            self.label2id = {label: index for index, label in enumerate(self.labels)}
        super().__post_init__(**kwargs)

    @property
    def kind(self) -> Kind:
        """The task's kind: what the answer and the logits of its decoders and branches stand for."""
        return kind_of(self)

    def to_dict(self) -> dict[str, Any]:
        """As Hugging Face writes it; what is said of single decoders only where there is something to say."""
        values: dict[str, Any] = super().to_dict()
        return {key: value for key, value in values.items() if value or key not in ("decoder_kinds", "kd_kind")}

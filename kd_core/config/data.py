"""Parameters of data sets: where rows come from, what task they belong to, how they are split and checked."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, SerializeAsAny, ValidationError, field_validator, model_validator

from kd_core.config.base import Count, Fraction, Section
from kd_core.config.names import ColumnNames, LabelName, Split, SplitPaths

Role = Literal["pretraining", "reference"]
"""The two data sets of a run: stage one's (pre-training) and stage two's (reference)."""

Kind = str
"""Of a task; those that there are: `TASKS`."""

CLASSIFICATION: Kind = "classification"
"""One label a row (softmax)."""
MULTI_LABEL: Kind = "multi_label_classification"
"""Any number of labels a row, none included (a sigmoid for each)."""


class TaskParams(Section):
    """What is predicted; `kind` decides which class of TASKS the values are read as."""

    kind: Kind
    """classification: one label a row; multi_label_classification: any number of labels, none included."""
    labels: tuple[LabelName, ...] = ()
    """The label set, frozen and in the order of the model's outputs."""
    pair: bool = False
    """Whether a row has a second text (`text_pair`)."""
    max_length: Count = 64
    """Tokens a text (or pair) is cut to."""

    def __new__(cls, **values: Any) -> Self:
        """`TaskParams(kind=…)` makes an object of that kind's class; an unknown kind is left to validation."""
        return super().__new__(TASKS.get(str(values.get("kind")), cls) if cls is TaskParams else cls)  # type: ignore[return-value]

    @model_validator(mode="wrap")
    @classmethod
    def _of_its_kind(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if cls is not TaskParams or isinstance(values, TaskParams) or not isinstance(values, dict):
            return handler(values)
        kind = values.get("kind")
        if kind not in TASKS:
            problem: dict[str, Any] = {"type": "missing", "loc": ("kind",), "input": values}
            if kind is not None:
                problem |= {"type": "literal_error", "input": kind, "ctx": {"expected": " or ".join(map(repr, TASKS))}}
            raise ValidationError.from_exception_data(cls.__name__, [problem])  # type: ignore[list-item]
        return TASKS[kind].model_validate(values)  # type: ignore[return-value]


class LabelledTask(TaskParams):
    """A task whose answers are labels of a fixed set."""

    labels: tuple[LabelName, ...] = Field(min_length=2)

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) != len(labels):
            raise ValueError("labels must be distinct")
        return labels


class ClassificationTask(LabelledTask):
    """One label a row."""

    kind: Literal["classification"]


class MultiLabelTask(LabelledTask):
    """Any number of labels a row."""

    kind: Literal["multi_label_classification"]


TASKS: dict[Kind, type[TaskParams]] = {CLASSIFICATION: ClassificationTask, MULTI_LABEL: MultiLabelTask}
"""The union of the kinds of tasks, by `kind`; `kd_core.tasks.kinds.register` adds to it."""


class BotocoreSource(Section):
    """The embedded data: documentation in botocore's service models."""

    kind: Literal["botocore"]
    """The word that chooses this source."""
    dataset: Literal["operations", "members", "pairs"]
    """operations: first sentence(s) → service; members: unlabelled member documentation; pairs: request ↔ text."""
    services: tuple[str, ...]
    """Services to take, by botocore's name; frozen, since the largest ones change between releases."""
    revision: str = "installed"
    """`installed`, or a botocore version whose wheel is read as a zip without being installed."""
    limit: Count | None = None
    """At most this many rows, chosen by a stable hash; null: all."""


class FilesSource(Section):
    """Local or `s3://` csv, tsv, jsonl, ndjson (each also with .gz) or parquet files."""

    kind: Literal["files"]
    """The word that chooses this source."""
    path: SplitPaths
    """A file, folder or glob, or a list of them, for all rows; or one of these a split: missing ones come from train.

    Of a folder or glob, hidden files and names with a leading underscore are left out, and so is what is no table;
    dataset.json notes them.
    """
    columns: ColumnNames = {}
    """Our column name → theirs; a name not given is taken as it is. `id: null`: ids are made from the content."""
    label_separator: Annotated[str, Field(min_length=1)] = "|"
    """Multi-label tasks: between the labels of a text cell; a cell that holds it alone says that none applies."""


class HuggingFaceSource(Section):
    """A Hugging Face data set."""

    kind: Literal["huggingface"]
    """The word that chooses this source."""
    name: str
    """Hub id, or a local folder that `datasets.load_dataset` reads."""
    config: str | None = None
    """The data set's configuration (subset); null: its only one."""
    revision: str = "main"
    """Branch, tag or commit; resolved to a commit at the start of a run."""
    splits: dict[Split, str] = {"train": "train"}
    """Our split → theirs."""
    columns: ColumnNames = {}
    """As that of files."""
    label_separator: Annotated[str, Field(min_length=1)] = "|"
    """As that of files."""


Source = Annotated[BotocoreSource | FilesSource | HuggingFaceSource, Field(discriminator="kind")]


class SplitParams(Section):
    """Sizes of the splits: rows if ≥ 1, otherwise a share. What is left over is unlabelled: labels dropped."""

    train: Annotated[float, Field(ge=0)] = 0.6
    """Trains teachers, student and baselines."""
    valid: Annotated[float, Field(ge=0)] = 0.1
    """Early stopping, weights of teachers and decoders."""
    calibration: Annotated[float, Field(ge=0)] = 0.1
    """Thresholds of the early exits, timings; 299 groups of near-duplicates or more prove a disagreement of 1 %."""
    test: Annotated[float, Field(ge=0)] = 0.2
    """Evaluation and the gate."""
    train_per_class: Count | None = None
    """At most this many training rows a class keep their label; the others become unlabelled text. null: all do."""
    seed: int = 0
    """Of the assignment of rows to splits."""


class ValidationParams(Section):
    """What the Great Expectations suite tolerates."""

    tolerance: Fraction = 0.01
    """Largest share of rows that may be set aside before the run stops with exit 65."""
    max_characters: Count = 20_000
    """Longer texts are set aside; texts beyond the task's `max_length` tokens are merely cut."""
    max_label_shift: Fraction = 0.2
    """Largest total variation distance of the label distribution from the previous revision."""
    duplicate_similarity: Fraction = 0.8
    """Jaccard similarity of word sets from which two texts are near-duplicates."""


class DataParams(Section):
    """One data set."""

    source: Source
    """Where the rows come from: one of the three kinds below."""
    task: SerializeAsAny[TaskParams] | None = None
    """null: texts only, everything unlabelled. Stage one's may differ from stage two's."""
    split: SplitParams = SplitParams()
    validation: ValidationParams = ValidationParams()

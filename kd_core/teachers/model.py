"""Teachers: sequence classifiers of any architecture, their logits in the order of the task's labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kd_core.config.data import Kind, Role, TaskParams
from kd_core.config.teachers import TeacherParams
from kd_core.config.training import Precision
from kd_core.models.kinds import kind_of
from kd_core.models.layers import check_length, keep_layers
from kd_core.models.loading import load_tokenizer, save_tokenizer
from kd_core.models.student import StudentModel
from kd_core.models.tokenizer_files import tokenizer_files
from kd_core.runtime import fingerprint as fingerprints
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.runtime.files import write_json
from kd_core.tasks import heads
from kd_core.teachers import classifier

RECORD = "teacher.json"
_MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")
_TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "*.model", "special_tokens_map.json", "added_tokens.json")


@dataclass
class Teacher:
    """A classifier and what is needed to read its answers."""

    name: str
    model: PreTrainedModel
    tokenizer: Any
    labels: tuple[str, ...]
    """The task's labels, in the order of `logits`."""
    label_order: tuple[int, ...]
    """For each of our labels the index of the teacher's own logit."""
    pair: bool
    max_length: int
    precision: Precision
    data: Role
    weights: str
    """Address that the weights came from."""
    fingerprint: str = ""
    """Hash of the saved folder's weights, config and tokenizer; empty until saved."""
    tokenizer_hash: str = ""

    @classmethod
    def load(cls, folder: Path, precision: Precision | None = None) -> Teacher:
        """The teacher saved in `folder`, in eval mode, in the arithmetic of its record (or in `precision`).

        Raises InvalidDataError if a file is missing, damaged, or not the one that the record was written for.
        """
        record = read_record(folder)
        model, tokenizer = classifier.load(folder), load_tokenizer(folder)
        if fingerprint(folder) != record["fingerprint"]:
            raise InvalidDataError(f"{folder}: files differ from those that {RECORD} describes; run teach again")
        arithmetic: Precision = precision or record["precision"]
        return cls(
            name=record["name"],
            model=model.to(torch.bfloat16) if arithmetic == "bf16" else model,
            tokenizer=tokenizer,
            labels=tuple(record["task_labels"]),
            label_order=tuple(record["label_order"]),
            pair=record["pair"],
            max_length=record["max_length"],
            precision=arithmetic,
            data=record["data"],
            weights=record["weights"],
            fingerprint=record["fingerprint"],
            tokenizer_hash=_tokenizer_hash(folder),
        )

    @property
    def kind(self) -> Kind:
        """What the logits stand for, as the model's config says."""
        return kind_of(self.model.config)

    @property
    def task(self) -> TaskParams:
        """The task as this teacher reads it: its labels and its own length."""
        return TaskParams(kind=self.kind, labels=self.labels, pair=self.pair, max_length=self.max_length)

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits [B, U, C] in fp32, in the order of `labels`, of a batch made with this teacher's tokenizer."""
        taken = {name: batch[name] for name in self.tokenizer.model_input_names if name in batch}
        return self.in_our_order(self.model(**taken).logits, batch)

    def in_our_order(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """The model's own logits of a batch → [B, U, C] in fp32, in the order of `labels`."""
        return heads.of(self.kind).from_transformers(logits.float()[..., list(self.label_order)], batch)


def prepare(
    name: str, params: TeacherParams, task: TaskParams, folder: Path, tokenizer_folder: Path | None = None
) -> Teacher:
    """The teacher `name` from the weights in `folder`: as it is, or with a new classifier if it will be fine-tuned.

    Any architecture that AutoModelForSequenceClassification knows; choosing layers needs one of
    `kd_core.models.architectures`. The new classifier has the task's labels in their order and random weights (torch's
    global generator). Raises InvalidDataError naming the teacher if its labels cannot be matched with the task's or it
    was made for another kind of task, ParamsError if its name or its layers cannot be.
    """
    if hasattr(nn.ModuleDict(), name):
        raise ParamsError(f"teachers.{name}: no decoder can have this name; rename the teacher")
    fresh = params.fine_tune is not None
    with _naming(name):
        model = classifier.load(folder, task.kind, fresh_labels=task.labels if fresh else None)
        tokenizer = load_tokenizer(tokenizer_folder or folder)
    if params.layers is not None:
        if isinstance(model, StudentModel):
            raise ParamsError(f"teachers.{name}.layers: {params.weights} is a distilled student; it keeps its layers")
        keep_layers(model, params.layers)
    max_length = params.max_length or task.max_length
    check_length(model, max_length, f"teachers.{name}", f"set teachers.{name}.max_length to no more")
    if fresh:
        classifier.name_outputs(model, task.labels, task.kind)
        order: tuple[int, ...] = tuple(range(len(task.labels)))
    else:
        _check_kind(name, classifier.problem_type(model), task.kind)
        order = label_order(name, model.config.id2label, params.labels, task.labels)
        classifier.name_outputs(model, [task.labels[order.index(output)] for output in range(len(order))], task.kind)
    _fit_inputs(tokenizer, model)
    return Teacher(
        name=name,
        model=model,
        tokenizer=tokenizer,
        labels=task.labels,
        label_order=order,
        pair=task.pair,
        max_length=max_length,
        precision=params.precision,
        data=params.data,
        weights=params.weights,
    )


@contextmanager
def _naming(teacher: str) -> Iterator[None]:
    """Errors in a teacher's folder name the teacher, too."""
    try:
        yield
    except InvalidDataError as error:
        raise InvalidDataError(f"teacher {teacher}: {error}") from None


def _fit_inputs(tokenizer: Any, model: PreTrainedModel) -> None:
    """Let the tokenizer give no token types to a model without: RoBERTa would look for them in a table of one row."""
    takes = "token_type_ids" in signature(model.forward).parameters and getattr(model.config, "type_vocab_size", 2) > 1
    unused = set() if takes else {"token_type_ids"}
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name not in unused]


def label_order(
    name: str, theirs: Mapping[int, str], mapping: Mapping[str, str] | None, ours: Sequence[str]
) -> tuple[int, ...]:
    """For each of our labels the index of the teacher's output that means it.

    `theirs` is the config's id2label, `mapping` the teacher's label → ours (None: the names are ours). Raises
    InvalidDataError naming the teacher unless outputs and labels match one to one.
    """
    if len(theirs) != len(ours):
        raise InvalidDataError(f"teacher {name}: has {len(theirs)} labels, the task has {len(ours)}")
    known = set(theirs.values())
    if mapping is not None and set(mapping) != known:
        odd = ", ".join(sorted(set(mapping) ^ known)[:5])
        raise InvalidDataError(f"teachers.{name}.labels: must map each label of the teacher's config once; see {odd}")
    means = {(mapping or {}).get(label, label): index for index, label in theirs.items()}
    missing = [label for label in ours if label not in means]
    if missing:
        raise InvalidDataError(
            f"teacher {name}: no output means {', '.join(missing[:5])} (its labels: {', '.join(sorted(known)[:5])}…); "
            f"give teachers.{name}.labels: {{theirs: ours}}"
        )
    return tuple(means[label] for label in ours)


def _check_kind(name: str, theirs: str | None, kind: Kind) -> None:
    """A config that does not say what its logits stand for is believed to fit the task."""
    if theirs not in (None, heads.of(kind).PROBLEM_TYPE):
        raise InvalidDataError(
            f"teacher {name}: its config says {theirs}, the task is {kind}; use another teacher or fine-tune this one"
        )


def save_teacher(teacher: Teacher, folder: Path, contract: Mapping[str, Any]) -> dict[str, Any]:
    """Write `folder` so that AutoModelForSequenceClassification and transformers.pipeline load it; weights in fp32.

    (A distilled student's folder once kd_core.models.student is imported.) Its config names the outputs with our
    labels. Fills the teacher's fingerprint and returns its record, which stands in teacher.json together with what the
    contract check found.
    """
    folder.mkdir(parents=True, exist_ok=True)
    teacher.model.float().save_pretrained(folder)
    save_tokenizer(teacher.tokenizer, folder)
    teacher.fingerprint = fingerprint(folder)
    teacher.tokenizer_hash = _tokenizer_hash(folder)
    record = _record(teacher, contract)
    write_json(folder / RECORD, record)
    return record


def _record(teacher: Teacher, contract: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": teacher.name,
        "fingerprint": teacher.fingerprint,
        "weights": teacher.weights,
        "data": teacher.data,
        "task_labels": list(teacher.labels),
        "label_order": list(teacher.label_order),
        "pair": teacher.pair,
        "max_length": teacher.max_length,
        "precision": teacher.precision,
        "contract": dict(contract),
    }


def read_record(folder: Path) -> dict[str, Any]:
    """What teacher.json in `folder` says. Raises InvalidDataError if it is missing or not JSON."""
    try:
        return cast(dict[str, Any], json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidDataError(f"{folder / RECORD}: cannot be read ({error}); run teach again") from None


def fingerprint(folder: Path) -> str:
    """Hash of a folder's weights, config and tokenizer: what a score depends on."""
    return _hash(folder, (*_MODEL_FILES, *_TOKENIZER_FILES, *tokenizer_files(folder)))


def _tokenizer_hash(folder: Path) -> str:
    return _hash(folder, (*_TOKENIZER_FILES, *tokenizer_files(folder)))


def _hash(folder: Path, patterns: Sequence[str]) -> str:
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    return fingerprints.of_value({file.name: fingerprints.of_file(file) for file in files})

"""A kind of task that the product does not know: how many digits each word of a text has.

Units are words, classes are counts, and the main metric is a ratio of sums: words answered rightly ÷ words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch.nn.functional as F  # noqa: N812 - its usual name
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import AutoModelForTokenClassification, PreTrainedTokenizerFast

from kd_core.config.data import LabelledTask, TaskParams
from kd_core.runtime.arrays import Integers
from kd_core.tasks import kinds
from kd_core.tasks.checks import multi_label as several
from kd_core.tasks.decide import classification as one
from kd_core.tasks.encode.gold import NO_LABEL, known_labels
from kd_core.tasks.heads import classification as softmax
from kd_core.tasks.loss import classification as cross_entropy
from kd_core.tasks.metrics import classification as as_classes
from kd_core.tasks.sections import classification as one_class
from kd_core.tasks.units import Units

KIND = "count_digits"
LABELS = ("0", "1", "2", "3", "4")
STARTS, ENDS = "word_starts", "word_ends"


class DigitsTask(LabelledTask):
    kind: Literal["count_digits"]


def sizes(texts: Sequence[Sequence[str]]) -> Integers:
    return np.array([len(text.split()) for text in texts[0]], dtype=np.int64)


def features(texts: Sequence[Sequence[str]], encodings: Sequence[Any]) -> Mapping[str, Units]:
    """Where each word's tokens begin and end; of a word that was cut off, nowhere."""
    counts, starts, ends = sizes(texts), [], []
    for count, encoding in zip(counts, encodings, strict=True):
        for word in range(count):
            own = [place for place, owner in enumerate(encoding.word_ids) if owner == word]
            starts.append(own[0] if own else 0)
            ends.append(own[-1] + 1 if own else 0)
    return {
        name: Units.of_sizes(np.array(each, dtype=np.int64), counts)
        for name, each in zip((STARTS, ENDS), (starts, ends), strict=True)
    }


def targets(rows: pd.DataFrame, task: TaskParams) -> Units:
    counts, found = sizes([rows["text"].tolist()]), []
    for count, places in zip(counts, known_labels(rows, task.labels), strict=True):
        found += [NO_LABEL] * int(count) if places is None else list(places)
    return Units.of_sizes(np.array(found, dtype=np.int64), counts)


def gather(hidden: Tensor, batch: Mapping[str, Tensor], pooling: str) -> Tensor:
    """The mean over each word's tokens."""
    sums = F.pad(hidden.cumsum(1), (0, 0, 1, 0))
    starts, ends = (batch[name].unsqueeze(-1) for name in (STARTS, ENDS))
    wide = (-1, -1, hidden.shape[-1])
    return (sums.gather(1, ends.expand(*wide)) - sums.gather(1, starts.expand(*wide))) / (ends - starts).clamp_min(1)


def pipeline(model: Any, tokenizer: Any, max_length: int, device: Any) -> Any:
    tokenizer.model_max_length = max_length
    run: Any = transformers.pipeline("token-classification", model=model, tokenizer=tokenizer, device=device)
    return lambda texts: run(texts, batch_size=len(texts))


def from_transformers(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    return gather(logits, batch, "mean")


def counts(given: Units, gold: Units) -> Any:
    right = given.with_values(given.values == gold.values).sums()
    return np.stack([right, gold.sizes.astype(np.float64)], axis=1)


def uncertainty(probabilities: Units) -> Any:
    return probabilities.with_values(one.normalised_entropy(probabilities.values)).means().astype(np.float32)


def named(given: Units, labels: Sequence[str]) -> list[Any]:
    return [tuple(labels[index] for index in given.take([row]).values) for row in range(len(given))]


def table(probabilities: Units, labels: Sequence[str]) -> dict[str, Any]:
    best = probabilities.with_values(probabilities.values.max(-1))
    return {"label": named(one.decisions(probabilities), labels), "probability": by_row(best)}


def shares(probabilities: Units, labels: Sequence[str]) -> dict[str, Any]:
    return {
        label: by_row(probabilities.with_values(probabilities.values[:, place])) for place, label in enumerate(labels)
    }


def by_row(units: Units) -> list[Any]:
    return [tuple(units.take([row]).values.tolist()) for row in range(len(units))]


def fit(rows: pd.DataFrame, task: TaskParams, folder: Path) -> None:
    """The most frequent count."""
    gold = targets(rows[rows["label"].notna()], task).values
    (folder / "most.json").write_text(json.dumps(int(np.bincount(gold).argmax())))


def answer(folder: Path, rows: pd.DataFrame, task: TaskParams) -> Units:
    given = targets(rows, task)
    most = json.loads((folder / "most.json").read_text())
    return given.with_values(np.eye(len(task.labels))[np.full(len(given.values), most)])


def quality(probabilities: Units, gold: Units) -> dict[str, float]:
    """Of all words together; the main metric first."""
    found = as_classes.quality(probabilities, gold)
    return {"word_accuracy": found.pop("accuracy"), **found}


def like(module: Any, **changes: Any) -> SimpleNamespace:
    return SimpleNamespace(
        **{name: getattr(module, name) for name in dir(module) if not name.startswith("__")} | changes
    )


def register() -> None:
    kinds.register(
        DigitsTask,
        KIND,
        {
            "columns": SimpleNamespace(LISTED=True, ORDERED=True),
            "checks": several,
            "encode": SimpleNamespace(FEATURES=(STARTS, ENDS), sizes=sizes, features=features, targets=targets),
            "heads": like(
                softmax, PROBLEM_TYPE=None, gather=gather, from_transformers=from_transformers, pipeline=pipeline,
                as_transformers=lambda logits: logits,
                AUTO_CLASS=AutoModelForTokenClassification,
            ),
            "loss": cross_entropy,
            "decide": like(
                one, MAIN_METRIC="word_accuracy", METRIC_NAME="words counted rightly", counts=counts, named=named,
                uncertainty=uncertainty, table=table, shares=shares,
            ),
            "metrics": like(as_classes, quality=quality),
            "sections": like(
                one_class, TITLE="Counting of digits", DOES="counts digits of words of {texts} into {labels} labels",
                GIVEN="Every word gets a count.", BINNED=("words", "words"), COUNTED="words",
                REACHED="counts {share} of the words of {texts} rightly",
            ),
            "baseline": SimpleNamespace(fit=fit, answer=answer),
        },
    )  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece over single characters."""
    letters = [*"abcdefghij0123456789"]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {word: index for index, word in enumerate(words)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=128, model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def rows(n: int, seed: int) -> pd.DataFrame:
    """Texts of 1 to 5 words of four characters, and how many of these are digits."""
    random, found = np.random.default_rng(seed), []
    for _ in range(n):
        wanted = random.integers(0, 5, size=random.integers(1, 6))
        words = []
        for count in wanted:
            characters = [*random.choice([*"0123456789"], count), *random.choice([*"abcdefghij"], 4 - count)]
            random.shuffle(characters)
            words.append("".join(characters))
        found.append({"text": " ".join(words), "label": "|".join(map(str, wanted))})
    return pd.DataFrame(found)

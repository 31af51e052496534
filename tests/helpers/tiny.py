"""Tiny random models, tokenizers and rows that tests of every room build on; nothing is downloaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from kd_core.config.data import CLASSIFICATION, TaskParams
from kd_core.config.student import StudentParams
from kd_core.config.teachers import TeacherParams
from kd_core.config.training import Optimisation, Precision
from kd_core.inference.batches import collate, encode, padded
from kd_core.models.new_student import new_student
from kd_core.models.student import StudentModel
from kd_core.tasks import loss as losses
from kd_core.tasks.units import UNIT_MASK
from kd_core.teachers import scoring
from kd_core.teachers.engines import Batch, Engine
from kd_core.teachers.model import Teacher, prepare, save_teacher

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOPICS = ["apple", "river", "stone", "cloud", "tiger", "violin", "rocket", "candle"]
"""A row's text holds the topic of its label, so that a tiny model can learn the task."""
FILLER = ["the", "a", "small", "old", "near", "with", "list", "gets", "of", "my", "your", "blue", "some", "one"]
LABELS = ("red", "green", "blue")


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece over the words of `tiny_rows` and single letters, with BERT's special tokens and pairs."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*SPECIAL, *TOPICS, *FILLER, *letters, *(f"##{letter}" for letter in letters), ".", ","]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def tiny_bpe() -> PreTrainedTokenizerFast:
    """Byte-level BPE over the same words, with RoBERTa's special tokens and pairs; padding is 1, no token types."""
    merges = []
    for word in [*TOPICS, *FILLER]:
        parts = ["Ġ", *word]
        merges += [("".join(parts[:n]), parts[n]) for n in range(1, len(parts))]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {token: n for n, token in enumerate(dict.fromkeys([*tokens, *(one + two for one, two in merges)]))}
    backend = Tokenizer(models.BPE(vocabulary, list(dict.fromkeys(merges)), unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
        model_max_length=128,
        model_input_names=["input_ids", "attention_mask"],
    )


def tiny_unigram() -> PreTrainedTokenizerFast:
    """Unigram as SentencePiece has it, over the same words, with BERT's special tokens in another order, and pairs."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    special = [(token, 0.0) for token in ["[CLS]", "[SEP]", "<unk>", "[PAD]", "[MASK]"]]
    pieces = [*((f"▁{word}", -4.0) for word in [*TOPICS, *FILLER]), *((letter, -9.0) for letter in ["▁", *letters])]
    backend = Tokenizer(models.Unigram([*special, *pieces], unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 0), ("[SEP]", 1)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="<unk>",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


_DEBERTA = {"relative_attention": True, "pos_att_type": "c2p|p2c", "max_relative_positions": -1}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 12},
    "bert": {},
    "camembert": {"type_vocab_size": 1},
    "deberta-v2": {**_DEBERTA, "conv_kernel_size": 3, "conv_act": "gelu", "attention_head_size": None},
    "deberta-v3": {
        **_DEBERTA, "model_type": "deberta-v2", "position_buckets": 4, "norm_rel_ebd": "layer_norm",
        "share_att_key": True, "position_biased_input": False,
    },
    "distilbert": {},
    "electra": {"embedding_size": 12},
    "modernbert": {
        "global_attn_every_n_layers": 3, "local_attention": 4,
        "bos_token_id": None, "eos_token_id": None, "cls_token_id": None, "sep_token_id": None,
    },
    "mpnet": {},
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
}  # fmt: skip
"""What makes a tiny model of each architecture like its published ones; ModernBERT's window is two tokens each side."""

TOKENIZERS = {
    "albert": tiny_unigram, "camembert": tiny_unigram, "deberta-v2": tiny_unigram, "deberta-v3": tiny_unigram,
    "modernbert": tiny_bpe, "roberta": tiny_bpe, "xlm-roberta": tiny_unigram,
}  # fmt: skip
"""The kind of tokenizer that an architecture comes with; WordPiece for the others."""


def tiny_config(architecture: str, **values: Any) -> Any:
    """The config of a tiny model, by a name in ARCHITECTURES."""
    known = {"max_position_embeddings": 130, "pad_token_id": 0, **ARCHITECTURES.get(architecture, {}), **values}
    kind = known.pop("model_type", architecture)
    if "attention_head_size" in known:
        known["attention_head_size"] = known["hidden_size"] // known["num_attention_heads"]
    if kind == "distilbert":
        known["hidden_dim"] = known.pop("intermediate_size")
    return AutoConfig.for_model(kind, **known)


def tiny_base(
    folder: Path,
    layers: int = 3,
    hidden: int = 32,
    heads: int = 4,
    model_type: str = "bert",
    seed: int = 0,
    tokenizer: PreTrainedTokenizerFast | None = None,
    **config: Any,
) -> Path:
    """A folder with a random encoder (config, model.safetensors) and its tokenizer, as a model hub has them.

    `model_type` is a name in ARCHITECTURES, or any that transformers knows.
    """
    torch.manual_seed(seed)
    tokenizer = tokenizer or tiny_tokenizer()
    size = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    words = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    model = AutoModel.from_config(tiny_config(model_type, **words, **size, intermediate_size=2 * hidden, **config))
    with torch.no_grad():  # wide enough that random models tell texts apart
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_rows(n: int, labels: Sequence[str] | None = LABELS, pair: bool = False, seed: int = 0) -> pd.DataFrame:
    """`n` rows (id, group, text, text_pair if `pair`, label; null where `labels` is None), sorted by id.

    The label is decided by one topic word in the text (or in the second text of a pair).
    """
    generator = torch.Generator().manual_seed(seed)

    def pick(words: Sequence[str]) -> str:
        return words[int(torch.randint(len(words), (1,), generator=generator))]

    rows = []
    for index in range(n):
        label = index % len(labels or LABELS)
        words = [pick(FILLER) for _ in range(int(torch.randint(2, 9, (1,), generator=generator)))]
        signal = f"{' '.join(words)} {TOPICS[label]} {pick(FILLER)}"
        row = {
            "id": f"row{seed}-{index:06d}",
            "group": f"group{index:06d}",
            "text": f"{pick(FILLER)} {pick(FILLER)}" if pair else signal,
            "label": labels[label] if labels else None,
        }
        if pair:
            row["text_pair"] = signal
        rows.append(row)
    columns = ["id", "group", "text", *(["text_pair"] if pair else []), "label"]
    return pd.DataFrame(rows, columns=columns)


def tiny_task(labels: Sequence[str] = LABELS, pair: bool = False, max_length: int = 24) -> TaskParams:
    """The task of `tiny_rows`."""
    return TaskParams(kind="classification", labels=tuple(labels), pair=pair, max_length=max_length)


def tiny_teacher(
    folder: Path,
    labels: Sequence[str] = LABELS,
    steps: int = 60,
    name: str = "tiny",
    precision: Precision = "fp32",
    seed: int = 0,
    pair: bool = False,
    **base: Any,
) -> Path:
    """A saved teacher folder, trained for a second: right about nearly every row of `tiny_rows`."""
    torch.manual_seed(seed)
    weights = tiny_base(folder.parent / f"{folder.name}_base", layers=2, seed=seed, **base)
    spec = TeacherParams(
        weights=str(weights), fine_tune=Optimisation(epochs=1, learning_rate=1e-3), precision=precision
    )
    task = tiny_task(labels, pair)
    teacher = prepare(name, spec, task, weights)
    encoded = encode(tiny_rows(32 * len(labels), labels, pair, seed=7), teacher.tokenizer, task)
    optimizer = torch.optim.AdamW(teacher.model.parameters(), lr=5e-3)
    for step in range(steps):
        indices = [(48 * step + offset) % len(encoded) for offset in range(48)]
        batch = collate(encoded, indices, 0)
        loss = losses.of(task.kind).hard(teacher.logits(batch), padded(encoded.targets, indices), batch[UNIT_MASK])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_teacher(teacher, folder, {"gold_accuracy": 1.0, "rows": len(encoded)})
    return folder


def tiny_student(base: Path, decoders: Sequence[str] = ("gold", "one", "two"), **params: Any) -> StudentModel:
    """A fresh student of two narrow layers over `base`, in eval mode, every decoder with the task's labels."""
    spec = StudentParams(base=str(base), **{"layers": 2, "hidden": 16, "heads": 2, **params})
    return new_student(spec, {name: list(LABELS) for name in decoders}, LABELS, base, CLASSIFICATION).eval()


def count_texts(patch: pytest.MonkeyPatch) -> Counter[str]:
    """Texts that each teacher is asked about from now on, while scoring in PyTorch."""
    asked: Counter[str] = Counter()
    in_pytorch, several_ask = scoring.in_pytorch, Lock()

    def counting(teacher: Teacher) -> Engine:
        engine = in_pytorch(teacher)

        def count(batch: Batch) -> torch.Tensor:
            with several_ask:
                asked[teacher.name] += len(batch["input_ids"])
            return engine(batch)

        return count

    patch.setattr(scoring, "in_pytorch", counting)
    return asked

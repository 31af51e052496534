"""Which files a tokenizer is made of, as its class says: some have names that no pattern would guess (bpe.codes)."""

from __future__ import annotations

import json
from pathlib import Path, PurePath
from typing import Any

_PICKLES = (".pkl", ".bin", ".pt")
"""Never fetched nor read."""


def tokenizer_files(folder: Path) -> set[str]:
    """Names of the files that the class of the tokenizer in `folder` reads; empty where nothing names the class."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

    name = _read(folder / "tokenizer_config.json").get("tokenizer_class")
    name = name or TOKENIZER_MAPPING_NAMES.get(str(_read(folder / "config.json").get("model_type")))
    found: set[str] = set()
    for each in (name, str(name).removesuffix("Fast")) if isinstance(name, str) else ():
        files = getattr(tokenizer_class_from_name(each), "vocab_files_names", None) or {}
        found |= {file for file in files.values() if PurePath(file).suffix not in _PICKLES}
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}

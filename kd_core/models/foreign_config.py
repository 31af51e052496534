"""config.json of a model that somebody else made: read with patience, refused with a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from kd_core.runtime.errors import InvalidDataError
from kd_core.tables.cells import NotTextError, as_text

_NAMING = ("id2label", "label2id", "num_labels")
_TUPLES = ("return_dict", "use_return_dict", "torchscript")
"""Keys of old configs that make a model answer with tuples instead of names."""


def read_config(folder: Path, with_labels: bool) -> PreTrainedConfig:
    """The config in `folder`, answers by name; labels as text, or left to the default without `with_labels`.

    Raises InvalidDataError naming the file if it cannot be read, or its outputs are not numbered 0 … n − 1 and named.
    """
    file = folder / "config.json"
    try:
        values, _ = PreTrainedConfig.get_config_dict(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InvalidDataError(f"{folder}: no readable config.json: {error}") from None
    labels = values.get("id2label") if with_labels else None
    dropped = {*_TUPLES, "id2label", "label2id"} if with_labels else {*_TUPLES, *_NAMING}
    kept = {key: value for key, value in values.items() if key not in dropped}
    if labels is not None:
        names = label_names(labels, str(file))
        kept |= {"id2label": names, "label2id": {name: number for number, name in names.items()}}
        kept.pop("num_labels", None)
    return _made(kept, file)


def label_names(labels: Any, where: str) -> dict[int, str]:
    """id2label as somebody wrote it → output → name; numbers are names too, as their text.

    Raises InvalidDataError unless the outputs are numbered 0 … n − 1, each with a name.
    """
    given = dict(enumerate(labels)) if isinstance(labels, list) else labels
    if not isinstance(given, Mapping):
        raise InvalidDataError(f"{where}: id2label is no list of names; write {{number of the output: name}}")
    try:
        named = {int(key): as_text(value) for key, value in given.items()}
    except (NotTextError, ValueError, TypeError) as error:
        raise InvalidDataError(f"{where}: id2label: {error}; write {{number of the output: name}}") from None
    if missing := [number for number in range(len(given)) if named.get(number) is None]:
        there = ", ".join(map(str, given))
        raise InvalidDataError(
            f"{where}: id2label has no name for output {missing[0]} (it names {there}); number its labels from 0 to "
            f"{len(given) - 1}, each with a name"
        )
    return {number: str(named[number]) for number in range(len(given))}


def _made(values: dict[str, Any], file: Path) -> PreTrainedConfig:
    kind = values.get("model_type")
    try:
        if kind is None:
            return AutoConfig.from_pretrained(file.parent, local_files_only=True, trust_remote_code=False)
        return CONFIG_MAPPING[kind].from_dict(values)
    except KeyError:
        raise InvalidDataError(f"{file}: model_type {kind!r} is unknown to this release of transformers") from None
    except Exception as error:  # whatever its class says of values that somebody else wrote
        raise InvalidDataError(f"{file}: not a config of its model_type ({kind}): {error}") from None

"""The weights of a registered model version as one folder with config, weights and tokenizer, as teachers have them.

Versions come in three layouts: a student that a run registered, what `mlflow.transformers.log_model` writes (weights in
`model`, the tokenizer in `components/tokenizer`), and any other with one folder that holds everything.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kd_core.runtime.errors import InvalidDataError, TryAgainError

_FOLDER = "model"
"""Name of the folder, whatever the registry calls it: it becomes part of an address, which must repeat."""

_TOKENIZER_CONFIG = "tokenizer_config.json"
"""Stands wherever a tokenizer was saved."""


@contextmanager
def registered_weights(version: str) -> Iterator[Path]:
    """A copy of the weights and the tokenizer of `version` (NAME/NUMBER), there inside the block.

    Without a tokenizer in the version there is none in the folder. Raises InvalidDataError if the version does not
    hold exactly one folder with weights, TryAgainError if its files cannot be fetched.
    """
    with tempfile.TemporaryDirectory() as scratch:
        fetched = _fetch(version, Path(scratch) / "fetched")
        weights = _folders_with(fetched, "config.json", "*.safetensors")
        if len(weights) != 1:
            raise InvalidDataError(f"models:/{version}: holds {len(weights)} folders with safetensors weights, not 1")
        target = Path(shutil.copytree(weights[0], Path(scratch) / _FOLDER))
        if not (target / _TOKENIZER_CONFIG).is_file():
            _add_tokenizer(version, fetched, target)
        yield target


def _fetch(version: str, target: Path) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    target.mkdir()
    try:
        return Path(download_artifacts(artifact_uri=f"models:/{version}", dst_path=str(target)))
    except (MlflowException, OSError) as error:
        raise TryAgainError(f"models:/{version}: its files cannot be fetched ({error}); check MLflow's store") from None


def _add_tokenizer(version: str, fetched: Path, target: Path) -> None:
    there = _folders_with(fetched, _TOKENIZER_CONFIG)
    if len(there) > 1:
        names = ", ".join(str(path.relative_to(fetched)) for path in there)
        raise InvalidDataError(f"models:/{version}: holds several tokenizers ({names}); register a version with one")
    for folder in there:
        shutil.copytree(folder, target, dirs_exist_ok=True)


def _folders_with(root: Path, name: str, *patterns: str) -> list[Path]:
    folders = (path.parent for path in root.rglob(name))
    return sorted(folder for folder in folders if all(any(folder.glob(pattern)) for pattern in patterns))

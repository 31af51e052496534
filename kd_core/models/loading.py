"""Hugging Face models and tokenizers in local folders; nothing is made up where weights are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging

from kd_core.models.foreign_config import read_config
from kd_core.models.weights import check_weights
from kd_core.runtime.errors import InvalidDataError


def load_encoder(folder: Path) -> PreTrainedModel:
    """The encoder in `folder`, fp32, in eval mode. Raises InvalidDataError naming weights that are not there."""
    return _load(AutoModel, folder, read_config(folder, with_labels=False), optional=("pooler.",))


def load_classifier(
    folder: Path, fresh_labels: int | None = None, factory: Any = AutoModelForSequenceClassification
) -> PreTrainedModel:
    """The sequence classifier in `folder` (or what transformers' class `factory` makes), fp32, in eval mode.

    With `fresh_labels` a new classifier of that many outputs is put on the encoder, whatever the folder has; without,
    one must be there. Raises InvalidDataError naming weights that are not there.
    """
    if fresh_labels is None:
        return _load(factory, folder, read_config(folder, with_labels=True))
    encoder = load_encoder(folder)
    config = encoder.config
    config.num_labels = fresh_labels
    model = factory.from_config(config, trust_remote_code=False)
    model.base_model.load_state_dict(encoder.state_dict(), strict=False)
    return model.eval()


def _load(factory: Any, folder: Path, config: PreTrainedConfig, optional: tuple[str, ...] = ()) -> PreTrainedModel:
    check_weights(folder)
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)  # what it would warn of is checked here
    try:
        model, report = factory.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused here, by name
        )
    except ImportError as error:
        raise InvalidDataError(f"{folder}: the model needs a Python package that is not installed: {error}") from None
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InvalidDataError(f"{folder}: cannot be loaded: {error}") from None
    finally:
        logging.set_verbosity(verbosity)
    missing = [key for key in report["missing_keys"] if not key.startswith(optional or ("\0",))]
    if missing:
        names = ", ".join(sorted(missing)[:5])
        raise InvalidDataError(f"{folder}: {len(missing)} weights are missing: {names}")
    if report["mismatched_keys"]:
        _explain_shapes(folder, sorted(report["mismatched_keys"]), config)
    return model.float().eval()


def _explain_shapes(folder: Path, others: list[tuple[str, Any, Any]], config: PreTrainedConfig) -> NoReturn:
    """Weights of another shape than config.json says; of outputs, in words."""
    name, theirs, said = others[0]
    outputs = [(there[0], wanted[0]) for _, there, wanted in others if there and wanted]
    if outputs and all(wanted == config.num_labels and have != wanted for have, wanted in outputs):
        raise InvalidDataError(
            f"{folder}: the weights have {outputs[0][0]} outputs, config.json names {config.num_labels} labels; "
            "correct its id2label (or num_labels)"
        )
    raise InvalidDataError(
        f"{folder}: {len(others)} weights have another shape than config.json says: {name} is {list(theirs)}, by "
        f"config.json {list(said)}; correct config.json"
    )


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`. Raises InvalidDataError if there is none, or a package that it needs is missing."""
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except ImportError as error:
        raise InvalidDataError(f"{folder}: the tokenizer needs a Python package: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidDataError(f"{folder}: no tokenizer could be loaded: {error}") from None


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write the tokenizer as it was loaded: what the last call cut and padded to would be saved, too."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    tokenizer.save_pretrained(folder)

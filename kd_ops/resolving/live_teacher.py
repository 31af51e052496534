"""Whether the live teacher's self-attention can be compared with the student's, before anything is trained.

Only their small files are read, no model is loaded. What these cannot tell, `pretrain` checks; it refuses the same, but
after every teacher was trained and has scored every text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kd_core.config.params import Params
from kd_core.config.rules import common_heads
from kd_core.runtime.errors import ParamsError
from kd_ops.resolving.model_files import Read, as_mapping, config_of


def check_live_teacher(params: Params, resolved: Mapping[str, Any], read: Read) -> None:
    """Raises ParamsError if the live teacher's vocabulary or heads surely do not fit the student's.

    :param resolved: the records of `teachers` and `student`
    """
    name = params.pretrain.live_teacher
    if name == "none":
        return
    base, teacher = resolved["student"], resolved["teachers"][name]
    ours, theirs = (_vocabulary(read(record, "tokenizer.json")) for record in (base, teacher.get("tokenizer", teacher)))
    if ours and theirs and ours != theirs:
        raise ParamsError(
            f"pretrain.live_teacher: {name!r} has another vocabulary than student.base, so their attention cannot be "
            "compared; name a teacher that shares student.base's tokenizer, or `none`"
        )
    own, other = (_shape(config_of(record, read)) for record in (base, teacher))
    student = (params.student.hidden or own[0], params.student.heads or own[1])
    if all((*student, *other)):
        common_heads(params.pretrain.attention, other, student)


def _vocabulary(tokenizer: bytes | None) -> Any:
    return as_mapping(tokenizer).get("model", {}).get("vocab")


def _shape(config: Mapping[str, Any]) -> tuple[int, int]:
    """(hidden units, heads); 0 for what the file does not say."""
    hidden = config.get("hidden_size", config.get("dim"))  # the second name is DistilBERT's
    heads = config.get("num_attention_heads", config.get("n_heads"))
    return int(hidden or 0), int(heads or 0)

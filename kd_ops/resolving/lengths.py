"""Whether each model has positions for the texts that it is asked to read, before anything is computed.

Only config.json is read, no model is loaded. What it cannot tell, the stages check; they refuse the same, but a teacher
may have been trained by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kd_core.config.lengths import check_positions
from kd_core.config.params import Params
from kd_ops.resolving.model_files import Read, config_of

_ALL = ("albert", "bart", "bert", "convbert", "distilbert", "electra", "ernie", "mobilebert", "roformer")
_BEHIND_PADDING = ("camembert", "longformer", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl")
"""They count positions from behind that of padding, which for MPNet is 1 whatever its config says."""


def most_tokens(config: Mapping[str, Any]) -> int | None:
    """Tokens of a text, special ones included, that a model has positions for, by its config.json; None: not known."""
    size, kind = config.get("max_position_embeddings"), config.get("model_type")
    if not isinstance(size, int):
        return None
    if kind in _BEHIND_PADDING:
        padding = 1 if kind == "mpnet" else config.get("pad_token_id", 1)
        return size - 1 - padding if isinstance(padding, int) else None
    learned = kind == "deberta-v2" and config.get("position_biased_input", True)
    return size if learned or kind in _ALL else None


def check_lengths(params: Params, resolved: Mapping[str, Any], read: Read) -> None:
    """Raises ParamsError naming the teacher or the task whose max_length is beyond the positions of its model.

    :param resolved: the records of `teachers` and `student`
    """
    tasks = {"pretraining": params.data.pretraining.task, "reference": params.data.reference.task}
    for name, teacher in params.teachers.items():
        task = tasks[teacher.data]
        asked = teacher.max_length or (task.max_length if task else 0)
        where, remedy = f"teachers.{name}", f"set teachers.{name}.max_length to no more"
        check_positions(most_tokens(config_of(resolved["teachers"][name], read)), asked, where, remedy)
    static = params.student.layers == 0  # it counts no positions
    base = None if static else most_tokens(config_of(resolved["student"], read))
    for role, task in tasks.items():
        if task is not None:
            where, remedy = f"data.{role}.task", "set it to no more, or take another student.base"
            check_positions(base, task.max_length, where, remedy)

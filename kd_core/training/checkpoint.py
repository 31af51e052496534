"""A training run frozen in one object: tensors and position together, so that a reader never sees a mixture."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim import Optimizer

Curves = dict[str, list[list[float]]]
"""Name → points [optimizer step, value]."""


@dataclass
class Position:
    """Where a training run is; plain numbers only."""

    epoch: int = 0
    """Epochs finished."""
    batch: int = 0
    """Batches of the current epoch finished."""
    step: int = 0
    """Optimizer steps made."""
    best: float | None = None
    """Best validation score so far."""
    best_epoch: int = 0
    stopped: bool = False
    """Whether patience ran out."""
    curves: Curves = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the losses since the last point of their curves."""
    summed: int = 0
    """Steps in `sums`."""


def pack(model: nn.Module, optimizer: Optimizer, best: dict[str, Tensor], position: Position, identity: str) -> bytes:
    """A safetensors file: weights, optimizer tensors, best weights, random states; the position in its header."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    header = {"position": json.dumps(asdict(position)), "identity": identity}
    return bytes(save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, header))


def identity_of(data: bytes) -> str:
    """The `identity` that a packed run was given."""
    return str(_header(data)["identity"])


def unpack(data: bytes, model: nn.Module, optimizer: Optimizer) -> tuple[Position, dict[str, Tensor]]:
    """Put a packed run back: weights, optimizer and random states in place; returns position and best weights."""
    tensors = load_tensors(data)
    model.load_state_dict(_below("model", tensors))
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below("optimizer", tensors).items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    return Position(**json.loads(_header(data)["position"])), _below("best", tensors)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def _header(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    return dict(json.loads(data[8 : 8 + length])["__metadata__"])

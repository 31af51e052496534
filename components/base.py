"""The declaration of a stage, and how its process starts, reports progress and ends.

`python -m components.STAGE [ITEM…]` runs one stage in the current folder; the words after the module name are the
stage's items (a data role, a teacher's name). A component's declaration and its entry in dvc.yaml must agree; a test
compares them.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from kd_core.config.base import SectionType, parse
from kd_core.runtime.errors import InvalidDataError, MissingOutputError, ParamsError, report_error
from kd_core.runtime.names import check_name
from kd_core.runtime.progress import Progress
from kd_core.runtime.quiet import QUIET
from kd_core.runtime.storage import Storage

WAIT_POLICY = "PASSIVE"
"""OpenMP threads sleep at barriers. Spinning gains little on an idle machine. On a shared machine a spinning thread
takes the core from the thread it waits for: with a competitor on two cores a training step took four times as long."""

_PLACEHOLDER = re.compile(r"\{([a-z_.]+)\}")


@dataclass(frozen=True)
class Component:
    """The interface of one stage, with placeholders in paths and keys that depend on an item or on params.yaml.

    `{teacher}` is the item, `{pretrain.live_teacher}` a value of params.yaml, `{teacher.data}` the value of `data` in
    the item's section, `teachers.<item>`.
    """

    stage: str
    """Name in dvc.yaml, before any `@`."""
    items: tuple[str, ...] = ()
    """Names of the command's arguments: `role`, `teacher`."""
    params: tuple[str, ...] = ()
    """Keys of params.yaml that the stage may read."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name → path of an output of another stage."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Name → path that this stage writes; a path with a suffix is a file, any other a folder."""


class Context:
    """What a running stage may use: its params, inputs, outputs, resumable state and progress."""

    def __init__(self, component: Component, items: Mapping[str, str], root: Path = Path()) -> None:
        self._component = component
        self.items = dict(items)
        self._root = root
        self._params = _read_params(root / "params.yaml")
        self.progress = Progress.from_environment("@".join([component.stage, *items.values()]))
        state = os.environ.get("KD_STATE")
        self.state: Storage | None = Storage(state) if state else None
        """Storage of unfinished work between tries; None if nothing survives the process."""
        self.store_url: str = os.environ.get("KD_STORE_URI", str(root / ".kd" / "store"))
        """Root of the score store and the split ledgers."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the declared inputs."""
        return tuple(self._component.inputs)

    def _fill(self, template: str) -> str:
        def value(match: re.Match[str]) -> str:
            item, _, rest = match[1].partition(".")
            if item not in self.items:
                return str(self._lookup(match[1]))
            return str(self._lookup(f"{item}s.{self.items[item]}.{rest}")) if rest else self.items[item]

        return _PLACEHOLDER.sub(value, template)

    def _lookup(self, key: str) -> Any:
        value: Any = self._params
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise ParamsError(f"params.yaml: no key {key!r}")
            value = value[part]
        return value

    def value(self, key: str) -> Any:
        """The plain value of a declared key (or of a key below it)."""
        declared = [self._fill(name) for name in self._component.params]
        if not any(key == name or key.startswith(f"{name}.") for name in declared):
            raise ParamsError(f"{self._component.stage} reads {key!r} without declaring it")
        return self._lookup(key)

    def section(self, key: str, model: type[SectionType]) -> SectionType:
        """A declared key, validated as `model`."""
        return parse(model, self.value(key), key)

    def input(self, name: str) -> Path:
        """Path of a declared input. Raises InvalidDataError if it does not exist."""
        path = self._root / self._fill(self._component.inputs[name])
        if not path.exists():
            raise InvalidDataError(f"{path}: missing; run the stage that writes it")
        return path

    def output(self, name: str) -> Path:
        """Path of a declared output; a folder is created."""
        path = self._root / self._fill(self._component.outputs[name])
        (path.parent if path.suffix else path).mkdir(parents=True, exist_ok=True)
        return path

    def check_outputs(self) -> None:
        """Raises MissingOutputError for an output that was not written."""
        for template in self._component.outputs.values():
            path = self._root / self._fill(template)
            if not path.exists() or (path.is_dir() and not any(path.iterdir())):
                raise MissingOutputError(f"{self._component.stage} did not write {path}")


def _read_params(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path.absolute()}: missing; start stages from a workspace that has it") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: must hold a mapping of sections")
    return values


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def run(component: Component, main: Callable[[Context], None], argv: Sequence[str] | None = None) -> None:
    """Run `main` in this process and exit with its status; the entry point of every component module."""
    os.environ.update(QUIET)
    os.environ.setdefault("OMP_WAIT_POLICY", WAIT_POLICY)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    for talkative in ("onnx_ir", "onnxscript"):  # they log a line for each node of a graph
        logging.getLogger(talkative).setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, _terminate)
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if len(words) != len(component.items):
            raise ParamsError(f"usage: python -m components.{component.stage} {' '.join(component.items).upper()}")
        items = {key: check_name(word, key) for key, word in zip(component.items, words, strict=True)}
        context = Context(component, items)
        main(context)
        context.check_outputs()
    except Exception as error:
        raise SystemExit(report_error(error)) from None

"""What this machine has worked out before, kept below KD_HOME: the newest answer of each kind, for the same inputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from kd_core.runtime.files import to_json, write_whole
from kd_core.runtime.fingerprint import of_value
from kd_ops.base.settings import Settings

FOLDER = "remembered"


def remembered(
    kind: str, inputs: Any, makers: Iterable[ModuleType], make: Callable[[], Any], settings: Settings
) -> Any:
    """What `make()` gives for `inputs`, made only if the last answer of this `kind` was for others.

    Inputs and answer are JSON values. `makers` are the modules that decide the answer: an edit of one counts as other
    inputs. A file that is damaged or cannot be written costs time and nothing else.
    """
    path = settings.home / FOLDER / f"{kind}.json"
    asked = of_value({"inputs": inputs, "makers": [_source(module) for module in makers]})
    kept = _read(path)
    if kept.get("asked") == asked:
        return kept["answer"]
    answer = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, to_json({"asked": asked, "answer": answer}))
    except OSError:
        pass
    return answer


def _source(module: ModuleType) -> str:
    return sha256(Path(str(module.__file__)).read_bytes()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) and "answer" in kept else {}

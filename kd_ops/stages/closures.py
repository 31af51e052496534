"""The code that each stage runs: `code/STAGE.json`, the one entry for code in a stage's dependencies.

The file says path → digest for every file that the stage's module imports, directly or not: its packages'
`__init__.py` and the data files of these packages (templates) included. It is made once, when a run starts, and kept
with the run's code, so that every worker computes the same key. Digests of Python files do not see comments,
docstrings and formatting (kd_ops/stages/syntax.py); data files count byte by byte.

The classes of params are left out: `resolve` validates and writes out every value, and a stage's key has those that the
stage lists. This holds while these modules have fields and validators only, a validator leaves alone what it has let
through before, and no stage relies on a default (tests/kd_ops/stages/test_params_classes.py).

What a module loads by a name that it makes up at run time is not seen; a test compares the lists with grimp's graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import PurePosixPath

from kd_core.runtime.files import to_json
from kd_ops.base.documents import from_yaml
from kd_ops.stages.syntax import Source, read

PARAMS_CLASSES = frozenset(
    f"kd_core/config/{name}.py" for name in ("data", "evaluation", "params", "student", "teachers", "training")
)
"""Files that are in no key; what else kd_core/config has is code."""

FOLDER = "code"
"""Folder of the lists, in a run's code and in a workspace."""


def code_lists(code: Mapping[str, bytes]) -> dict[str, bytes]:
    """`code/STAGE.json` for each stage of dvc.yaml, before any `@`, whose module is part of `code` (path → content).

    Raises ParamsError naming a file that is not valid Python.
    """
    library = _Library(code)
    closures = {stage: library.closure(module) for stage, module in _modules(code["dvc.yaml"]).items()}
    return {f"{FOLDER}/{stage}.json": to_json(files) for stage, files in closures.items() if files}


def is_code_list(dep: str) -> bool:
    """Whether a dependency is the list of a stage's code."""
    path = PurePosixPath(dep)
    return path.parent == PurePosixPath(FOLDER) and path.suffix == ".json"


class _Library:
    """Modules among the files of `code`; a file that several stages import is read once."""

    def __init__(self, code: Mapping[str, bytes]) -> None:
        self._code = code
        self._sources: dict[str, Source] = {}
        self._data = [(path, _owner(path, code)) for path in code if not path.endswith(".py")]

    def closure(self, module: str) -> dict[str, str]:
        """Path → digest of the files that `module` needs, itself included; empty if it is no file of the code."""
        found: dict[str, str] = {}
        waiting = [module]
        while waiting:
            name = waiting.pop()
            path = self._file(name)
            if path is None or path in found or path in PARAMS_CLASSES:
                continue
            source = self._source(path)
            found[path] = source.digest
            waiting += [*_parents(name), *source.imports]
        packages = {path.rpartition("/")[0] for path in found}
        data = {path: sha256(self._code[path]).hexdigest() for path, owner in self._data if owner in packages}
        return dict(sorted((found | data).items()))

    def _file(self, module: str) -> str | None:
        path = module.replace(".", "/")
        return next((name for name in (f"{path}.py", f"{path}/__init__.py") if name in self._code), None)

    def _source(self, path: str) -> Source:
        if path not in self._sources:
            self._sources[path] = read(path, self._code[path])
        return self._sources[path]


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _owner(path: str, code: Mapping[str, bytes]) -> str | None:
    """The innermost package that a data file lies in."""
    folders = (parent.as_posix() for parent in PurePosixPath(path).parents)
    return next((folder for folder in folders if f"{folder}/__init__.py" in code), None)


def _modules(dvc_yaml: bytes) -> dict[str, str]:
    """Stage → the module of its command `python -m MODULE …`."""
    stages = from_yaml(dvc_yaml).get("stages") or {}
    commands = {name: str(body.get("do", body).get("cmd", "")).split() for name, body in stages.items()}
    return {name: words[2] for name, words in commands.items() if words[:2] == ["python", "-m"] and len(words) > 2}

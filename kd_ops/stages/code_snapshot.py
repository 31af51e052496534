"""The code that a run's stages see: kept in the store under its content, so that all of them see the same.

The project may be edited while a run goes on, and another worker may hold another version of it: a stage gets neither.
A run names its code by a digest, `resolved.code` in its params.yaml. No stage lists that key, so it is in no stage's
key: what did not change hits the cache from any run. Code that is in the store already costs a look and no upload.
"""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.runtime.files import write_whole
from kd_core.runtime.fingerprint import of_value
from kd_core.runtime.storage import Storage
from kd_ops.base.paths import inside
from kd_ops.base.remembered import remembered
from kd_ops.base.settings import Settings, is_local
from kd_ops.runs.runs import Run
from kd_ops.stages import closures, syntax

FOLDER = "code"
CODE = (
    "dvc.yaml",
    ".dvcignore",
    "components",
    "kd_core",
    "teachers/none",
    "scores/pretraining/.gitkeep",
    "scores/reference/.gitkeep",
)
"""What of the project a stage may see. The last three stand in for teachers and scores that a run does without."""

Code = Mapping[str, bytes]
"""Path below the project → content."""


def code_files(project: Path) -> list[str]:
    """Paths of the code below `project`, without what .dvcignore names. Raises ParamsError without a dvc.yaml."""
    from pathspec import PathSpec  # a stage that only reads the code does without

    if not (project / "dvc.yaml").is_file():
        raise ParamsError(f"{project}: no dvc.yaml here; KD_PROJECT names the project's folder")
    ignore = project / ".dvcignore"
    lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
    spec = PathSpec.from_lines("gitwildmatch", [*lines, "__pycache__", "*.py[co]"])
    found: list[str] = []
    for name in CODE:
        root = project / name
        paths = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        found += [path.relative_to(project).as_posix() for path in paths]
    return [name for name in found if not spec.match_file(name)]


def project_code(settings: Settings) -> Code:
    """The code as it lies in the project now, and the list of what each stage imports. Raises ParamsError."""
    files = {name: (settings.project / name).read_bytes() for name in code_files(settings.project)}
    lists = remembered("code", [sys.version, contents(files)], (closures, syntax), lambda: _texts(files), settings)
    return files | {name: text.encode() for name, text in lists.items()}


def _texts(files: Code) -> dict[str, str]:
    return {name: content.decode() for name, content in closures.code_lists(files).items()}


def contents(code: Code) -> dict[str, str]:
    """Path → hash of the content."""
    return {name: sha256(content).hexdigest() for name, content in code.items()}


def digest(code: Code) -> str:
    """Hash over paths and contents."""
    return of_value(contents(code))


def keep(code: Code, store_uri: str) -> None:
    """Put the code into the store unless it is there; then it counts as young, so that `kd gc` leaves it alone."""
    store, name = Storage(store_uri), _name(digest(code))
    if store.renew(name):
        return
    store.write(name, _packed(code))


def _packed(code: Code) -> bytes:
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        for path, content in code.items():
            archive.writestr(ZipInfo(path), content, ZIP_DEFLATED)  # without the time of day
    return buffer.getvalue()


def kept_code(kept: str, store_uri: str) -> Code:
    """The code that `keep` put away.

    Raises InvalidDataError if the store has lost it. Damaged code is deleted, so that the next run puts it there again.
    """
    store, name = Storage(store_uri), _name(kept)
    try:
        code = _unpacked(store.read(name))
    except FileNotFoundError:
        raise InvalidDataError(f"the code of the run ({name}) is not in the store; start a new run") from None
    if code is None or digest(code) != kept:
        store.delete(name)
        raise InvalidDataError(f"the code of the run ({name}) is damaged in the store and was deleted; start a new run")
    return code


def _unpacked(archived: bytes) -> Code | None:
    """The files of an archive; None if it is damaged."""
    try:
        with ZipFile(io.BytesIO(archived)) as archive:
            return {path: archive.read(path) for path in archive.namelist()}
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        return None


def code_of(run: Run, settings: Settings) -> Code:
    """The code that the run was started with. Raises ParamsError for a run that keeps none, InvalidDataError."""
    kept = _digest_of(run)
    if kept is None:
        raise ParamsError(f"run {run.id} keeps no code to run; start a new run")
    if is_local(settings.store_uri):
        return kept_code(kept, settings.store_uri)
    return _fetched_once(kept, settings)


def _fetched_once(kept: str, settings: Settings) -> Code:
    """As `kept_code`; this machine keeps a copy below KD_HOME, which counts only if it is whole."""
    here = settings.home / _name(kept)
    known = _unpacked(here.read_bytes()) if here.is_file() else None
    if known is not None and digest(known) == kept:
        return known
    code = kept_code(kept, settings.store_uri)
    here.parent.mkdir(parents=True, exist_ok=True)
    write_whole(here, _packed(code))
    return code


def names_of(run: Run) -> set[str]:
    """Names in the store of the code that the run keeps."""
    kept = _digest_of(run)
    return {_name(kept)} if kept else set()


def place(code: Code, folder: Path) -> Path:
    """Write the code below `folder`, with normal modes; the folder."""
    for name, content in code.items():
        target = inside(folder, name, "the code of the run")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o644)
    return folder


def stage_names(run: Run, settings: Settings) -> list[str]:
    """The stages that the run goes through, in order."""
    from kd_ops.stages.graph import Graph

    with TemporaryDirectory() as scratch:
        files = {"dvc.yaml": code_of(run, settings)["dvc.yaml"], "params.yaml": run.params_document()}
        return list(Graph.of_run(run, place(files, Path(scratch))).stages)


def _digest_of(run: Run) -> str | None:
    kept: str | None = run.params().get("resolved", {}).get("code")
    return kept


def _name(kept: str) -> str:
    return f"{FOLDER}/{kept}.zip"

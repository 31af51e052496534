"""Registered versions brought to this machine, and the process that has them answer texts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_core.runtime.errors import ParamsError
from kd_ops.base.processes import ProcessError
from kd_ops.base.settings import Settings
from kd_ops.registry.registry import MODEL_FOLDER, by_alias, connect, version
from kd_ops.serving.description import Description, described_by_inference_json

_DOOR = Path("kd_core/serving/__main__.py")
"""`python -m kd_core.serving COMMAND` answers where a version's own code has this file."""
_OLD_DOORS = {"predict": "kd_core.inference.predict", "calibrate": "kd_core.serving.calibrate"}
"""The modules that versions of earlier releases have in its place."""

_UNKNOWN = re.compile(r"error: unrecognized arguments: (.+)")
"""What argparse says of options that a version's own code does not have."""


@dataclass(frozen=True)
class ServedModel:
    """A student on this machine and the code that reads it."""

    student: Path
    """What the export stage wrote."""
    code: Path
    """Folder with the kd_core that it was registered with; for a plain folder, the project."""

    def predict(self, arguments: Sequence[str], texts: str | None = None, costs: Path | None = None) -> str:
        """Have the version answer in a process of its own, with its own code; what it printed.

        Its notes, on standard error, are passed on.

        :param arguments: words after `--model FOLDER`
        :param texts: for its standard input
        :param costs: folder of this machine's timings; none: answers follow from the model alone, as a judge needs it
        :raises ModelProcessError: with the process's status and last words
        :raises ParamsError: the version's own code has no such option
        """
        return self._run("predict", arguments, texts, costs)

    def calibrate(self, costs: Path) -> str:
        """Time the graphs on this machine, into the folder `costs`; what was printed. Raises ModelProcessError."""
        return self._run("calibrate", costs=costs)

    def described(self) -> Description:
        """What the version says of itself. Raises ModelProcessError, or InvalidDataError for a damaged folder."""
        if self._has_door:
            return Description.of(json.loads(self._run("describe")))
        return described_by_inference_json(self.student)

    @property
    def _has_door(self) -> bool:
        return (self.code / _DOOR).is_file()

    def _run(
        self, command: str, arguments: Sequence[str] = (), texts: str | None = None, costs: Path | None = None
    ) -> str:
        module = ["kd_core.serving", command] if self._has_door else [_OLD_DOORS[command]]
        words = [sys.executable, "-m", *module, "--model", str(self.student), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(self.code), "PYTHONDONTWRITEBYTECODE": "1"}
        environment["KD_COSTS"] = str(costs or "")
        done = subprocess.run(
            words, cwd=self.code, env=environment, input=texts or "", capture_output=True, text=True, check=False
        )
        if done.returncode and (unknown := _UNKNOWN.search(done.stderr)):
            options = ", ".join(word for word in unknown[1].split() if word.startswith("--"))
            raise ParamsError(
                f"{options}: this version answers with the code of the release that registered it, which has no such "
                "option; leave it out, or register the student anew"
            )
        if done.returncode:
            raise ModelProcessError(done.returncode, done.stderr)
        for line in done.stderr.splitlines():
            if line.startswith("note: "):
                print(line, file=sys.stderr)
        return done.stdout

    def check_dial(self) -> None:
        """Raises ParamsError for a version from before exits were calibrated: its code knows no dial and no log."""
        if not self.described().dial:
            raise ParamsError(
                f"{self.student}: registered before exits were calibrated, so it takes no wish and no --log; "
                "give --threshold, or register it again"
            )

    def as_named(self, columns: Sequence[str]) -> list[str]:
        """Words for `predict` that have these columns read as they are called, whatever the training data said.

        None for a version that knows no other names: the code that it came with may not know the words either.
        """
        renamed = self.described().columns
        return [word for name in columns if renamed for word in ("--column", f"{name}={name}")]


class ModelProcessError(ProcessError):
    """The process that runs a model ended badly."""

    def __init__(self, status: int, stderr: str) -> None:
        super().__init__(status, stderr, "the model's process")


def serve(uri: str, settings: Settings) -> ServedModel:
    """The student behind `models:/name@alias`, `models:/name/version` or a local folder.

    A version is downloaded once and kept below KD_HOME/served. Raises ParamsError for what does not exist.
    """
    if not uri.startswith("models:/"):
        folder = Path(uri).expanduser().absolute()
        if not folder.is_dir():
            raise ParamsError(f"--model {uri}: no such folder, and no models:/NAME@ALIAS or models:/NAME/VERSION")
        return ServedModel(folder, settings.project)
    return serve_version(_by_uri(connect(settings), uri), settings)


def serve_version(found: Any, settings: Settings) -> ServedModel:
    """Fetch a version, whole or not at all; it is kept for the next time."""
    target = settings.home / "served" / str(found.name) / f"{found.version}-{found.creation_timestamp}"
    if not target.is_dir():
        _download(f"models:/{found.name}/{found.version}", target)
    return ServedModel(target / "artifacts" / MODEL_FOLDER, target / "code")


def _download(source: str, target: Path) -> None:
    import mlflow

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        fetched = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=scratch))
        for part in (f"artifacts/{MODEL_FOLDER}", "code/kd_core"):
            if not (fetched / part).is_dir():
                raise ParamsError(f"{source} has no {part}: kd-pipelines did not register it")
        whole = Path(scratch) / "whole"
        shutil.copytree(fetched, whole)
        try:
            whole.rename(target)
        except OSError:  # ENOTEMPTY or EEXIST: somebody was faster
            if not target.is_dir():
                raise


def _by_uri(client: Any, uri: str) -> Any:
    rest = uri.removeprefix("models:/").strip("/")
    if "@" in rest:
        name, alias = rest.split("@", 1)
        found = by_alias(client, name, alias)
        if found is None:
            raise ParamsError(f"{uri}: no version of {name!r} has the alias {alias!r}")
        return found
    name, _, number = rest.partition("/")
    if not number:
        raise ParamsError(f"{uri}: say models:/NAME@ALIAS or models:/NAME/VERSION")
    return version(client, name, number)

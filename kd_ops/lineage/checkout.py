"""`kd checkout`: a run as a folder that plain DVC understands, to look at with its own commands.

The project's own folder is none: its params.yaml lacks what recipe and `resolve` add, and no run writes a dvc.lock
there, since runs go on side by side.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from kd_core.runtime.errors import ParamsError
from kd_ops.base.documents import to_yaml
from kd_ops.base.settings import Settings
from kd_ops.runs.runs import Run
from kd_ops.stages import inputs
from kd_ops.stages.code_snapshot import code_of
from kd_ops.stages.graph import Graph
from kd_ops.stages.machine import MACHINE, write_machine
from kd_ops.stages.workspace import fill

LINKS = "reflink,copy"
"""No hard links, as in a stage's workspace: here a person may write into a file, which must not be the cache's own."""


def checkout(run: Run, folder: Path, settings: Settings) -> None:
    """Write the run's code, params, lock, local inputs and DVC settings into `folder`, which must be new or empty.

    `dvc pull` there brings what the stages wrote. Raises ParamsError if the folder is in use, InvalidDataError if
    the store has lost the code or an input.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ParamsError(f"{folder}: exists and is not empty; name a new folder")
    code, params = code_of(run, settings), run.params_document()
    try:
        fill(folder, settings, params, code, LINKS)
        (folder / "dvc.lock").write_bytes(to_yaml({"schema": "2.0", "stages": run.locks()}))
        inputs.lay_out(inputs.mentioned(run.params()), settings.store_uri, folder)
        if any(MACHINE in stage.deps for stage in Graph.load(folder).stages.values()):
            write_machine(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise

"""A run laid out for DVC itself: whole, in a new folder, and found up to date."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_ops.lineage.checkout import checkout
from kd_ops.stages import inputs
from tests.helpers.bridge_stages import compute, list_machine
from tests.helpers.miniature import Miniature


def test_plain_dvc_finds_a_finished_run_up_to_date(mini: Miniature, tmp_path: Path) -> None:
    """One graph, two runners: the bridge's lock fragments are what DVC itself would have written."""
    run, folder = mini.run("first"), tmp_path / "plain"
    compute(mini, run)
    (mini.project / "kd_core/numbers.py").write_text("edited since")
    checkout(run, folder, mini.settings())
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def dvc(*words: str) -> str:
        command = [sys.executable, "-m", "dvc", *words]
        return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout

    assert json.loads(dvc("metrics", "show", "--json"))[""]["data"]["metrics.json"]["data"] == {"files": 2}
    assert '"make@a" -> "join";' in dvc("dag", "--dot")
    dvc("pull")
    assert "up to date" in dvc("status")
    assert (folder / "joined/all.txt").stat().st_nlink == 1, "whoever writes here must not write into the cache"
    (folder / "dvc.lock").unlink()
    shutil.rmtree(folder / "parts")
    dvc("pull", "--run-cache", "--allow-missing")
    assert "is cached" in dvc("repro", "make@a")


def test_a_run_is_laid_out_whole_in_a_new_folder_or_not_at_all(mini: Miniature, tmp_path: Path) -> None:
    rows, folder = tmp_path / "rows.csv", tmp_path / "plain"
    rows.write_text("text")
    address = inputs.snapshot(rows, mini.store_uri).address
    list_machine(mini)
    run = mini.run("first", join={"separator": address})
    folder.mkdir()
    checkout(run, folder, mini.settings())
    assert (folder / address).read_text() == "text"
    assert (folder / "machine.json").is_file()
    with pytest.raises(ParamsError, match="not empty"):
        checkout(run, folder, mini.settings())
    shutil.rmtree(Path(mini.store_uri, address).parent)
    with pytest.raises(InvalidDataError):
        checkout(run, tmp_path / "other", mini.settings())
    assert not (tmp_path / "other").exists()

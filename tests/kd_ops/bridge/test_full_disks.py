"""Disks that are full or read-only, of a worker or of the store: status 75, and what to do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kd_ops.bridge.stage_run import run_stage
from tests.helpers.miniature import Miniature


def test_a_full_disk_is_75_and_says_so(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = mini.run()
    monkeypatch.setattr("kd_ops.stages.workspace.place", full)
    assert run_stage(run, "make@a", mini.settings()) == 75
    assert "free space" in capsys.readouterr().err


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own; chmod would not stop root, and a made-up error is not what libraries raise."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs privileges that this user does not have")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


DISKS = [("size=64k", "free space"), ("ro", "writable")]


@pytest.mark.parametrize(("options", "advice"), DISKS)
@pytest.mark.parametrize("library", ["safetensors", "pyarrow", "open"])
def test_a_component_on_a_full_or_read_only_disk_ends_with_75(
    tmp_path: Path, library: str, options: str, advice: str
) -> None:
    with disk(tmp_path / "disk", options) as folder:
        (tmp_path / "params.yaml").write_text("{}\n")
        command = [sys.executable, "-c", WRITER, library, str(folder / "file")]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 75, done.stderr
    assert advice in done.stderr
    assert "Traceback" not in done.stderr


WRITER = """\
import sys
import numpy
from components.base import Component, run
library, path = sys.argv[1:]
values = numpy.random.default_rng(0).random(100_000)
def write(context):
    if library == "safetensors":
        from safetensors.numpy import save_file
        save_file({"values": values}, path)
    elif library == "pyarrow":
        import pyarrow, pyarrow.parquet
        pyarrow.parquet.write_table(pyarrow.table({"values": values}), path)
    else:
        open(path, "wb").write(values.tobytes())
run(Component("writer"), write, [])
"""


@pytest.mark.parametrize(("options", "advice"), DISKS)
def test_a_store_on_a_full_or_read_only_disk_is_75(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, advice: str
) -> None:
    with disk(tmp_path / "store", "size=64k") as folder:
        mini = Miniature(tmp_path / "mini", store_uri=str(folder))
        run = mini.run(sizes={"a": "x" * 50_000, "b": 1})
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
        assert run_stage(run, "make@a", mini.settings()) == 75
    errors = capsys.readouterr().err
    assert advice in errors
    assert "Traceback" not in errors

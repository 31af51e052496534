"""The smaller commands, `kd show` and `kd checkout`, and how little the command line imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kd_core.runtime.errors import ParamsError
from kd_ops.base.settings import PROJECT, Settings
from tests.helpers.calling import invoke
from tests.helpers.fabricated import finished_run


def test_show_prints_json_that_parses(settings: Settings) -> None:
    finished_run(settings, "one")
    result = invoke("show", "one", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["run"] == "one"
    assert isinstance(invoke("show", "two").exception, ParamsError)


def test_a_run_is_laid_out_for_dvc(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_run(settings, "one")
    monkeypatch.chdir(tmp_path)
    assert invoke("checkout", "one").exit_code == 0
    assert {"dvc.yaml", "dvc.lock", "params.yaml", ".dvc", "kd_core"} <= {path.name for path in Path("one").iterdir()}
    assert isinstance(invoke("checkout", "one").exception, ParamsError)
    assert invoke("checkout", "one", "elsewhere/one").exit_code == 0
    assert isinstance(invoke("checkout", "none").exception, ParamsError)


def test_help_is_fast_because_nothing_heavy_is_imported() -> None:
    code = "import sys, kd_ops.cli; print(sorted({'mlflow', 'dvc', 'torch', 'pandas', 'airflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout.strip() == "[]"

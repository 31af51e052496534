"""A run's code: kept when it starts, used to its end, and part of a stage's key as far as the stage lists it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kd_ops.base.documents import to_yaml
from kd_ops.bridge.stage_run import run_stage
from kd_ops.runs.objects import Objects
from kd_ops.runs.runs import Run, StageRecord
from tests.helpers.bridge_stages import compute
from tests.helpers.miniature import Miniature


def test_changed_code_that_the_stage_imports_is_a_miss_and_any_other_a_hit(mini: Miniature) -> None:
    compute(mini, mini.run("first"), "make@a")
    (mini.project / "components/join.py").write_text("raise SystemExit(1)\n")
    assert compute(mini, mini.run("second"), "make@a") == [True]
    (mini.project / "kd_core/numbers.py").write_text("def number(size):\n    return 'changed'\n")
    assert compute(mini, mini.run("third"), "make@a") == [False]


def test_code_that_is_edited_during_a_run_is_the_next_runs(mini: Miniature) -> None:
    run = mini.run("first")
    compute(mini, run, "make@a")
    numbers = mini.project / "kd_core/numbers.py"
    numbers.write_text("def number(size):\n    return 'changed'\n")
    (mini.project / "dvc.yaml").write_text("stages: {}\n")
    shutil.rmtree(mini.project / "components")
    compute(mini, run, "make@b")
    assert text_of(mini, run, "make@b", "parts/b") == "222"
    mini.restore("dvc.yaml", "components/make.py")
    second = mini.run("second")
    assert compute(mini, second, "make@b") == [False]
    assert text_of(mini, second, "make@b", "parts/b") == "changed"


def text_of(mini: Miniature, run: Run, stage: str, out: str) -> str:
    """The number that a stage wrote."""
    files = Objects(mini.settings()).listing((run.stage(stage) or StageRecord("")).outs[out])
    return Objects(mini.settings()).read(files["number.txt"]).decode()


def test_unchanged_code_is_kept_once_and_hits_the_cache(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    first = mini.run("first")
    compute(mini, first, "make@a")
    (kept,) = Path(mini.store_uri, "code").iterdir()
    monkeypatch.setattr("kd_ops.stages.code_snapshot.ZipFile", lambda *_: pytest.fail("packed again"))
    second = mini.run("second")
    monkeypatch.undo()
    assert compute(mini, second, "make@a") == [True]
    assert list(Path(mini.store_uri, "code").iterdir()) == [kept]


@pytest.mark.parametrize("damage", ["lost", "other", "broken"])
def test_code_that_the_store_has_lost_is_65_and_the_next_run_puts_it_back(
    mini: Miniature, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = mini.run("first")
    (kept,) = Path(mini.store_uri, "code").iterdir()
    (mini.project / "kd_core/numbers.py").write_text("other")
    mini.run("second")
    (other,) = set(Path(mini.store_uri, "code").iterdir()) - {kept}
    content = {"lost": None, "other": other.read_bytes(), "broken": kept.read_bytes()[:-30]}[damage]
    kept.unlink()
    if content is not None:
        kept.write_bytes(content)
    assert run_stage(run, "make@a", mini.settings()) == 65
    said = "is not in the store" if damage == "lost" else "is damaged in the store and was deleted"
    assert f"code/{kept.name}) {said}; start a new run" in capsys.readouterr().err
    mini.restore("kd_core/numbers.py")
    assert run_stage(mini.run("third"), "make@a", mini.settings()) == 0


def test_a_run_that_keeps_no_code_is_refused(mini: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    run = mini.run()
    run.storage.write("params.yaml", to_yaml({key: value for key, value in run.params().items() if key != "resolved"}))
    assert run_stage(run, "make@a", mini.settings()) == 64
    assert "start a new run" in capsys.readouterr().err


def test_bytecode_and_file_modes_are_not_part_of_a_key(mini: Miniature) -> None:
    (mini.project / "components/make.py").chmod(0o777)
    compute(mini, mini.run("first"), "make@a")
    (mini.project / "kd_core/__pycache__").mkdir()
    (mini.project / "kd_core/__pycache__/numbers.cpython-311.pyc").write_bytes(b"bytecode")
    for path in mini.project.rglob("*.py"):
        path.chmod(0o755)
    assert compute(mini, mini.run("second"), "make@a") == [True]

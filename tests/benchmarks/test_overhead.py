"""The comparison of a cached run with another build: medians, and a refusal where a stage was computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import overhead
from benchmarks.overhead import Cost, cached_run, ratios
from kd_core.runtime.errors import TryAgainError


def test_ratios_are_of_medians() -> None:
    ours, theirs = [Cost(1, 2, 2), Cost(3, 4, 2), Cost(90, 90, 2)], [Cost(6, 8, 2)]
    assert ratios(ours, theirs) == {
        "wall clock of a cached run (s)": (3, 6, 0.5),
        "CPU of a cached run (s)": (4, 8, 0.5),
        "CPU a stage (s)": (2, 4, 0.5),
    }


@pytest.mark.parametrize(
    ("said", "status"),
    [("= a  unchanged, computed in run x", 1), ("✓ a  3.0 s\n= b  unchanged, computed in run x", 0), ("nothing", 0)],
)
def test_a_run_that_is_not_all_cached_is_refused(tmp_path: Path, said: str, status: int) -> None:
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\nexit {status}\n")
    python.chmod(0o755)
    with pytest.raises(TryAgainError, match="not a cached one"):
        cached_run(tmp_path, [])


def test_a_cached_run_counts_its_stages(tmp_path: Path) -> None:
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho '= a  unchanged, computed in run x'\necho '= b  unchanged, computed in run x'\n")
    python.chmod(0o755)
    assert cached_run(tmp_path, []).stages == 2


def test_words_after_two_dashes_are_those_of_both_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Path, list[str]]] = []

    def run(project: Path, words: list[str]) -> Cost:
        asked.append((project, words))
        return Cost(1.0, 2.0, 1)

    monkeypatch.setattr(overhead, "cached_run", run)
    assert overhead.main([str(tmp_path), "--this", "/", "--repeats", "1", "--", "--recipe", "tiny"]) == 0
    assert asked == [(tmp_path, ["--recipe", "tiny"]), (Path("/"), ["--recipe", "tiny"])]
    assert capsys.readouterr().out.count("ratio 1.00") == 3

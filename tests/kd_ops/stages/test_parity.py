"""dvc.yaml, the components' declarations and the code that a stage imports must say the same."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from components.base import Component
from kd_ops.registering.training_record import SPLITS as RECORDED
from tests.conftest import PROJECT

STAGES: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
ITEM = re.compile(r"\$\{(item\.)?([a-z_.]+)\}")
ROLES = ("pretraining", "reference")


def body(stage: str) -> dict[str, Any]:
    return STAGES[stage].get("do", STAGES[stage])


def module_name(stage: str) -> str:
    return str(body(stage)["cmd"].split()[2])


def component(stage: str) -> Component:
    module = importlib.import_module(module_name(stage))
    if hasattr(module, "COMPONENTS"):
        return {c.stage: c for c in module.COMPONENTS.values()}[stage]
    return module.COMPONENT


def normal(text: str) -> str:
    """`${key}`, `${item.teacher}` and `{teacher}` are one notation; so are `${item.data}` and `{teacher.data}`."""
    text = ITEM.sub(lambda m: "{teacher.data}" if m[0] == "${item.data}" else "{" + m[2] + "}", text)
    return text.replace("{key}", "{teacher}")


def is_code(dep: str) -> bool:
    return dep.startswith(("components/", "kd_core/"))


def paths(entries: list[Any]) -> set[str]:
    return {normal(next(iter(e)) if isinstance(e, dict) else e) for e in entries}


@pytest.mark.parametrize("stage", STAGES)
def test_declared_interface_is_the_stage_in_dvc_yaml(stage: str) -> None:
    declared, stage_body = component(stage), body(stage)
    assert declared.stage == stage
    role = {"role": stage.removeprefix("score_")} if stage.startswith("score_") else {}
    fill = lambda text: text.replace("{role}", role["role"]) if role else text  # noqa: E731
    data_deps = {normal(d) for d in stage_body.get("deps", []) if not is_code(d)} - {"machine.json"}
    assert {fill(p) for p in declared.inputs.values()} - {"machine.json"} == data_deps
    outs = paths(stage_body.get("outs", [])) | paths(stage_body.get("metrics", []))
    assert {fill(p) for p in declared.outputs.values()} == outs
    params = {normal(p) for p in stage_body.get("params", [])}
    assert {fill(p) for p in declared.params} == {p for p in params if not p.startswith("resolved.versions.")}


@pytest.mark.parametrize("stage", STAGES)
def test_no_parameter_reaches_a_command(stage: str) -> None:
    words = body(stage)["cmd"].split()
    assert words[:2] == ["python", "-m"]
    for word in words[3:]:
        assert "$" not in word or re.fullmatch(r"\$\{(item\.(role|teacher)|key)\}", word)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("kd_core", "components", cache_dir=None)


def closure(graph: grimp.ImportGraph, stage: str) -> set[str]:
    """Files that the stage's module imports, directly or not, their packages, and the templates that they name."""
    start = module_name(stage)
    modules = graph.find_upstream_modules(start) | {start}
    for module in list(modules):
        parts = module.split(".")
        modules |= {".".join(parts[:n]) for n in range(1, len(parts))}
    files = set()
    for module in modules:
        path = Path(*module.split("."))
        file = path / "__init__.py" if (PROJECT / path).is_dir() else path.with_suffix(".py")
        files.add(file.as_posix())
    for file in [PROJECT / name for name in files]:
        if "templates" in file.read_text(encoding="utf-8"):
            files |= {path.relative_to(PROJECT).as_posix() for path in file.parent.glob("templates/*")}
    return files - {"kd_core/__init__.py", "components/__init__.py"}


def covers(dep: str, file: str) -> bool:
    return file == dep or file.startswith(f"{dep}/")


@pytest.mark.parametrize("stage", STAGES)
def test_imports_are_covered_by_the_listed_code(stage: str, graph: grimp.ImportGraph) -> None:
    listed = [d for d in body(stage)["deps"] if is_code(d)]
    missing = {f for f in closure(graph, stage) if not any(covers(d, f) for d in listed)}
    assert not missing, f"{stage}: a change of these would go unnoticed: {sorted(missing)}"


@pytest.mark.parametrize("stage", STAGES)
def test_no_code_is_listed_that_the_stage_does_not_import(stage: str, graph: grimp.ImportGraph) -> None:
    files = closure(graph, stage)
    idle = [d for d in body(stage)["deps"] if is_code(d) and not any(covers(d, f) for f in files)]
    assert not idle, f"{stage}: a change of these would recompute it for nothing: {idle}"


ALLOWED = {
    "train": {"validate", "teach", "score_pretraining", "score_reference", "pretrain", "finetune", "baseline"},
    "unlabelled": {"validate", "score_pretraining", "score_reference", "pretrain", "finetune", "self_distill"},
    "valid": {"validate", "teach", "score_reference", "finetune", "baseline"},
    "calibration": {"validate", "export", "measure"},
    "test": {"validate", "evaluate"},
}


@pytest.mark.parametrize("split", ALLOWED)
def test_only_these_stages_may_read_a_split(split: str) -> None:
    readers = {
        stage
        for stage in STAGES
        for path in component(stage).inputs.values()
        if path.endswith(f"/{split}.parquet") or (path.startswith("data/checked") and not Path(path).suffix)
    }
    assert readers - {"validate"} <= ALLOWED[split] - {"validate"}


def test_a_version_s_record_of_training_texts_covers_what_its_stages_read() -> None:
    """All but validate, which hands rows on, and evaluate and measure, which look at the student that there is."""
    read = {
        Path(path).stem
        for stage in set(STAGES) - {"validate", "evaluate", "measure"}
        for path in component(stage).inputs.values()
        if path.startswith("data/checked/") and path.endswith(".parquet")
    }
    assert read <= set(RECORDED)
    assert "test" not in RECORDED


def test_run_cache_is_complete() -> None:
    """No `persist` (such stages write no run-cache entry) and no metric outside the cache (a clone would retrain)."""
    for stage in STAGES:
        for key in ("outs", "metrics", "plots"):
            for entry in body(stage).get(key, []):
                options = next(iter(entry.values())) if isinstance(entry, dict) else {}
                assert options.get("cache", True) is True
                assert not options.get("persist", False)

"""dvc.yaml, the components' declarations and the code that a stage imports must say the same."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from components.base import Component
from kd_ops.base.settings import Settings
from kd_ops.registering.training_record import SPLITS as RECORDED
from kd_ops.stages.closures import PARAMS_CLASSES, is_code_list
from kd_ops.stages.code_snapshot import Code, project_code
from tests.conftest import PROJECT

STAGES: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
ITEM = re.compile(r"\$\{(item\.)?([a-z_.]+)\}")
ROLES = ("pretraining", "reference")


def body(stage: str) -> dict[str, Any]:
    return STAGES[stage].get("do", STAGES[stage])


def module_name(stage: str) -> str:
    return str(body(stage)["cmd"].split()[2])


def component(stage: str) -> Component:
    return importlib.import_module(module_name(stage)).COMPONENT


def normal(text: str) -> str:
    """`${key}`, `${item.teacher}` and `{teacher}` are one notation; so are `${item.data}` and `{teacher.data}`."""
    text = ITEM.sub(lambda m: "{teacher.data}" if m[0] == "${item.data}" else "{" + m[2] + "}", text)
    return text.replace("{key}", "{teacher}")


def paths(entries: list[Any]) -> set[str]:
    return {normal(next(iter(e)) if isinstance(e, dict) else e) for e in entries}


@pytest.mark.parametrize("stage", STAGES)
def test_declared_interface_is_the_stage_in_dvc_yaml(stage: str) -> None:
    declared, stage_body = component(stage), body(stage)
    assert declared.stage == stage
    data_deps = {normal(d) for d in stage_body.get("deps", []) if not is_code_list(d)} - {"machine.json"}
    assert set(declared.inputs.values()) - {"machine.json"} == data_deps
    outs = paths(stage_body.get("outs", [])) | paths(stage_body.get("metrics", []))
    assert set(declared.outputs.values()) == outs
    params = {normal(p) for p in stage_body.get("params", [])}
    assert set(declared.params) == {p for p in params if not p.startswith("resolved.versions.")}


@pytest.mark.parametrize("stage", STAGES)
def test_no_parameter_reaches_a_command(stage: str) -> None:
    words = body(stage)["cmd"].split()
    assert words[:2] == ["python", "-m"]
    for word in words[3:]:
        assert "$" not in word or re.fullmatch(r"\$\{(item\.(role|teacher)|key)\}", word)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    graph = grimp.build_graph("kd_core", "components", exclude_type_checking_imports=True, cache_dir=None)
    for path in PARAMS_CLASSES:
        graph.remove_module(path.removesuffix(".py").replace("/", "."))
    return graph


def imported(graph: grimp.ImportGraph, stage: str) -> set[str]:
    """Files that the stage's module imports, directly or not, and their packages."""
    start = module_name(stage)
    modules = graph.find_upstream_modules(start) | {start}
    for module in list(modules):
        parts = module.split(".")
        modules |= {".".join(parts[:n]) for n in range(1, len(parts))}
    paths = (Path(*module.split(".")) for module in modules)
    return {(p / "__init__.py" if (PROJECT / p).is_dir() else p.with_suffix(".py")).as_posix() for p in paths}


@pytest.fixture(scope="module")
def code() -> Code:
    return project_code(Settings())


@pytest.mark.parametrize("stage", STAGES)
def test_the_one_line_of_code_is_the_exact_import_closure(stage: str, graph: grimp.ImportGraph, code: Code) -> None:
    assert [d for d in body(stage)["deps"] if is_code_list(d)] == [f"code/{stage}.json"]
    assert not [d for d in body(stage)["deps"] if d.startswith(("components", "kd_core"))]
    listed = set(json.loads(code[f"code/{stage}.json"]))
    assert {file for file in listed if file.endswith(".py")} == imported(graph, stage)


def test_the_report_s_template_is_code_of_the_report_alone(code: Code) -> None:
    name = "kd_core/evaluation/report/templates/report.html.j2"
    assert [stage for stage in STAGES if name in json.loads(code[f"code/{stage}.json"])] == ["report"]


ALLOWED = {
    "train": {"validate", "teach", "score_pretraining", "score_reference", "pretrain", "finetune", "baseline"},
    "unlabelled": {"validate", "score_pretraining", "score_reference", "pretrain", "finetune", "self_distill"},
    "valid": {"validate", "teach", "score_reference", "finetune", "baseline", "export"},
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

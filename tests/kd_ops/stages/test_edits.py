"""What an edit of the project computes anew: the table of edits, on the real dvc.yaml and recipe `route`.

An instance is named where its own key changes: its command, its params, its code. What reads its outputs follows only
where these come out differently.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd_ops.base.documents import from_yaml, to_yaml
from kd_ops.base.settings import Settings
from kd_ops.resolving.merge import merged_params, recipe_path
from kd_ops.stages.closures import code_lists, is_code_list
from kd_ops.stages.code_snapshot import Code, project_code
from kd_ops.stages.graph import Graph
from kd_ops.stages.keys import listed_params
from kd_ops.stages.versions import installed_versions
from tests.conftest import PROJECT

Edit = Callable[[str], str]
TEACHERS = ("minilm_l6", "minilm_l4")
INGEST = {"ingest@pretraining", "ingest@reference"}
VALIDATE = {"validate@pretraining", "validate@reference"}
TEACH = {f"teach@{name}" for name in TEACHERS}
SCORE = {f"score_{role}@{name}" for role in ("pretraining", "reference") for name in TEACHERS}
TRAINED = {"pretrain", "finetune", "self_distill", "baseline"}
SERVED = {"export", "evaluate", "measure"}
ALL = INGEST | VALIDATE | TEACH | SCORE | TRAINED | SERVED | {"update", "report"}


def statement(text: str) -> str:
    return text + "\n_EDITED = True\n"


def comment(text: str) -> str:
    return "# edited\n" + text + "\n# edited\n"


def docstring(text: str) -> str:
    return f'"""Edited."""\n{text}\n"""Edited."""\n'


def formatting(text: str) -> str:
    return ast.unparse(ast.parse(text))


CODE: list[tuple[str, str, Edit, set[str]]] = [
    ("a comment", "kd_core/training/loop.py", comment, set()),
    ("a docstring", "kd_core/runtime/errors.py", docstring, set()),
    ("another formatting", "kd_core/models/student.py", formatting, set()),
    ("a gate parameter's type", "kd_core/config/evaluation.py", statement, set()),
    ("a teacher parameter's type", "kd_core/config/teachers.py", statement, set()),
    ("a DAG file", "dags/distill.py", statement, set()),
    ("an operation", "kd_ops/bridge/stage_run.py", statement, set()),
    ("the report's template", "kd_core/evaluation/report/templates/report.html.j2", statement, {"report"}),
    ("a message of the checks", "kd_core/data/checks/validation.py", statement, VALIDATE),
    ("a source of rows", "kd_core/data/sources/files.py", statement, INGEST),
    ("what every stage runs", "kd_core/runtime/errors.py", statement, ALL),
    ("the score table", "kd_core/teachers/score_table.py", statement, SCORE | {"pretrain", "finetune"}),
    ("what two components share", "components/scoring.py", statement, SCORE),
    ("a loss", "kd_core/tasks/loss/classification.py", statement, TEACH | TRAINED),
    ("a metric", "kd_core/tasks/metrics/classification.py", statement, {"evaluate"}),
    ("the timing", "kd_core/serving/speed/timing.py", statement, {"measure"}),
]

PARAMS: list[tuple[str, str, set[str]]] = [
    ("a gate parameter", "registry.name=other", set()),
    ("a weight of losses", "finetune.alpha=0.25", {"finetune"}),
    ("one teacher", "teachers.minilm_l4.max_length=32", {"teach@minilm_l4"}),
    ("a share of disagreements", "export.max_disagreement=0.02", {"export"}),
    ("thresholds", "evaluate.thresholds=[0.5]", {"evaluate", "measure"}),
    ("one data set", "data.pretraining.split.seed=7", {"ingest@pretraining", "validate@pretraining"}),
]

ASK = """\
import json
from pathlib import Path
from kd_ops.resolving.merge import merged_params, recipe_path
params = merged_params(Path("."), recipe_path("route", Path(".")), [], None)
print(json.dumps(params.model_dump(mode="json")))
"""


def values(project: Path, *overrides: str) -> dict[str, Any]:
    return merged_params(project, recipe_path("route", project), overrides, None).model_dump(mode="json")


def graph(params: dict[str, Any], dvc_yaml: bytes, folder: Path) -> Graph:
    """The stages of `dvc_yaml` for these params, as a run has them below `folder`."""
    resolved = {
        "data": dict.fromkeys(("pretraining", "reference")),
        "teachers": dict.fromkeys(params["teachers"]),
        "student": None,
        "versions": installed_versions(),
    }
    folder.mkdir()
    (folder / "dvc.yaml").write_bytes(dvc_yaml)
    (folder / "params.yaml").write_bytes(to_yaml({**params, "resolved": resolved}))
    return Graph.load(folder)


def words(stages: Graph, folder: Path) -> dict[str, Any]:
    """Stage instance → its command, the values of its params, what it depends on."""
    document = from_yaml((folder / "params.yaml").read_bytes())
    return {name: (stage.cmd, listed_params(document, stage), stage.deps) for name, stage in stages.stages.items()}


def lists(code: Code, stages: Graph) -> dict[str, Any]:
    """Stage instance → the digests of its code."""
    made = code_lists(code)
    return {name: [made[dep] for dep in stage.deps if is_code_list(dep)] for name, stage in stages.stages.items()}


@pytest.fixture(scope="module")
def code() -> Code:
    return project_code(Settings())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("before") / "run"


@pytest.fixture(scope="module")
def stages(code: Code, folder: Path) -> Graph:
    return graph(values(PROJECT), code["dvc.yaml"], folder)


@pytest.fixture(scope="module")
def listed(code: Code, stages: Graph) -> dict[str, Any]:
    return lists(code, stages)


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_the_recipe_has_the_instances_that_the_tables_are_about(stages: Graph) -> None:
    assert set(stages.stages) == ALL


@pytest.mark.parametrize(("what", "path", "edit", "expected"), CODE, ids=[row[0] for row in CODE])
def test_an_edit_of_code(
    what: str, path: str, edit: Edit, expected: set[str], code: Code, stages: Graph, listed: dict[str, Any]
) -> None:
    edited = edit((PROJECT / path).read_text(encoding="utf-8")).encode()
    after = {**code, path: edited} if path in code else code  # what is no code of stages is not in a run's code
    assert changed(listed, lists(after, stages)) == expected


@pytest.mark.parametrize(("what", "override", "expected"), PARAMS, ids=[row[0] for row in PARAMS])
def test_an_edit_of_params(
    what: str, override: str, expected: set[str], code: Code, stages: Graph, folder: Path, tmp_path: Path
) -> None:
    after = graph(values(PROJECT, override), code["dvc.yaml"], tmp_path / "run")
    assert changed(words(stages, folder), words(after, tmp_path / "run")) == expected


def test_a_comment_in_dvc_yaml_changes_nothing(code: Code, stages: Graph, folder: Path, tmp_path: Path) -> None:
    after = graph(values(PROJECT), comment(code["dvc.yaml"].decode()).encode(), tmp_path / "run")
    assert words(after, tmp_path / "run") == words(stages, folder)


def test_a_changed_default_changes_the_keys_of_the_stages_that_list_it(
    code: Code, stages: Graph, listed: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    """The classes of params are in no key; the values that they fill in are."""
    project = tmp_path / "project"
    for name in ("kd_core", "kd_ops", "recipes"):
        shutil.copytree(PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "params.yaml", project)
    path, decay = project / "kd_core/config/training.py", "weight_decay: Annotated[float, Field(ge=0)] = 0.0"
    text = path.read_text(encoding="utf-8")
    assert f"{decay}1" in text
    path.write_text(text.replace(f"{decay}1", f"{decay}2"), encoding="utf-8")
    asked = [sys.executable, "-c", ASK]
    said = subprocess.run(asked, cwd=project, env={"PYTHONPATH": str(project)}, capture_output=True, check=True)
    after = graph(json.loads(said.stdout), code["dvc.yaml"], tmp_path / "run")
    assert changed(words(stages, folder), words(after, tmp_path / "run")) == TEACH | TRAINED
    assert lists({**code, "kd_core/config/training.py": path.read_bytes()}, stages) == listed


def test_new_texts_for_pre_training_do_not_validate_the_labelled_data_again(stages: Graph) -> None:
    read = {role: {need.path for need in stages.needs(f"validate@{role}")} for role in ("pretraining", "reference")}
    assert read["reference"] == {"data/raw/reference"}
    assert read["pretraining"] == {"data/raw/pretraining", "data/raw/reference"}

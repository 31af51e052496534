"""The list of a stage's code: what its module imports, and nothing else."""

from __future__ import annotations

import json

import pytest

from kd_core.runtime.errors import ParamsError
from kd_ops.stages.closures import code_lists

CODE = {
    "dvc.yaml": """\
stages:
  one: {cmd: python -m components.one}
  two@: {cmd: python -m components.score role}
  three: {foreach: [a], do: {cmd: "python -m components.score ${item}"}}
  other: {cmd: echo hello}
""",
    "components/__init__.py": "",
    "components/one.py": "from kd_core.a import thing\n",
    "components/score.py": "import kd_core.b\n",
    "kd_core/__init__.py": "",
    "kd_core/broken.py": "def",
    "kd_core/a/__init__.py": "",
    "kd_core/a/thing.py": "from kd_core.a import other\n",
    "kd_core/a/other.py": "from kd_core.a import thing\n",
    "kd_core/a/unused.py": "",
    "kd_core/a/templates/page.j2": "<html>",
    "kd_core/b.py": "import json\n",
    "teachers/none/readme": "",
}


def lists(**changes: str) -> dict[str, dict[str, str]]:
    code = {path: content.encode() for path, content in (CODE | changes).items()}
    return {path: json.loads(content) for path, content in code_lists(code).items()}


def test_a_stage_lists_its_imports_their_packages_and_data_files() -> None:
    assert list(lists()["code/one.json"]) == [
        "components/__init__.py",
        "components/one.py",
        "kd_core/__init__.py",
        "kd_core/a/__init__.py",
        "kd_core/a/other.py",
        "kd_core/a/templates/page.j2",
        "kd_core/a/thing.py",
    ]


def test_several_stages_of_one_component_have_a_list_each_and_other_commands_none() -> None:
    found = lists()
    assert set(found) == {"code/one.json", "code/two@.json", "code/three.json"}
    assert found["code/two@.json"] == found["code/three.json"]


def test_a_template_counts_byte_by_byte_and_a_comment_does_not() -> None:
    before = lists()
    assert lists(**{"kd_core/a/thing.py": CODE["kd_core/a/thing.py"] + "# why\n"}) == before
    after = lists(**{"kd_core/a/templates/page.j2": "<html >"})
    assert [path for path in before if before[path] != after[path]] == ["code/one.json"]


def test_a_broken_file_is_named_only_where_a_stage_imports_it() -> None:
    assert lists()
    with pytest.raises(ParamsError, match=r"kd_core/broken\.py, line 1: not valid Python"):
        lists(**{"kd_core/b.py": "import kd_core.broken\n"})

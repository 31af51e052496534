"""Resolve: what is merged, and what may and may not stand in a run's params."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import EntryNotFoundError

from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_ops.base.documents import from_yaml, to_yaml
from kd_ops.base.settings import PROJECT, Settings
from kd_ops.resolving.addresses import Addresses
from kd_ops.resolving.merge import merge
from kd_ops.resolving.resolve import ANSWER_BYTES, answer, main, resolve
from kd_ops.stages import inputs
from kd_ops.stages.code_snapshot import code_of
from kd_ops.stages.graph import Graph
from kd_ops.stages.workspace import workspace
from tests.helpers.recipes import ROWS, bring, machine


def test_a_run_has_every_key_that_the_stages_list(settings: Settings) -> None:
    run = resolve("route", settings=settings)
    values = run.params()
    with workspace(settings, run.params_document(), code_of(run, settings)) as folder:
        graph = Graph.load(folder)
    for stage in graph.stages.values():
        for key in stage.params:
            value: Any = values
            for part in key.split("."):
                assert part in value, f"{stage.name}: {key}"
                value = value[part]
    assert set(values["resolved"]) == {"data", "teachers", "student", "versions", "code"}
    teacher = values["resolved"]["teachers"]["minilm_l6"]
    assert teacher["sha256"].startswith("53aa5117")
    assert "+" not in values["resolved"]["versions"]["training"]["torch"]


def test_overrides_beat_the_recipe_and_are_parsed_as_yaml(settings: Settings, tmp_path: Path) -> None:
    recipe = bring(tmp_path / "own")
    overrides = ["finetune.alpha=0.25", "evaluate.thresholds=[0.0, 0.5]", "student.layers=3"]
    values = resolve(recipe, overrides, settings=settings).params()
    assert values["finetune"]["alpha"] == 0.25
    assert values["evaluate"]["thresholds"] == [0.0, 0.5]
    assert values["student"]["layers"] == 3
    assert list(values["teachers"]) == ["mine"], "null takes a default teacher out"


def test_another_kind_of_source_replaces_the_former_whole() -> None:
    before = {"source": {"kind": "botocore", "services": ["s3"]}, "split": {"train": 1, "test": 2}}
    after = merge(before, {"source": {"kind": "files", "path": "x"}, "split": {"train": 3}})
    assert after == {"source": {"kind": "files", "path": "x"}, "split": {"train": 3, "test": 2}}


def test_small_files_of_hub_models_are_read_at_their_commit(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")

    def download(name: str, file: str, revision: str) -> str:
        assert (name, revision) == ("org/model", "abc")
        if not (tmp_path / file).is_file():
            raise EntryNotFoundError("none")
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    record = {"address": "org/model", "revision": "abc"}
    assert Addresses(settings, []).read(record, "tokenizer.json") == b"{}"
    assert Addresses(settings, []).read(record, "config.json") is None


def test_no_path_of_the_machine_enters_the_params(settings: Settings, tmp_path: Path) -> None:
    """The same files elsewhere give the same params, so the same keys."""
    first = resolve(bring(tmp_path / "here"), name="first", settings=settings)
    second = resolve(bring(tmp_path / "there"), name="second", settings=machine(tmp_path, "other"))
    assert str(tmp_path) not in first.params_document().decode()
    assert first.params_document() == second.params_document()
    changed = resolve(bring(tmp_path / "changed", ROWS + "a third,one\n"), name="third", settings=settings)
    assert changed.params()["data"] != first.params()["data"]
    assert changed.params()["teachers"] == first.params()["teachers"]


def test_local_inputs_are_laid_out_where_the_params_say(settings: Settings, tmp_path: Path) -> None:
    run = resolve(bring(tmp_path / "own"), settings=settings)
    shutil.rmtree(tmp_path / "own")
    values = run.params()
    folder = tmp_path / "workspace"
    inputs.lay_out(inputs.mentioned(values), settings.store_uri, folder)
    assert (folder / values["data"]["reference"]["source"]["path"]).read_text() == ROWS
    weights = folder / values["resolved"]["teachers"]["mine"]["address"]
    assert (weights / "model.safetensors").read_bytes() == b"weights"
    assert values["teachers"]["mine"]["weights"] == values["resolved"]["teachers"]["mine"]["address"]


def test_a_missing_data_file_is_named(settings: Settings, tmp_path: Path) -> None:
    recipe = bring(tmp_path / "own")
    with pytest.raises(InvalidDataError, match=r"nowhere\.csv"):
        resolve(recipe, ["data.reference.source.path=nowhere.csv"], settings=settings)


def test_resolving_a_run_again_returns_it_and_other_words_are_refused(settings: Settings, tmp_path: Path) -> None:
    recipe = bring(tmp_path / "own")
    first = resolve(recipe, ["finetune.alpha=0.3"], name="same", settings=settings)
    created = first.info()["created"]
    (tmp_path / "own/rows.csv").write_text(ROWS + "more,one\n")
    again = resolve(recipe, ["finetune.alpha=0.3"], name="same", settings=settings)
    assert (again.uri, again.info()["created"]) == (first.uri, created)
    with pytest.raises(ParamsError, match="same"):
        resolve(recipe, ["finetune.alpha=0.4"], name="same", settings=settings)


def test_a_run_is_resolved_once_whatever_code_the_next_machine_has(settings: Settings, tmp_path: Path) -> None:
    """`kd run` resolves at the user's, the scheduler's first task does it again on a worker."""
    run = resolve("route", name="same", settings=settings)
    document = run.params_document()
    project = tmp_path / "project"
    for name in ("components", "kd_core", "recipes", "teachers/none"):
        shutil.copytree(PROJECT / name, project / name)
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(PROJECT / name, project)
    (project / "kd_core/extra.py").write_text("")
    worker = dataclasses.replace(machine(tmp_path, "worker"), project=project)
    assert resolve("route", name="same", settings=worker).params_document() == document
    assert "kd_core/extra.py" not in code_of(run, worker)
    assert "kd_core/extra.py" in code_of(resolve("route", name="own", settings=worker), worker)


def test_a_recipe_by_name_by_default_and_by_file_is_one_request(settings: Settings) -> None:
    runs = [
        resolve(recipe, name="one", settings=settings) for recipe in ("route", None, PROJECT / "recipes/route.yaml")
    ]
    assert len({run.uri for run in runs}) == 1


def test_a_schedulers_run_name_is_made_harmless_and_told_apart_by_recipe(settings: Settings, tmp_path: Path) -> None:
    name = "scheduled__2026-01-01T00:00:00+00:00"
    run = resolve(bring(tmp_path / "own"), name=name, settings=settings)
    assert run.id == "own-scheduled__2026-01-01T00-00-00-00-00"


def test_the_answer_is_printed_or_written_to_a_file(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KD_HOME", str(settings.home))
    words = ["--recipe", str(bring(tmp_path / "own")), "--run", "answered"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert main([*words, "--answer", str(tmp_path / "answer.json")]) == 0
    assert json.loads((tmp_path / "answer.json").read_text()) == said
    assert capsys.readouterr().out == ""
    assert said["run_uri"] == str(settings.home / "runs/answered")
    assert said["teachers"] == said["pretraining_teachers"] == said["reference_teachers"] == ["mine"]


def test_the_answer_names_as_many_settled_stages_as_a_pod_can_hand_over(settings: Settings, tmp_path: Path) -> None:
    run = resolve(bring(tmp_path / "own"), name="many", settings=settings)
    names = [f"score_reference@teacher_{number}" for number in range(200)]
    few, many = answer(run, names[:3]), answer(run, names)
    assert few["settled"] == names[:3]
    assert many["settled"] == names[: len(many["settled"])]
    assert 3500 < len(json.dumps(many)) <= ANSWER_BYTES


@pytest.mark.parametrize(
    "text", ["0o17", "1:30", "1e3", "on", "null", "~", "012", "-", "a: b", "été", "2026-01-01", ""]
)
def test_yaml_means_the_same_to_both_readers(text: str, tmp_path: Path) -> None:
    """PyYAML (the stages) reads YAML 1.1, ruamel (DVC) 1.2."""
    from ruamel.yaml import YAML

    values = {"key": text, text or "empty": 1, "number": 1e-05, "list": [text, 0.1, True, None]}
    document = to_yaml(values)
    assert from_yaml(document) == values
    assert YAML(typ="safe", pure=True).load(document.decode()) == values


def test_globs_stand_for_the_files_that_are_there_now(settings: Settings, tmp_path: Path) -> None:
    recipe = bring(tmp_path / "own")
    for name in ("part-0.csv", "part-1.csv", "part-2.txt"):
        shutil.copy(recipe.parent / "rows.csv", recipe.parent / name)
        with (recipe.parent / name).open("a") as file:
            file.write(f"about {name} and nothing else,{name}\n")
    overrides = ["data.reference.source.path=part-*"]
    values = resolve(recipe, overrides, settings=settings).params()
    assert [path.split("/")[-1] for path in values["data"]["reference"]["source"]["path"]] == [
        "part-0.csv",
        "part-1.csv",
    ]
    assert [Path(name).name for name in values["resolved"]["data"]["reference"]["left_out"]] == ["part-2.txt"]
    with pytest.raises(InvalidDataError, match=r"nothing-\*: no file that is read matches"):
        resolve(recipe, ["data.reference.source.path=nothing-*"], settings=settings)

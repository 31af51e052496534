"""What columns are taken for, what is noticed about rows, and which files have no recipe."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kd_core.config.data import CLASSIFICATION, MULTI_LABEL
from kd_core.data.profiling.columns import profiles
from kd_core.data.profiling.findings import Tokens
from kd_core.data.profiling.labels import label_warnings
from kd_core.data.profiling.overview import overview
from kd_core.data.profiling.places import files_by_split, split_named
from kd_core.data.profiling.proposal import propose
from kd_core.data.profiling.words import Findings, Overview, Request, Roles
from kd_core.runtime.errors import InvalidDataError
from tests.helpers.workspace import texts, write_csv

Rows = Sequence[Sequence[Any]]
SENTENCES = [text for text, _ in texts(300)]


def count(first: Sequence[str], second: Sequence[str] | None) -> list[int]:
    both = zip(first, second or [""] * len(first), strict=True)
    return [len(f"{one} {two}".split()) + 2 for one, two in both]


def look(*paths: Path, most: int | None = 512, guess: bool = False, **said: str) -> Overview:
    names = tuple(map(str, paths))
    request = Request(paths=names, base="none", said=Roles(**said), guess=guess)
    return overview(request, dict(zip(names, paths, strict=True)), lambda: Tokens(count, most))


def refusal(path: Path) -> str:
    """Why there is no recipe: an error, or a question that names no candidate."""
    try:
        (question,) = look(path).questions
    except InvalidDataError as error:
        return str(error)
    assert not question.candidates
    return question.why


def found(*paths: Path, **said: Any) -> Findings:
    findings = look(*paths, **said).findings
    assert findings is not None
    return findings


def roles_of(table: dict[str, list[Any]], **said: str) -> tuple[Roles, list[str]]:
    roles, questions = propose(profiles(pd.DataFrame(table)), Roles(**said), guess=False)
    return roles, [question.role for question in questions]


def cycle(values: Sequence[Any], n: int = 300) -> list[Any]:
    return [values[index % len(values)] for index in range(n)]


@pytest.mark.parametrize(
    ("columns", "text", "pair", "label", "asked"),
    [
        ({"body": SENTENCES, "queue": cycle("ab")}, "body", None, "queue", []),
        ({"id": range(300), "body": SENTENCES, "queue": cycle("ab")}, "body", None, "queue", []),
        ({"body": SENTENCES, "label": cycle("ab"), "year": cycle([2023, 2024])}, "body", None, "label", []),
        ({"title": SENTENCES, "note": SENTENCES, "label": cycle("ab")}, None, None, "label", ["text"]),
        ({"text": SENTENCES, "area": cycle("ab"), "queue": cycle("cd")}, "text", None, None, ["label"]),
        ({"premise": SENTENCES, "hypothesis": SENTENCES, "label": cycle("ab")}, "premise", "hypothesis", "label", []),
        ({"text": SENTENCES, "intent": SENTENCES}, "text", None, None, ["label"]),
        ({"text": SENTENCES, "tags": cycle([["a"], [], ["a", "b"]])}, "text", None, "tags", []),
        ({"text": SENTENCES, "meta": cycle([{"a": 1}]), "label": cycle("ab")}, "text", None, "label", []),
        ({"sentence": cycle(SENTENCES[:150]), "label": cycle("ab")}, "sentence", None, "label", []),
    ],
)
def test_columns_are_told_by_names_and_cells(
    columns: dict[str, list[Any]], text: str | None, pair: str | None, label: str | None, asked: list[str]
) -> None:
    roles, questions = roles_of(columns)
    assert (roles.text, roles.text_pair, roles.label) == (text, pair, label)
    assert questions == asked


def test_what_was_said_counts_and_is_checked() -> None:
    table = {"title": SENTENCES, "note": SENTENCES, "area": cycle("ab"), "queue": cycle("cd")}
    assert roles_of(table, text="note", label="area") == (Roles(text="note", label="area"), [])
    with pytest.raises(InvalidDataError, match=r"no column 'body' for --text \(there: 'title', 'note', 'area'"):
        roles_of(table, text="body")
    with pytest.raises(InvalidDataError, match=r"column 'note' has another value in every row, as an id"):
        roles_of(table, text="title", label="note")


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (cycle(["red|blue", "red", "blue", "red|green"]), "|"),
        (cycle(["red;blue", "red", "blue;green", ""]), ";"),
        (cycle(["red, blue", "red", "blue", "green", "red, green", "blue, green"]), ","),
        (cycle(["Credit cards, prepaid cards and loans", "Mortgage, home loan or other debt", "Other"]), None),
        (cycle(["red", "blue"]), None),
    ],
)
def test_several_labels_a_cell_are_noticed(cells: list[str], separator: str | None) -> None:
    assert profiles(pd.DataFrame({"tags": cells}))[0].separator == separator


def test_examples_are_one_line_each() -> None:
    (profile,) = profiles(pd.DataFrame({"text": ["one\ntwo\u2028three\x07"]}))
    assert profile.examples == ("one two three\N{REPLACEMENT CHARACTER}",)


def test_labels_are_looked_at() -> None:
    counts = {"billing": 950, "outage": 20, "Billing ": 19, "other": 5, "once": 1}
    warnings = "\n".join(label_warnings(counts, "queue", listed=False, min_accuracy=0.7))
    assert "labels differ only by case, spaces or signs: 'billing' and 'Billing '" in warnings
    assert "1 label has one row only" in warnings
    assert "1 label has fewer than 10 rows: 'other'" in warnings
    assert "95% of the rows have the label 'billing'" in warnings
    assert "no less than gate.min_accuracy asks" in warnings
    assert not list(label_warnings({"a": 60, "b": 50}, "queue", listed=False, min_accuracy=0.7))
    uneven = list(label_warnings({"a": 3000, "b": 2500, "c": 20}, "queue", listed=False, min_accuracy=0.7))
    assert uneven == [
        "labels are uneven: 'a' has 3,000 rows, 'c' 20; look at macro-F1 beside accuracy",
    ]
    assert "may hold free text" in next(label_warnings({"x" * 70: 30, "y" * 70: 30}, "q", False, None))


def test_rows_are_read_split_and_counted_as_a_run_does(tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [*texts(300), *[(f"no label {n} here q{n}", None) for n in range(20)], texts(1)[0]]
    findings = found(write_csv(tmp_path / "rows.csv", rows))
    assert findings.kind == CLASSIFICATION
    assert (findings.rows, findings.unlabelled) == (321, 20)
    assert findings.labels == {"billing": 101, "delivery": 100, "returns": 100}
    assert findings.repeated == 1
    assert findings.near >= 2
    assert sum(findings.sizes.values()) == 321
    assert findings.sizes["unlabelled"] == 20
    assert findings.max_length % 8 == 0 or findings.max_length == 16
    assert findings.tolerance == {}


def test_max_length_fits_nearly_all_texts_and_the_base(tmp_path: Path) -> None:
    rows = [(f"{text} {'word ' * (100 if n < 30 else 0)}", label) for n, (text, label) in enumerate(texts(300))]
    path = write_csv(tmp_path / "rows.csv", rows)
    findings = found(path)
    assert findings.max_length == 112
    assert findings.tokens["longest"] <= findings.max_length
    assert found(path, most=64).max_length == 64


def test_rows_that_cannot_be_used_are_told_and_tolerated(tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [*texts(300), *[("", "billing")] * 6, *[("a text here", " ")] * 9]
    findings = found(write_csv(tmp_path / "rows.csv", rows))
    assert findings.warnings[0] == "9 × label blank, 6 × text missing: set aside, not lost"
    assert findings.faulty == {"reference": 15, "pretraining": 6}
    assert findings.tolerance == {"reference": 0.06, "pretraining": 0.03}
    assert " " not in findings.labels


def test_repeated_ids_are_left_aside(tmp_path: Path) -> None:
    rows = [(n % 100, text, label) for n, (text, label) in enumerate(texts(300))]
    overview = look(write_csv(tmp_path / "rows.csv", rows, ("id", "text", "label")))
    assert overview.source["columns"]["id"] is None
    assert overview.findings is not None
    assert any("ids in column 'id' repeat" in warning for warning in overview.findings.warnings)


def test_contradictions_and_one_frequent_text_are_told(tmp_path: Path) -> None:
    rows = [*texts(300), *[("hello there", label) for label in ("billing", "returns") for _ in range(15)]]
    warnings = "\n".join(found(write_csv(tmp_path / "rows.csv", rows)).warnings)
    assert "1 texts have rows with different labels (30 rows)" in warnings
    assert "30 of 330 rows have the same text: 'hello there'" in warnings


def test_several_labels_a_row(tmp_path: Path) -> None:
    tags = cycle(["red|blue", "red", "blue|green", "green", ""])
    path = write_csv(tmp_path / "rows.csv", list(zip(SENTENCES, tags, strict=True)), ("text", "tags"))
    overview = look(path)
    assert overview.roles.separator == "|"
    findings = found(path)
    assert findings.kind == MULTI_LABEL
    assert findings.unlabelled == 60
    assert findings.labels == {"blue": 120, "green": 120, "red": 120}


def test_files_of_splits_are_told_by_their_names(tmp_path: Path) -> None:
    rows = texts(300)
    write_csv(tmp_path / "train.csv", rows[:200])
    write_csv(tmp_path / "dev.csv", rows[200:250])
    (tmp_path / "LICENSE").write_text("free")
    assert files_by_split(tmp_path) == {"valid": ["dev.csv"], "train": ["train.csv"]}
    findings = found(tmp_path)
    assert findings.sizes["valid"] == 50
    assert look(tmp_path / "train.csv", tmp_path / "dev.csv").source["path"]["valid"] == str(tmp_path / "dev.csv")
    write_csv(tmp_path / "more.csv", rows[250:])
    assert files_by_split(tmp_path) is None
    assert found(tmp_path).rows == 300


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("my_val.csv", "valid"),
        ("set-dev.jsonl.gz", "valid"),
        ("validation", "valid"),
        ("tickets.csv", None),
        ("train_test.csv", None),
        ("contest.csv", None),
    ],
)
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_named(name) == split


def test_a_test_file_without_labels_gives_texts(tmp_path: Path) -> None:
    rows = texts(300)
    write_csv(tmp_path / "train.csv", rows[:250])
    write_csv(tmp_path / "test.csv", [(text,) for text, _ in rows[250:]], ("text",))
    overview = look(tmp_path)
    assert set(overview.source["path"]) == {"train", "unlabelled"}
    assert overview.notes == ("test come without labels: used as texts without labels",)
    assert overview.findings is not None
    assert overview.findings.sizes["unlabelled"] == 50
    assert overview.findings.sizes["test"] > 0


def test_a_data_set_that_datasets_wrote(tmp_path: Path) -> None:
    """Numbers of classes become names; its splits become ours."""
    from datasets import ClassLabel, Dataset, Features, Value

    rows = texts(300)
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    for split, part in (("train", rows[:200]), ("validation", rows[200:])):
        values = {"text": [text for text, _ in part], "label": [n % 2 for n in range(len(part))]}
        path = tmp_path / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        Dataset.from_dict(values, features=features).to_parquet(path)
    overview = look(tmp_path)
    assert overview.source["kind"] == "huggingface"
    assert overview.source["splits"] == {"train": "train", "valid": "validation"}
    assert overview.findings is not None
    assert overview.findings.labels == {"no": 150, "yes": 150}


def test_many_rows_keep_a_part_of_their_labels(tmp_path: Path) -> None:
    random.seed(0)
    rows = [(f"{random.getrandbits(64):x} {random.getrandbits(64):x}", "ab"[n % 2]) for n in range(20_500)]
    findings = found(write_csv(tmp_path / "rows.csv", rows))
    assert findings.split == {"train": 10_000, "valid": 1_000, "calibration": 1_000, "test": 2_000}
    assert findings.looked_at < findings.rows
    assert findings.sizes["unlabelled"] == 6_500


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (("text",), [(text,) for text in SENTENCES], r"one column only \('text'\); a recipe needs texts and labels"),
        (("text", "label"), [("same text", "ab"[n % 2]) for n in range(50)], r"the same value in every row"),
        (("text", "label"), [(text, "a") for text in SENTENCES], r"'label' has one value only \('a'\)"),
        (("text", "label"), [(text, "ab"[n % 2]) for n, text in enumerate(SENTENCES[:6])], r"too few: nothing would"),
        (("text", "label"), [(text, None) for text in SENTENCES], r"'label' is empty"),
        (("text", "label"), [], "no rows"),
    ],
)
def test_files_that_no_recipe_fits(tmp_path: Path, header: tuple[str, ...], rows: Any, message: str) -> None:
    path = write_csv(tmp_path / "rows.csv", list(rows), header)
    assert re.search(message, refusal(path))


def test_labels_that_are_ids_or_free_text(tmp_path: Path) -> None:
    unique = write_csv(tmp_path / "unique.csv", [(text, f"L{n}") for n, text in enumerate(SENTENCES)])
    with pytest.raises(InvalidDataError, match=r"column 'label' has another value in every row"):
        look(unique, label="label")
    many = [(f"text number {n} of many", f"L{n % 1500}") for n in range(4500)]
    path = write_csv(tmp_path / "many.csv", many)
    with pytest.raises(InvalidDataError, match=r"1,500 different values in 4,500 rows, more than the 1,000 labels"):
        look(path, label="label")
    assert look(path).questions[0].role == "label"

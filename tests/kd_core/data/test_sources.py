"""Sources: service models, files, Hugging Face folders; and every way in which a file can be wrong."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from kd_core.config.data import BotocoreSource, HuggingFaceSource
from kd_core.data.sources.botocore_docs import label_names, read_botocore, read_models, request_from
from kd_core.data.sources.files import read_files
from kd_core.data.sources.huggingface import read_huggingface
from kd_core.data.sources.prose import first_sentence
from kd_core.runtime.errors import InvalidDataError, ParamsError
from tests.helpers.workspace import row_form, service_model


def source(dataset: str, services: list[str], **more: Any) -> BotocoreSource:
    return BotocoreSource.model_validate({"kind": "botocore", "dataset": dataset, "services": services, **more})


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    service_model(
        folder,
        "atlas",
        {
            "ListMaps": "<p>Lists the maps in the <code>atlas</code>.</p><p>More text.</p>",
            "DeleteMap": "<note><p>Take care.</p></note><p>Deletes one map of the atlas.</p>",
            "DeleteMaps": "<p>Deletes one map of the atlas.</p>",
            "TagResource": "<p>Adds tags to a resource.</p>",
            "DrawMap": "<p>Not supported for directory buckets.</p><p>Draws a map &amp; its legend.</p>",
            "Undocumented": "",
        },
        {
            "MapRequest": {"members": {"Name": {"documentation": "<p>The name of the map. Unique.</p>"}, "None": {}}},
            "MapReply": {"members": {"Title": {"documentation": "<p>The name of the map.</p>"}}},
        },
    )
    service_model(
        folder,
        "post",
        {"TagResource": "<p>Adds tags to a resource.</p>", "SendLetter": "<p>Sends a letter to a box.</p>"},
        serviceId="PostOffice",
        serviceFullName="Amazon Simple Post Service",
    )
    return folder


def test_operations_are_clean_and_twins_are_set_aside(models: Path) -> None:
    frame = read_botocore(source("operations", ["atlas", "post"]), models)
    assert frame.to_dict("records") == [
        {"id": "atlas/DeleteMap", "text": "Deletes one map of the atlas.", "label": "atlas"},
        {"id": "atlas/DrawMap", "text": "Draws a map & its legend.", "label": "atlas"},
        {"id": "atlas/ListMaps", "text": "Lists the maps in the atlas.", "label": "atlas"},
        {"id": "post/SendLetter", "text": "Sends a letter to a box.", "label": "post"},
    ]


def test_members_are_deduplicated_and_without_labels(models: Path) -> None:
    frame = read_botocore(source("members", ["atlas"]), models)
    assert frame[["id", "text"]].to_numpy().tolist() == [["atlas/MapReply.Title", "The name of the map."]]
    assert frame["label"].isna().all()


def test_pairs_have_the_nearest_description_of_the_same_service_as_negative(models: Path) -> None:
    frame = read_botocore(source("pairs", ["atlas", "post"]), models)
    asked = frame[frame["text"] == "list maps"].set_index("label")["text_pair"]
    assert asked["relevant"] == "Lists the maps in the atlas."
    assert asked["irrelevant"] in {"Deletes one map of the atlas.", "Draws a map & its legend."}
    assert not frame["id"].str.startswith("post/").any(), "a service with one description has no negative"
    by_text = pd.concat([frame[["text_pair", "link"]].rename(columns={"text_pair": "t"})])
    assert (by_text.groupby("t")["link"].nunique() == 1).all()


def test_limit_is_a_stable_choice(models: Path) -> None:
    every = read_botocore(source("operations", ["atlas", "post"]), models)["id"].tolist()
    two = read_botocore(source("operations", ["atlas", "post"], limit=2), models)["id"].tolist()
    three = read_botocore(source("operations", ["atlas", "post"], limit=3), models)["id"].tolist()
    assert set(two) < set(three) < set(every)


def test_a_wheel_is_read_without_being_installed(models: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "botocore-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in models.rglob("*.gz"):
            archive.write(path, f"botocore/data/{path.relative_to(models).as_posix()}")
    wanted = source("operations", ["atlas", "post"])
    pd.testing.assert_frame_equal(read_botocore(wanted, wheel), read_botocore(wanted, models))
    wheel.write_bytes(b"not a zip")
    with pytest.raises(InvalidDataError, match="not a wheel"):
        read_botocore(wanted, wheel)


def test_unknown_services_are_named(models: Path) -> None:
    with pytest.raises(ParamsError, match="no service nothere"):
        read_botocore(source("operations", ["atlas", "nothere"]), models)


@pytest.mark.parametrize(
    ("documentation", "sentence"),
    [
        ("<p>Uses e.g. a Foo. Then more.</p>", "Uses e.g. a Foo."),
        ("<p>Deletes it. It cannot be undone.</p>", "Deletes it. It cannot be undone."),
        ("<p>This API is in preview release. Gets the current state.</p>", "Gets the current state."),
        (
            "<p><b>This API works with the following fleet types:</b> EC2</p><p>Starts a new fleet.</p>",
            "Starts a new fleet.",
        ),
        ("<note><p>Only a note stands here.</p></note>", "Only a note stands here."),
        ("<p> Returns ( <code>x</code> ) , please . </p>", "Returns (x), please."),
        ("", ""),
    ],
)
def test_first_sentences(documentation: str, sentence: str) -> None:
    assert first_sentence(documentation) == sentence


def test_a_service_is_known_by_its_id_and_its_titles(models: Path) -> None:
    wanted = source("operations", ["atlas", "post"])
    found = label_names(read_models(wanted, models), wanted)
    assert found["atlas"] == ["atlas"]
    assert found["post"] == sorted(
        [
            "post",
            "post office",
            "amazon simple post service",
            "simple post service",
            "amazon simple post",
            "simple post",
        ]
    )
    assert label_names(read_models(wanted, models), source("pairs", ["atlas", "post"])) == {}, "labels are no services"


def test_requests_are_made_from_operation_names() -> None:
    assert request_from("ListPreparedStatements") == "list prepared statements"
    assert request_from("GetMFADevice2Arn") == "get MFA device 2 arn"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, columns: dict[Any, str] | None = None, pair: bool = False, labelled: bool = True) -> pd.DataFrame:
    return read_files({None: [path]}, row_form(columns, pair=pair, labelled=labelled))[0]


ROWS = [('hé, "quoted"\nline', "a"), ("👩‍🚀 שלום مرحبا", "b"), ("NA", "null")]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_all_formats_give_the_same_rows(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame(ROWS, columns=["sentence", "label"])
    path = tmp_path / f"rows.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "jsonl":
        write(path, "".join(json.dumps(dict(row)) + "\n" for row in frame.to_dict("records")))
    else:
        frame.to_parquet(path)
    found = read(path, {"text": "sentence"})
    assert found[["text", "label"]].to_numpy().tolist() == [list(row) for row in ROWS]
    assert found["id"].is_unique


def test_ids_come_from_the_content_and_twins_are_numbered(tmp_path: Path) -> None:
    found = read(write(tmp_path / "x.csv", "text,label\nsame,a\nsame,a\nother,a\n"))
    first, second, _ = found["id"]
    assert second == f"{first}-2"
    again = read(write(tmp_path / "y.csv", "text,label\nother,a\nsame,a\n"))
    assert set(again["id"]) < set(found["id"])


def test_integer_labels_and_missing_ones_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pd.DataFrame({"text": ["x", "y"], "label": pd.array([1, None], dtype="Int64")}).to_parquet(path)
    assert read(path)["label"].tolist() == ["1", None]


def test_a_file_a_split_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "1.csv", "text,label\none,a\n")
    write(tmp_path / "parts" / "2.csv", "text,label\ntwo,b\n")
    write(tmp_path / "more.jsonl", '{"text": "no label here"}\n')
    paths: dict[str | None, list[Path]] = {"train": [tmp_path / "parts"], "unlabelled": [tmp_path / "more.jsonl"]}
    found, _ = read_files(paths, row_form())
    assert found[["text", "split"]].to_numpy().tolist() == [
        ["one", "train"],
        ["two", "train"],
        ["no label here", "unlabelled"],
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", None, r"x.csv: no such file or folder; correct the `path`"),
        ("x.csv", "", r"x.csv: empty file"),
        ("x.csv", "text,label\n", r"x.csv: no rows"),
        (
            "x.csv",
            "body,label\nx,a\n",
            r"x.csv: no column 'text' \(there: 'body', 'label'\).*data.reference.source.columns.text",
        ),
        ("x.csv", "text,label\na,b,c\n", r"x.csv: line 2 has 3 cells \('a', 'b', 'c'\), the header has 2"),
        (
            "x.csv",
            b"text,label\ncaf\xe9 au lait, d\xe9j\xe0 vu,a\n",
            r"x.csv: not UTF-8: byte 14 \(line 2\) is 0xe9; .*save the file as UTF-8",
        ),
        ("x.csv", "text,label,text\na,b,c\n", r"x.csv: the header names 'text' more than once"),
        (
            "x.jsonl",
            '{"text": "\\ud83d\\ude00", "label": "a"}\n{"text": "\\ud800", "label": "a"}\n',
            r"x.jsonl: line 2: 'text' holds \\ud800, half of a surrogate pair",
        ),
        ("x.jsonl", '{"text": "x"\n', r"x.jsonl: line 1: not JSON"),
        ("x.jsonl", "[1]\n", r"x.jsonl: line 1: a JSON object is needed"),
        ("x.jsonl", "\n", r"x.jsonl: no rows"),
        ("x.parquet", "PAR1", r"x.parquet: not a readable Parquet file"),
        ("x.pkl", "x", r"x.pkl: unknown kind of file"),
    ],
)
def test_a_wrong_file_is_named_with_what_to_do(tmp_path: Path, name: str, content: Any, message: str) -> None:
    if content is not None:
        write(tmp_path / name, content)
    with pytest.raises(InvalidDataError, match=message):
        read(tmp_path / name)


def test_a_hugging_face_folder_is_read_with_its_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "train.csv", "sentence,label\nfirst,a\nsecond,b\n")
    write(folder / "test.csv", "sentence,label\nthird,a\n")
    wanted = HuggingFaceSource.model_validate(
        {
            "kind": "huggingface",
            "name": str(folder),
            "splits": {"train": "train", "test": "test"},
            "columns": {"text": "sentence"},
        }
    )
    found, _ = read_huggingface(wanted, "main", row_form(wanted.columns))
    assert found[["text", "label", "split"]].to_numpy().tolist() == [
        ["first", "a", "train"],
        ["second", "b", "train"],
        ["third", "a", "test"],
    ]
    wrong = wanted.model_copy(update={"splits": {"train": "nothere"}})
    with pytest.raises(InvalidDataError, match="cannot read split 'nothere'"):
        read_huggingface(wrong, "main", row_form(wrong.columns))


def hugging_face_folder(root: Path, monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]) -> HuggingFaceSource:
    """A Parquet file a split, labels as numbers of its own list of names: each text is its label's name."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", root / "cache")
    (root / "set").mkdir()
    for split, own in names.items():
        features = datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=own), "id": datasets.Value("int64")}
        )
        rows = {"text": own, "label": list(range(len(own))), "id": list(range(len(own)))}
        datasets.Dataset.from_dict(rows, features).to_parquet(root / "set" / f"{split}.parquet")
    splits = {"train": "train[:100%]", "test": "test"}
    return HuggingFaceSource.model_validate({"kind": "huggingface", "name": str(root / "set"), "splits": splits})


def test_splits_that_number_their_classes_otherwise_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = hugging_face_folder(tmp_path, monkeypatch, {"train": ["a", "b", "c"], "test": ["c", "a", "b"]})
    said = r"test\.parquet numbers the classes of 'label' as 'c', 'a', 'b', the data set as 'a', 'b', 'c'"
    with pytest.raises(InvalidDataError, match=said):
        read_huggingface(wanted, "main", row_form(wanted.columns))


def test_splits_of_one_numbering_are_read_and_their_ids_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = hugging_face_folder(tmp_path, monkeypatch, {"train": ["a", "b"], "test": ["a", "b"]})
    rows, (note,) = read_huggingface(wanted, "main", row_form(wanted.columns))
    assert rows["label"].tolist() == rows["text"].tolist() == ["a", "b", "a", "b"]
    assert rows["id"].tolist() == ["train[:100%]/0", "train[:100%]/1", "test/0", "test/1"]
    assert "column 'id'" in note
    twice = wanted.model_copy(update={"splits": {"train": "train", "test": "train"}})
    with pytest.raises(InvalidDataError, match=r"source\.splits: train and test are the same split \('train'\)"):
        read_huggingface(twice, "main", row_form(twice.columns))

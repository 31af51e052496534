"""Fetching: S3 by boto3 (moto), addresses that pass unchanged, keys and patterns that are refused."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from components import fetch
from components.fetch import fetch_resolved, fetch_weights, fetched_data, fetched_wheel
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError, ParamsError, TryAgainError
from kd_ops.resolving.addresses import s3_revision
from tests.helpers.workspace import files_data, record, splits, stage, texts, write_csv, write_params


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("KD_HOME", str(tmp_path / "home"))
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="models")
        yield client


def test_packaged_weights_and_folders_pass_unchanged(tmp_path: Path) -> None:
    assert fetch_weights("pkg://some_package/model") == "pkg://some_package/model"
    assert fetch_weights(str(tmp_path)) == str(tmp_path)


def test_unresolved_registry_names_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="models:/a@champion: not resolved"):
        fetch_weights("models:/a@champion")
    with pytest.raises(InvalidDataError, match="no such folder"):
        fetch_weights(str(tmp_path / "nothere"))


def test_weights_come_from_s3_without_pickles(bucket: Any) -> None:
    for key in ("t/model.safetensors", "t/config.json", "t/1_Pooling/config.json", "t/pytorch_model.bin", "t2/x.json"):
        bucket.put_object(Bucket="models", Key=key, Body=key.encode())
    revision = s3_revision("s3://models/t")
    folder = Path(fetch_weights("s3://models/t", revision))
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"model.safetensors", "config.json", "1_Pooling/config.json"}
    assert fetch_weights("s3://models/t/") != str(folder)
    bucket.delete_object(Bucket="models", Key="t/config.json")
    assert fetch_weights("s3://models/t", revision) == str(folder), "a pinned download is kept"
    assert (folder / "config.json").is_file()


def test_weights_changed_since_the_run_was_resolved_or_while_they_come_are_refused(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_object(Bucket="models", Key="t/config.json", Body=b"before")
    revision = s3_revision("s3://models/t")
    listed = fetch._etags

    def changed_after_listing(*words: Any) -> dict[str, str]:
        found = listed(*words)
        bucket.put_object(Bucket="models", Key="t/config.json", Body=b"after")
        return found

    monkeypatch.setattr(fetch, "_etags", changed_after_listing)
    with pytest.raises(InvalidDataError, match=r"changed since.*start a new run"):
        fetch_weights("s3://models/t", revision)
    monkeypatch.setattr(fetch, "_etags", listed)
    with pytest.raises(InvalidDataError, match=r"changed since.*start a new run"):
        fetch_weights("s3://models/t", revision)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_faster_process_keeps_its_copy(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put_object(Bucket="models", Key="t/config.json", Body=b"{}")
    revision = s3_revision("s3://models/t")
    inodes: list[int] = []
    download = fetch._fetch_s3

    def overtaken(*words: Any, **more: Any) -> None:
        download(*words, **more)
        monkeypatch.setattr(fetch, "_fetch_s3", download)
        inodes.append((Path(fetch_weights("s3://models/t", revision)) / "config.json").stat().st_ino)

    monkeypatch.setattr(fetch, "_fetch_s3", overtaken)
    folder = Path(fetch_weights("s3://models/t", revision))
    assert [(folder / "config.json").stat().st_ino] == inodes
    assert list(folder.parent.iterdir()) == [folder], "our own copy is dropped"


def test_recorded_weights_must_not_have_changed(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    sha256 = fingerprint.of_file(tmp_path / "model.safetensors")
    assert fetch_resolved({"address": str(tmp_path), "sha256": sha256}) == str(tmp_path)
    with pytest.raises(InvalidDataError, match="changed since the run was started"):
        fetch_resolved({"address": str(tmp_path), "sha256": "0" * 64})


@pytest.mark.parametrize("key", ["t/../../evil.json", "t/a/../b.json", "t//abs.json", "t/..\\evil.json"])
def test_keys_that_leave_their_folder_are_refused(bucket: Any, tmp_path: Path, key: str) -> None:
    bucket.put_object(Bucket="models", Key=key, Body=b"{}")
    with pytest.raises(InvalidDataError, match="outside its folder"):
        fetch_weights("s3://models/t")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_missing_buckets_and_empty_prefixes(bucket: Any) -> None:
    with pytest.raises(InvalidDataError, match=r"s3://nothere/x: not there \(NoSuchBucket\)"):
        fetch_weights("s3://nothere/x")
    with pytest.raises(InvalidDataError, match="no object here matches"):
        fetch_weights("s3://models/empty")


def test_an_endpoint_that_does_not_answer_is_worth_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(TryAgainError, match="s3://models/t"):
        fetch_weights("s3://models/t")


def test_data_comes_from_s3(bucket: Any, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", texts(60))
    bucket.upload_file(str(path), "models", "sets/rows.csv")
    write_params(tmp_path, files_data("s3://models/sets/rows.csv"))
    stage(tmp_path, "ingest")
    assert sum(len(frame) for frame in splits(tmp_path).values()) >= 60
    with fetched_data("s3://models/sets") as found:
        kept = found.path
        assert kept.read_bytes() == path.read_bytes()
    assert not kept.exists()


def test_data_changed_since_the_run_was_resolved_are_refused(bucket: Any, tmp_path: Path) -> None:
    address = "s3://models/sets/rows.csv"
    bucket.upload_file(str(write_csv(tmp_path / "rows.csv", texts(60))), "models", "sets/rows.csv")
    write_params(tmp_path, files_data(address), etags={address: s3_revision(address)})
    stage(tmp_path, "ingest")
    bucket.upload_file(str(write_csv(tmp_path / "rows.csv", texts(61))), "models", "sets/rows.csv")
    with pytest.raises(InvalidDataError, match=r"rows.csv: changed since the run was resolved"):
        stage(tmp_path, "ingest")


def test_a_release_is_downloaded_by_pip_and_never_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        Path(command[command.index("--dest") + 1], "botocore-1.2.3-py3-none-any.whl").write_bytes(b"zip")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetch.subprocess, "run", pip)
    with fetched_wheel("botocore", "1.2.3") as wheel:
        assert wheel.read_bytes() == b"zip"
    assert not wheel.exists()
    assert seen[0][1:4] == ["-m", "pip", "download"]
    assert "--no-deps" in seen[0]
    assert seen[0][-1] == "botocore==1.2.3"


def test_an_unknown_release_and_a_dead_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def pip(error: str) -> Any:
        return lambda command, **_: subprocess.CompletedProcess(command, 1, "", error)

    monkeypatch.setattr(fetch.subprocess, "run", pip("ERROR: No matching distribution found for botocore==9\n"))
    with pytest.raises(ParamsError, match="no such release"), fetched_wheel("botocore", "9"):
        pass
    monkeypatch.setattr(fetch.subprocess, "run", pip("Connection refused\n"))
    with pytest.raises(TryAgainError, match="Connection refused"), fetched_wheel("botocore", "9"):
        pass


def test_a_prefix_is_read_like_a_folder_and_what_is_left_out_is_on_record(bucket: Any, tmp_path: Path) -> None:
    rows = texts(60)
    for name, part in (("0.csv.gz", rows[:30]), ("1.CSV", rows[30:]), (".hidden.csv", rows), ("_tmp/2.csv", rows)):
        path = write_csv(tmp_path / name.replace("/", "-"), part)
        data = path.read_bytes()  # pandas compresses by the name
        bucket.put_object(Bucket="models", Key=f"sets/{name}", Body=data)
    bucket.put_object(Bucket="models", Key="sets/README.md", Body=b"")
    write_params(tmp_path, files_data("s3://models/sets"))
    stage(tmp_path, "ingest")
    assert sum(len(frame) for name, frame in splits(tmp_path).items() if name != "unlabelled") == 60
    assert "files of s3://models/sets: 3 left out: .hidden.csv, README.md, _tmp/2.csv" in record(tmp_path)["notes"]
    bucket.put_object(Bucket="models", Key="sets/3.csv.zip", Body=b"")
    with pytest.raises(InvalidDataError, match=r"s3://models/sets: 3\.csv\.zip is compressed"):
        stage(tmp_path, "ingest")


def test_a_tokenizer_s_files_come_whatever_their_names(bucket: Any) -> None:
    config = b'{"tokenizer_class": "PhobertTokenizer"}'
    files = {"tokenizer_config.json": config, "vocab.txt": b"", "bpe.codes": b"a b 1", "notes.codes": b"", "x.bin": b""}
    for name, body in files.items():
        bucket.put_object(Bucket="models", Key=f"t/{name}", Body=body)
    folder = Path(fetch_weights("s3://models/t", s3_revision("s3://models/t")))
    assert {path.name for path in folder.iterdir()} == {"tokenizer_config.json", "vocab.txt", "bpe.codes"}

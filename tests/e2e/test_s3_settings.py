"""Settings of S3 reach every client of it: our storage, DVC, MLflow and boto3."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.fetch import fetched_data
from kd_core.runtime.errors import ParamsError, TryAgainError
from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.bridge.stage_run import run_stage
from kd_ops.registry.registry import connect, experiment
from kd_ops.resolving.addresses import s3_revision
from tests.helpers.miniature import Miniature
from tests.helpers.postgres import Postgres
from tests.helpers.s3_server import DOMAIN, S3Server

pytestmark = pytest.mark.e2e

Use = Callable[..., None]


@pytest.fixture
def use_all(
    s3: S3Server, databases: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Use:
    """Has each client write to the bucket and read from it, below a folder of the test's own."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    place = s3.url(tmp_path.name)

    def use(**environment: str) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        _store_and_boto3(place)
        _dvc(place, tmp_path, monkeypatch)
        _mlflow(place, databases.database(tmp_path.name), tmp_path, monkeypatch)

    return use


def _store_and_boto3(place: str) -> None:
    storage = Storage(f"{place}/own")
    storage.write("rows.csv", b"text\na\n")
    assert storage.create("once", b"first")
    assert not storage.create("once", b"second")
    assert storage.list() == ["once", "rows.csv"]
    assert s3_revision(f"{place}/own/rows.csv")
    with fetched_data(f"{place}/own/rows.csv") as found:
        assert found.path.read_bytes() == b"text\na\n"


def _dvc(place: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mini = Miniature(folder, f"{place}/store", f"{place}/runs")
    for name, value in mini.environment().items():
        monkeypatch.setenv(name, value)
    run = mini.run()
    assert run_stage(run, "make@a", mini.settings("one")) == 0
    assert run_stage(run, "part@a", mini.settings("two")) == 0, "its input is in the bucket only"


def _mlflow(place: str, database: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    settings = Settings(home=folder / "home", store_uri=f"{place}/store")
    client = connect(settings)
    run = client.create_run(experiment(client, "tests", settings))
    assert run.info.artifact_uri.startswith(f"{place}/store/mlartifacts/tests/")
    client.log_text(run.info.run_id, "kept", "note.txt")
    path = client.download_artifacts(run.info.run_id, "note.txt", str(folder))
    assert Path(path).read_text(encoding="utf-8") == "kept"


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names below the server's domain that were asked for; each is this machine."""
    asked: set[str] = set()
    really = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if isinstance(name, str) and name.endswith(DOMAIN):
            asked.add(name)
            host = "127.0.0.1"
        return really(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize(("style", "bucket_first"), [("path", False), ("virtual", True)])
def test_every_client_addresses_buckets_as_told(
    s3: S3Server, use_all: Use, resolved: set[str], style: str, bucket_first: bool
) -> None:
    use_all(AWS_ENDPOINT_URL=s3.domain_endpoint, KD_S3_ADDRESSING=style)
    assert resolved == {f"{s3.bucket}.{DOMAIN}" if bucket_first else DOMAIN}


def test_every_client_trusts_the_bundle_of_certificates(s3: S3Server, use_all: Use) -> None:
    use_all(AWS_ENDPOINT_URL=s3.tls_endpoint, AWS_CA_BUNDLE=str(s3.ca_bundle))


def test_no_client_trusts_a_strangers_certificate(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**s3.environment, "AWS_ENDPOINT_URL": s3.tls_endpoint, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TryAgainError, match="certificate"):
        s3_revision(s3.url("ready"))
    mini = Miniature(tmp_path, s3.url("stranger/store"), str(tmp_path / "runs"))
    with pytest.raises(Exception, match="certificate"):
        Storage(mini.store_uri).read("any")


def test_every_upload_asks_for_encryption(s3: S3Server, use_all: Use, tmp_path: Path) -> None:
    use_all(KD_S3_ENCRYPTION="AES256")
    client = s3.client()
    written = client.list_objects_v2(Bucket=s3.bucket, Prefix=f"{tmp_path.name}/")["Contents"]
    heads = {entry["Key"]: client.head_object(Bucket=s3.bucket, Key=entry["Key"]) for entry in written}
    assert {head.get("ServerSideEncryption") for head in heads.values()} == {"AES256"}
    for part in ("own/rows.csv", "store/dvc/files/", "runs/first/", "store/mlartifacts/"):
        assert any(name.startswith(f"{tmp_path.name}/{part}") for name in heads), f"nothing below {part}"


@pytest.mark.parametrize(("name", "value"), [("KD_S3_ADDRESSING", "host"), ("KD_S3_ENCRYPTION", "AES512")])
def test_a_setting_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ParamsError, match=f"{name}='{value}': choose"):
        Storage("s3://bucket/place")

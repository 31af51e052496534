"""One real S3 server and one real PostgreSQL server for each test process, started by the first test that asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.postgres import Postgres, postgres
from tests.helpers.s3_proxy import S3Proxy, s3_proxy
from tests.helpers.s3_server import S3Server, s3_server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The S3 server. A test that stops it starts it again."""
    with s3_server(tmp_path_factory.mktemp("s3") / "server") as server:
        yield server


@pytest.fixture(scope="session")
def databases() -> Iterator[Postgres]:
    """The PostgreSQL server."""
    with postgres() as server:
        yield server


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[S3Proxy]:
    """A proxy of the test's own before the S3 server."""
    with s3_proxy(s3.port) as proxy:
        yield proxy

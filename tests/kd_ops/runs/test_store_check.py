"""An object store that overwrites although it is told not to is refused before a run starts."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from kd_core.runtime.errors import ParamsError
from kd_core.runtime.storage import Storage
from kd_ops.runs.store_check import DONE, check_store

STORE = "memory://bucket/store"


@pytest.fixture(autouse=True)
def _empty() -> None:
    fsspec.filesystem("memory").store.clear()


def test_a_store_that_keeps_its_word_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    check_store(STORE)
    assert Storage(STORE).list() == [DONE]
    monkeypatch.setattr(Storage, "create", lambda *_: pytest.fail("asked again"))
    check_store(STORE)


def test_the_same_files_behind_another_server_are_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    check_store(STORE)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://another")
    monkeypatch.setattr(Storage, "create", lambda *_: True)
    with pytest.raises(ParamsError, match=r"ignores If-None-Match.*KD_STORE_URI"):
        check_store(STORE)


def test_a_store_that_cannot_be_told_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer(Exception):  # noqa: N818 -- as botocore's, which is no OSError
        response = {"Error": {"Code": "NotImplemented"}}

    def create(*_: object) -> bool:
        raise OSError(22, "A header you provided implies functionality that is not implemented") from Answer()

    monkeypatch.setattr(Storage, "create", create)
    with pytest.raises(ParamsError, match="ignores If-None-Match"):
        check_store(STORE)
    assert Storage(STORE).list() == []


def test_a_folder_is_not_asked(tmp_path: Path) -> None:
    check_store(str(tmp_path))
    assert list(tmp_path.iterdir()) == []

"""Which objects are in the store: a small store is listed, of a large one the first page is enough."""

from __future__ import annotations

from hashlib import md5
from typing import cast

import pytest

from kd_core.runtime.storage import PAGE, Storage
from kd_ops.runs import objects


class Listed:
    """A store of so many objects that counts its pages."""

    def __init__(self, count: int) -> None:
        hashes = sorted(md5(str(number).encode(), usedforsecurity=False).hexdigest() for number in range(count))
        self.names = [f"{each[:2]}/{each[2:]}" for each in hashes]
        self.pages = 0

    def page(self, folder: str, after: str = "") -> list[str]:
        assert folder == "files/md5"
        self.pages += 1
        return [name for name in self.names if name > after][:PAGE]


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (3, 1), (1000, 2), (2500, 3), (14_000, 15)])
def test_a_small_store_is_known_wholly(count: int, pages: int) -> None:
    store = Listed(count)
    assert objects._listed(cast(Storage, store)) == {f"files/md5/{name}" for name in store.names}
    assert store.pages == pages


def test_a_large_store_is_not_listed() -> None:
    store = Listed(40_000)
    assert len(objects._listed(cast(Storage, store))) == PAGE
    assert store.pages == 1

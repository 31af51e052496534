"""Whether an object store keeps its word: a put with If-None-Match must not overwrite. Looked at once per store."""

from __future__ import annotations

import json
import os
import uuid

from kd_core.runtime.errors import ParamsError
from kd_core.runtime.files import to_json
from kd_core.runtime.storage import Storage
from kd_ops.base.settings import is_local

FOLDER = "checks"
DONE = f"{FOLDER}/conditional_put.json"


def check_store(store_uri: str) -> None:
    """Raises ParamsError for a store that overwrites although it is told not to, or cannot be told."""
    store, about = Storage(store_uri), {"endpoint": os.environ.get("AWS_ENDPOINT_URL", "")}
    if is_local(store_uri) or _known(store) == about:
        return
    if not _refuses_to_overwrite(store):
        raise ParamsError(
            f"{store_uri}: this object store ignores If-None-Match. Without it, of two runs that compute one stage "
            "both win, and of two promotions at once one is lost; choose one with conditional writes (KD_STORE_URI)"
        )
    store.write(DONE, to_json(about))


def _known(store: Storage) -> object:
    try:
        return json.loads(store.read(DONE))
    except (FileNotFoundError, ValueError):
        return None


def _refuses_to_overwrite(store: Storage) -> bool:
    name = f"{FOLDER}/{uuid.uuid4().hex}"
    try:
        return store.create(name, b"first") and not store.create(name, b"second")
    except OSError as error:
        response = getattr(error.__cause__, "response", {})
        if response.get("Error", {}).get("Code") != "NotImplemented":
            raise
        return False
    finally:
        store.delete(name)

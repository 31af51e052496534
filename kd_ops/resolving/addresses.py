"""Turns an address that may change its meaning into an immutable id: what `resolve` writes into a run's params.

`pkg://` and folders: sha256 of their files; `s3://`: hash over the etags; hub ids: the commit; `models:/NAME@ALIAS`:
the version's files, copied into the store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_core.runtime import s3
from kd_core.runtime.errors import InvalidDataError, KDError, ParamsError, TryAgainError
from kd_core.runtime.fingerprint import of_file, of_folder, of_objects
from kd_core.runtime.packages import package_folder
from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.registry.registered_weights import registered_weights
from kd_ops.registry.registry import by_alias, connect, version
from kd_ops.stages import inputs

Record = dict[str, Any]
"""address (where the stage reads it), revision (commit, version or hash), sha256 (of model.safetensors), files."""

_WEIGHTS = "model.safetensors"
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")


class Addresses:
    """Resolves each address once.

    :param settings: whose store the content of local files is put into, and whose registry is asked
    :param bases: folders that relative paths are looked up in, in this order
    """

    def __init__(self, settings: Settings, bases: list[Path]) -> None:
        self._settings = settings
        self._bases = bases
        self._models: dict[str, Record] = {}

    def local(self, address: str) -> Path | None:
        """The file or folder that a plain path names; None if there is none."""
        if "://" in address or address.startswith("models:/"):
            return None
        return next((place for place in self.places(address) if place.exists()), None)

    def places(self, path: str) -> list[Path]:
        """Where a plain path may lie, in the order in which one looks."""
        given = Path(path).expanduser()
        return [given] if given.is_absolute() else [base / given for base in self._bases]

    def model(self, address: str, where: str) -> Record:
        """The record of a model's or tokenizer's address; `where` is the params key that errors name.

        Raises ParamsError if the address cannot be right, TryAgainError if its place does not answer.
        """
        if address not in self._models:
            self._models[address] = self._model(address, where)
        return self._models[address]

    def _model(self, address: str, where: str) -> Record:
        if (folder := package_folder(address, where)) is not None:
            return {"address": address, "revision": None, **_hashes(folder)}
        if address.startswith("s3://"):
            return {"address": address, "revision": s3_revision(address), "sha256": None, "files": None}
        if address.startswith("models:/"):
            return self._registered(address, where)
        if (path := self.local(address)) is not None:
            return self._snapshot(path, revision=None)
        if not _HUB_ID.fullmatch(address):
            raise ParamsError(f"{where}: {address}: no such folder, and not a hub id; correct the address")
        return {"address": address, "revision": hub_commit(address, "main", "model"), "sha256": None, "files": None}

    def read(self, record: Mapping[str, Any], name: str) -> bytes | None:
        """A small file of a resolved model, wherever it lies; None if it has none of that name."""
        address = str(record["address"])
        if (folder := package_folder(address, address)) is not None:
            path = folder / name
            return path.read_bytes() if path.is_file() else None
        if address.startswith(f"{inputs.FOLDER}/"):
            store = Storage(f"{self._settings.store_uri}/{address}")
        elif address.startswith("s3://"):
            store = Storage(address)
        else:
            return hub_file(address, str(record["revision"]), name)
        try:
            return store.read(name)
        except FileNotFoundError:
            return None

    def data(self, address: str, where: str) -> str:
        """Where a stage reads a data file: `s3://` as it is, a local one as it is named in the store."""
        if address.startswith("s3://"):
            return address
        path = self.local(address)
        if path is None:
            raise InvalidDataError(f"{where}: {address}: no such file; looked in {', '.join(map(str, self._bases))}")
        return inputs.snapshot(path, self._settings.store_uri).address

    def _snapshot(self, folder: Path, revision: str | None) -> Record:
        """The record of weights in a folder, put into the store; its hashes are those of the copy there."""
        kept = inputs.snapshot(folder, self._settings.store_uri)
        weights = kept.files.get(_WEIGHTS)
        return {"address": kept.address, "revision": revision, "sha256": weights, "files": kept.digest}

    def _registered(self, address: str, where: str) -> Record:
        """A registered model: its weights and tokenizer, copied into the store."""
        name, alias, number = _registry_parts(address, where)
        client = connect(self._settings)
        found = by_alias(client, name, alias) if alias else version(client, name, str(number))
        if found is None:
            raise ParamsError(f"{where}: {address}: no version of {name!r} has the alias {alias!r}; correct it")
        pinned = f"{name}/{found.version}"
        with registered_weights(pinned) as folder:
            return self._snapshot(folder, revision=pinned)


def s3_revision(address: str) -> str:
    """Hash over the keys and etags at an object or prefix. Raises InvalidDataError if nothing is there."""
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    prefix = prefix.rstrip("/")
    revision = of_objects(s3_objects(bucket, prefix, address), prefix)
    if revision is None:
        raise InvalidDataError(f"{address}: no object there; correct the address")
    return revision


def s3_objects(bucket: str, prefix: str, address: str) -> dict[str, str]:
    """Keys that begin with `prefix` → etags. Raises TryAgainError naming `address` if the store does not answer."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        options: Any = s3.client_options()
        config: Any = Config(s3=options)
        client = boto3.Session().client("s3", config=config)
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {entry["Key"]: entry["ETag"] for page in pages for entry in page.get("Contents", [])}
    except (BotoCoreError, ClientError) as error:
        raise TryAgainError(f"{address}: {error}; check address, credentials and AWS_ENDPOINT_URL") from None


def hub_commit(name: str, revision: str, kind: str) -> str:
    """The commit that a hub branch or tag stands at. Raises ParamsError if there is no such repository."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi().repo_info(name, revision=revision, repo_type=kind)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise ParamsError(f"{name}: no such {kind} on the hub at {revision!r} ({error})") from None
    except Exception as error:
        raise _unreachable(name, error) from error
    return str(info.sha)


def hub_file(name: str, commit: str, file: str) -> bytes | None:
    """A small file of a hub repository at a commit; None if it has none of that name."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(name, file, revision=commit)).read_bytes()
    except EntryNotFoundError:
        return None
    except Exception as error:
        raise _unreachable(name, error) from error


def _unreachable(name: str, error: Exception) -> KDError:
    return TryAgainError(f"{name}: the hub cannot be reached ({error}); check the network, or give a folder instead")


def _hashes(folder: Path) -> Record:
    weights = folder / _WEIGHTS
    return {"sha256": of_file(weights) if weights.is_file() else None, "files": of_folder(folder)}


def _registry_parts(address: str, where: str) -> tuple[str, str | None, str | None]:
    name, _, alias = address.removeprefix("models:/").partition("@")
    name, _, version = name.partition("/")
    if not name or bool(alias) == bool(version):
        raise ParamsError(f"{where}: {address}: write models:/NAME@ALIAS or models:/NAME/VERSION")
    return name, alias or None, version or None

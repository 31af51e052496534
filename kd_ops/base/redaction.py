"""No secret of the environment and no credential of a URL gets into logs, records or MLflow."""

from __future__ import annotations

import os
import re

_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|ACCESS_KEY|API_KEY|PRIVATE_KEY", re.IGNORECASE)
_SECRET_CHARACTERS = 8
_CREDENTIALS_IN_URL = re.compile(r"""(?<=://)(?:[^/@\s"']*:[^\s"']*@|[^/\s]+@)""")
"""Up to the last `@`: a password may hold `/` and `@` itself; without a password, up to the last one before a `/`."""


def redact(text: str) -> str:
    """`text` without credentials in URLs and without the values of secret-looking environment variables."""
    return Redaction()(text)


class Redaction:
    """As `redact`, with the environment looked at once: for the lines of a log."""

    def __init__(self) -> None:
        found = [value for name, value in os.environ.items() if _SECRET_NAME.search(name)]
        lines = {line for value in found for line in (value, *value.splitlines())}
        self._secrets = sorted((line for line in lines if len(line) >= _SECRET_CHARACTERS), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """`text` without secrets; a secret of several lines is found line by line too."""
        text = _CREDENTIALS_IN_URL.sub("***@", text)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def of_bytes(self, line: bytes) -> bytes:
        """As `__call__`, of a program's output in whatever encoding."""
        return self(line.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

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
    text = _CREDENTIALS_IN_URL.sub("***@", text)
    for name, value in os.environ.items():
        if len(value) >= _SECRET_CHARACTERS and _SECRET_NAME.search(name):
            text = text.replace(value, "***")
    return text

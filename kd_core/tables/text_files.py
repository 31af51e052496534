"""Text in and out of files: UTF-8, gzipped or not."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from kd_core.runtime.errors import InvalidDataError

_SAMPLE = 1 << 16
"""Bytes that the encoding is guessed from."""


def read_text(path: Path, gzipped: bool) -> str:
    """The whole text, without a byte order mark, line ends as they are.

    Raises InvalidDataError naming the byte and line that are not UTF-8, or a damaged gzip file.
    """
    data = _unpacked(path) if gzipped else path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidDataError(
            f"{path}: not UTF-8: byte {error.start} (line {line}) is 0x{data[error.start]:02x}; "
            f"{_likely_encoding(data)}save the file as UTF-8"
        ) from None


def write_text(path: Path, text: str, gzipped: bool) -> None:
    """Write the text as UTF-8; equal texts give equal bytes, gzipped too."""
    data = text.encode("utf-8")
    path.write_bytes(gzip.compress(data, mtime=0) if gzipped else data)


def _unpacked(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidDataError(f"{path}: not a whole gzip file ({error}); copy it again from its source") from None


def _likely_encoding(data: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(data[:_SAMPLE]).best()
    return f"it looks like {best.encoding}; " if best else ""

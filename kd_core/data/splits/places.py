"""Where split ledgers stand in the store: `ledgers/<sha256 of the file>.parquet`."""

from __future__ import annotations

FOLDER = "ledgers"


def ledger_name(sha256: str) -> str:
    """Name of a ledger in the store."""
    return f"{FOLDER}/{sha256}.parquet"

"""A process of ours that ended badly, told by the one that started it."""

from __future__ import annotations

from kd_core.runtime.errors import KDError


class ProcessError(KDError):
    """The process's own error message and status are passed on."""

    def __init__(self, status: int, stderr: str, what: str) -> None:
        """:param what: names the process where it said nothing"""
        lines = stderr.strip().splitlines()
        said = next((line for line in reversed(lines) if line.startswith("error: ")), "\n".join(lines[-5:]))
        super().__init__(said.removeprefix("error: ") or f"{what} ended with status {status}")
        self.status = 128 - status if status < 0 else status

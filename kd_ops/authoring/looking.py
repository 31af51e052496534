"""Has a process look at a data set: reading data is not done in an operation's own process."""

from __future__ import annotations

import os
import subprocess
import sys

from kd_core.data.profiling.words import Overview, Request
from kd_ops.base.processes import ProcessError
from kd_ops.base.settings import Settings


def look(request: Request, settings: Settings) -> Overview:
    """What there is. Raises ProcessError with what the process said, and its status."""
    words = [sys.executable, "-m", "components.look"]
    environment = {**os.environ, "PYTHONPATH": str(settings.project)}
    done = subprocess.run(
        words, input=request.model_dump_json(), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ProcessError(done.returncode, done.stderr, "the process that looks at the data")
    return Overview.model_validate_json(done.stdout.splitlines()[-1])

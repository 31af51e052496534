"""A process that works for a minute and, when it is told to stop, writes a checkpoint."""

import os
import sys
import time
from pathlib import Path

from kd_ops.base.entry import stop_on_signals

folder = Path(sys.argv[1])
stop_on_signals()
(folder / "pid").write_text(str(os.getpid()))
try:
    time.sleep(60)
except SystemExit:
    (folder / "checkpoint").touch()
    raise

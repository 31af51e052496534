"""The folder of a stage: gone when its owner is, and never while it lives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kd_ops.base.settings import Settings
from kd_ops.stages.workspace import at_work, workspace

OWNER = """\
import sys, time
from pathlib import Path
from kd_ops.base.settings import Settings
from kd_ops.stages.workspace import workspace
with workspace(Settings(home=Path(sys.argv[1])), b"{}", {}) as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_dead_owner_s_folder_is_swept_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        theirs = Path(owner.stdout.readline().strip())
        assert at_work(settings)
        with workspace(settings, b"{}", {}) as ours:
            assert theirs.is_dir()
            with workspace(settings, b"{}", {}):
                assert ours.is_dir(), "of this thread"
        assert not ours.exists()
        owner.kill()
        owner.wait()
        assert not at_work(settings)
        with workspace(settings, b"{}", {}):
            assert not theirs.exists()
    assert not list((tmp_path / "work").iterdir())
    assert not list((tmp_path / "locks/work").iterdir())

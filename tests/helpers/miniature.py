"""A pipeline of four trivial stages in a folder of its own, for tests of whatever runs stages.

make@a, make@b ──► join ──► slow        (join reads the folder `parts`, which both `make` stages write into)
  └► part@a (reads one file inside the folder that make@a writes)
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from kd_ops.base.documents import to_yaml
from kd_ops.base.settings import PROJECT, Settings
from kd_ops.runs.runs import Run
from kd_ops.stages.code_snapshot import digest, keep, project_code

DVC_YAML = """\
stages:
  make:
    matrix:
      item: [a, b]
    cmd: python -m components.make ${item.item}
    params:
    - sizes.${item.item}
    deps:
    - code/make.json
    outs:
    - parts/${item.item}
  part:
    matrix:
      item: [a]
    cmd: python -m components.part ${item.item}
    deps:
    - code/part.json
    - parts/${item.item}/number.txt
    outs:
    - picked/${item.item}.txt
  join:
    cmd: python -m components.join
    params:
    - join
    deps:
    - code/join.json
    - parts
    outs:
    - joined
    metrics:
    - metrics.json:
        cache: true
  slow:
    cmd: python -m components.slow
    params:
    - slow
    deps:
    - code/slow.json
    - joined
    outs:
    - slow/steps.txt
"""

PARAMS = {"sizes": {"a": 1, "b": 2}, "join": {"separator": "-"}, "slow": {"steps": 3, "seconds": 0.0}}

CODE = {
    "kd_core/numbers.py": "def number(size):\n    return str(size) * 3\n",
    "components/make.py": """\
import os, pathlib, sys, time, uuid
from kd_core.numbers import number
import yaml
name = sys.argv[1]
size = yaml.safe_load(open("params.yaml"))["sizes"][name]
folder = pathlib.Path("parts") / name
folder.mkdir(parents=True)
if meeting := os.environ.get("MINIATURE_MEET"):
    (pathlib.Path(meeting) / str(uuid.uuid4())).touch()
    while len(os.listdir(meeting)) < 2:
        time.sleep(0.05)
(folder / "number.txt").write_text(number(size))
(folder / "other.txt").write_text(os.environ.get("MINIATURE_NOISE") or "quiet")
print("made", name)
""",
    "components/part.py": """\
import pathlib, sys
name = sys.argv[1]
assert not pathlib.Path(f"parts/{name}/other.txt").exists(), "more was pulled than is read"
target = pathlib.Path(f"picked/{name}.txt")
target.parent.mkdir(parents=True)
target.write_text(pathlib.Path(f"parts/{name}/number.txt").read_text() + "!")
""",
    "components/join.py": """\
import json, os, pathlib, sys, yaml
separator = yaml.safe_load(open("params.yaml"))["join"]["separator"]
status = os.environ.get("MINIATURE_STATUS")
if status:
    print("the reason for it")
    sys.exit(int(status))
files = sorted(pathlib.Path("parts").glob("*/number.txt"))
pathlib.Path("joined").mkdir()
if not os.environ.get("MINIATURE_FORGET"):
    pathlib.Path("joined/all.txt").write_text(separator.join(f.read_text() for f in files))
if os.environ.get("MINIATURE_SPOIL"):
    os.chmod(files[0], 0o644)
    files[0].write_text("spoilt")
pathlib.Path("metrics.json").write_text(json.dumps({"files": len(files)}))
""",
    "components/slow.py": """\
# Counts to `steps`; keeps what is done in KD_STATE, so that a new process goes on where the last one was stopped.
import os, pathlib, signal, sys, time, yaml
sys.path.insert(0, os.environ["MINIATURE_PROJECT"])
from kd_core_runtime_storage import Storage
params = yaml.safe_load(open("params.yaml"))["slow"]
state = Storage(os.environ["KD_STATE"])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
done = state.read("done").decode().split() if state.exists("done") else []
for step in range(len(done), params["steps"]):
    time.sleep(params["seconds"])
    done.append(str(step))
    state.write("done", " ".join(done).encode())
    try:
        print("step", step, flush=True)
    except BrokenPipeError:
        pass  # as a program that logs elsewhere: it does not die of a lost reader
with open(os.environ["MINIATURE_TRACE"], "a") as trace:
    trace.write(f"finished from {os.environ['KD_RUN']}\\n")
pathlib.Path("slow").mkdir()
pathlib.Path("slow/steps.txt").write_text(" ".join(done))
""",
}

STAGES = ["make@a", "make@b", "part@a", "join", "slow"]


class Miniature:
    """The project, with as many machines (KD_HOME folders) as asked for, sharing one store."""

    def __init__(self, folder: Path, store_uri: str | None = None, runs_uri: str | None = None) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.store_uri = store_uri or str(folder / "store")
        self.runs_uri = runs_uri or str(folder / "runs")
        self.trace = folder / "trace"
        self.restore("dvc.yaml", *CODE)
        for name in ("components", "kd_core"):
            (self.project / name / "__init__.py").touch()
        (self.project / ".dvcignore").write_text("__pycache__\n", encoding="utf-8")
        for name in (
            "errors",
            "files",
            "local_files",
            "s3",
            "storage",
        ):  # under names of their own: the stages' kd_core is the miniature's
            module = (PROJECT / f"kd_core/runtime/{name}.py").read_text(encoding="utf-8")
            renamed = module.replace("from kd_core.runtime.", "from kd_core_runtime_").replace(
                "from kd_core.runtime import s3", "import kd_core_runtime_s3 as s3"
            )
            (self.project / f"kd_core_runtime_{name}.py").write_text(renamed, encoding="utf-8")

    def restore(self, *names: str) -> None:
        """Write files of the project as they were."""
        for name in names:
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(DVC_YAML if name == "dvc.yaml" else CODE[name], encoding="utf-8")

    def settings(self, machine: str = "one") -> Settings:
        """The settings of one machine."""
        home = self.folder / "machines" / machine
        return Settings(
            project=self.project,
            home=home,
            store_uri=self.store_uri,
            runs_uri=self.runs_uri,
            cache_dir=home / "cache",
        )

    def run(self, name: str = "first", **params: dict[str, object]) -> Run:
        """A resolved run of the code as it is now; `params` replaces sections, `versions` goes under `resolved`."""
        resolved = {"versions": params.pop("versions", {})}
        run, code = Run(f"{self.runs_uri}/{name}"), project_code(self.settings())
        keep(code, self.store_uri)
        run.storage.write("params.yaml", to_yaml({**PARAMS, **params, "resolved": resolved | {"code": digest(code)}}))
        run.storage.write("run.json", b'{"run": "%s", "recipe": "mini"}' % name.encode())
        return run

    def environment(self, machine: str = "one", **extra: str) -> dict[str, str]:
        """Environment of a bridge process on a machine."""
        settings = self.settings(machine)
        return {
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "KD_PROJECT": str(self.project),
            "KD_HOME": str(settings.home),
            "KD_STORE_URI": self.store_uri,
            "KD_RUNS_URI": self.runs_uri,
            "KD_CACHE_DIR": str(settings.cache_dir),
            "MINIATURE_PROJECT": str(self.project),
            "MINIATURE_TRACE": str(self.trace),
            **extra,
        }

    def command(self, run: Run, stage: str) -> list[str]:
        """The bridge's command line."""
        return [sys.executable, "-m", "kd_ops.bridge", "--run", run.uri, stage]

    def start(self, run: Run, stage: str, machine: str = "one", **extra: str) -> subprocess.Popen[str]:
        """A bridge process."""
        environment = self.environment(machine, **extra)
        return subprocess.Popen(
            self.command(run, stage), cwd=self.folder, env=environment, stderr=subprocess.PIPE, text=True
        )

    def bridge(self, run: Run, stage: str, machine: str = "one", **extra: str) -> tuple[int, str]:
        """Exit status and standard error of a bridge process."""
        process = self.start(run, stage, machine, **extra)
        _, errors = process.communicate(timeout=120)
        return process.returncode, errors

    def bridge_all(self, run: Run, machine: str = "one", **extra: str) -> None:
        """Run all stages; each must end well."""
        for stage in STAGES:
            status, errors = self.bridge(run, stage, machine, **extra)
            assert status == 0, errors

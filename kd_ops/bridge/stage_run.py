"""Runs one stage of dvc.yaml for one run, the same in every runner.

A fresh workspace is filled with the run's code and params. The stage's key is computed from the lock fragments of
the stages upstream, which are the only source of truth within a run. If the shared run-cache has an entry for the key
and its data still exists, its lock fragment is published and nothing is downloaded. Otherwise the inputs are pulled by
name, the command runs in its own process group, and its outputs are pushed: data first, then the entry by conditional
put. If another task was faster, its entry is adopted. Upstream stages are never recomputed here: an unfinished one
gives exit status 75, and one with lost outputs 65.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

from kd_core.runtime.errors import ExitCode, KDError, outside_failure
from kd_ops.base.entry import expected
from kd_ops.base.redaction import redact
from kd_ops.base.settings import Settings
from kd_ops.bridge.pulse import Pulse
from kd_ops.bridge.stage_command import Stop, run_command
from kd_ops.bridge.state import State
from kd_ops.lineage import provenance, reuse
from kd_ops.runs.objects import Objects, RunCache
from kd_ops.runs.runs import Run, StageRecord
from kd_ops.stages import inputs
from kd_ops.stages.code_snapshot import code_of
from kd_ops.stages.graph import Graph
from kd_ops.stages.keys import Fragment, StageKey, code_hashes, compute, out_hashes
from kd_ops.stages.machine import MACHINE, write_machine
from kd_ops.stages.versions import check_versions
from kd_ops.stages.workspace import workspace

ERROR_LINES = 20


class CommandError(KDError):
    """The stage's command ended with a status other than 0."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the command ended with status {status}")
        self.status = status


class Bridge:
    """One stage of one run."""

    def __init__(self, run: Run, stage: str, settings: Settings, stop: Stop) -> None:
        self.run, self.stage, self.settings, self.stop = run, stage, settings, stop
        self._objects = Objects(settings)
        self._cache = RunCache(settings)
        self.record = StageRecord(stage)

    def execute(self) -> None:
        """Compute or reuse the stage and publish its lock fragment. Raises KDError or OSError."""
        began = time.monotonic()
        earlier = self.run.stage(self.stage)
        self.record.tries = earlier.tries + 1 if earlier else 1
        self.record.profile = os.environ.get("KD_PROFILE")
        self.record.cost = earlier.cost if earlier else None
        self.run.write_stage(self.record)
        code = code_of(self.run, self.settings)
        with workspace(self.settings, self.run.params_document(), code) as folder:
            graph = Graph.of_run(self.run, folder)
            if MACHINE in graph[self.stage].deps:
                write_machine(folder)
            key = compute(graph, graph[self.stage].name, folder, self._upstream(graph), self._objects)
            self.record.key, self.record.code = key.key, code_hashes(graph[self.stage], folder)
            self.run.write_stage(self.record)
            entry = self._cache.entry(key.key)
            if entry is not None and reuse.available(entry, self._objects):
                self.record.cached = True
                return self._publish(entry, others=True)
            fragment = self._compute(graph, key, folder)
            return self._settle(fragment, lost=entry is not None, seconds=time.monotonic() - began)

    def _upstream(self, graph: Graph) -> dict[str, Fragment]:
        names = graph.upstream(self.stage)
        return self.run.locks(names) if names else {}

    def _compute(self, graph: Graph, key: StageKey, folder: Path) -> Fragment:
        from kd_ops.bridge.transfer import StageData

        check_versions(key.fragment.get("params", {}).get("params.yaml", {}))
        data = StageData(folder, self.stage, self._upstream(graph), self._objects)
        try:
            data.pull(graph.needs(self.stage), key)
            inputs.lay_out(inputs.mentioned(key.fragment.get("params")), self.settings.store_uri, folder)
            with self._state.held() as found, Pulse(self.run, self.stage, folder, self._state) as pulse:
                if found:
                    print(f"{self.stage}: continues the work that {found} left", file=sys.stderr)
                self._command(graph[self.stage].cmd, folder, pulse)
                return data.push()
        finally:
            data.close()

    def _command(self, cmd: str, folder: Path, pulse: Pulse) -> None:
        status = run_command(cmd, folder, self._environment(folder, pulse.progress), pulse.log, self.stop)
        if status:
            self.record.error = _last_lines(pulse.log)
            raise CommandError(status)

    def _environment(self, folder: Path, progress: Path) -> dict[str, str]:
        """The stage's environment: only the workspace to import from, and this interpreter as `python`."""
        own = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONUNBUFFERED": "1",
            "KD_STATE": self._state.url,
            "KD_PROGRESS": str(progress),
            "KD_RUN": self.run.uri,
            "KD_STORE_URI": self.settings.store_uri,
            "KD_HOME": str(self.settings.home),
        }
        return {**os.environ, **own}

    def _settle(self, fragment: Fragment, lost: bool, seconds: float) -> None:
        """Make `fragment` the key's entry, or adopt that of a faster task; then delete the unfinished work."""
        key = str(self.record.key)
        provenance.record_computed(self.run, self.stage, key, fragment, seconds, self.settings)
        if lost:
            self._cache.replace(key, fragment)
        holds = self._cache.publish(key, fragment)
        self._publish(holds, others=holds is not fragment)
        self._state.remove()

    def _publish(self, fragment: Fragment, others: bool) -> None:
        """:param others: another process computed what `fragment` names"""
        self.run.write_lock(self.stage, fragment)
        if others:
            provenance.record_used(self.run, {str(self.record.key): self.stage}, self.settings)
        self.record.outs = out_hashes(fragment)

    @property
    def _state(self) -> State:
        return State(self.run, self.settings.store_uri, str(self.record.key))


def run_stage(
    run: Run, stage: str, settings: Settings | None = None, stop: Stop | None = None, whole_process: bool = False
) -> int:
    """Run or reuse `stage`; returns its exit status. The stage's record gets every outcome, stderr gets its message.

    `stop`: the signal handler that is already installed, if any. `whole_process`: this process is for the stage alone,
    so its CPU time counts from its start, imports included.
    """
    settings = settings or Settings()
    bridge = Bridge(run, stage, settings, stop or Stop())
    record, began = bridge.record, time.monotonic()
    since, commands = 0.0 if whole_process else time.process_time(), _cpu_of_children()
    with bridge.stop.handled():
        try:
            bridge.execute()
            record.status, record.exit_code = "done", 0
        except BaseException as error:
            record.status, record.exit_code = "failed", _status(error)
            record.error = record.error or _message(error)
            print(f"error: {stage}: {_message(error)}", file=sys.stderr)
        finally:
            record.seconds = round(time.monotonic() - began, 3)
            record.overhead_cpu_seconds = round(time.process_time() - since, 3)
            record.cost = _cost(record)
            record.command_cpu_seconds = round(_cpu_of_children() - commands, 3)
            _save(run, record)
    return int(record.exit_code or 0)


def _cost(record: StageRecord) -> float | None:
    """Cost of the tries so far, by the price per hour of this container; a killed try leaves no record."""
    price = os.environ.get("KD_PRICE_PER_HOUR")
    return record.cost if price is None else (record.cost or 0.0) + float(price) * record.seconds / 3600


def _cpu_of_children() -> float:
    """CPU seconds of the processes that this one has started and waited for."""
    times = os.times()
    return times.children_user + times.children_system


def _save(run: Run, record: StageRecord) -> None:
    try:
        run.write_stage(record)
    except Exception as error:
        if (failure := outside_failure(error)) is None and not isinstance(error, OSError):
            raise
        print(f"error: {record.stage}: its record could not be written: {failure or error}", file=sys.stderr)


def _status(error: BaseException) -> int:
    if isinstance(error, CommandError):
        return error.status
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        return int(ExitCode.TERMINATED)
    known = expected(error)
    return int(known.exit_code) if known else int(ExitCode.BUG)


def _message(error: BaseException) -> str:
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        return "stopped by a signal; the next try continues from the last checkpoint"
    known = expected(error)
    return redact(str(known) if known else "".join(traceback.format_exception(error)).strip())


def _last_lines(path: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-ERROR_LINES:])

"""A result that the store has already is taken over into a run: one stage, or all of them in one pass.

The pass (`settle`) spares a process for each stage of which nothing is to be computed. A scheduler's first task does it
before any stage has started, so nothing else works on the run then. What the pass leaves, for whatever reason, the
stage's own process meets again.
"""

from __future__ import annotations

import time
from pathlib import Path

from kd_ops.base.entry import expected
from kd_ops.base.settings import Settings
from kd_ops.lineage import provenance
from kd_ops.runs.objects import Objects, RunCache
from kd_ops.runs.runs import Run, StageRecord
from kd_ops.stages.code_snapshot import code_of
from kd_ops.stages.graph import Graph
from kd_ops.stages.keys import Fragment, code_hashes, compute, out_hashes
from kd_ops.stages.machine import MACHINE
from kd_ops.stages.workspace import workspace


def available(entry: Fragment, objects: Objects) -> bool:
    """Whether the data of a run-cache entry can still be had; what only this machine has of it is uploaded."""
    lacking = objects.lacking(out_hashes(entry).values())
    if lacking is None:
        return False
    objects.upload(lacking)
    return True


def publish(run: Run, record: StageRecord, fragment: Fragment, settings: Settings) -> None:
    """Make `fragment` what the run knows of the stage, and note in the record what was written."""
    run.write_lock(record.stage, fragment)
    provenance.record_used(run, record.stage, str(record.key), fragment, settings)
    record.outs = out_hashes(fragment)


def settle(run: Run, settings: Settings) -> list[str]:
    """Take over every stage whose result is in the store; their names, in order.

    Left to a process of its own is a stage that was started before, one whose result depends on the machine (another
    worker may be meant for it), and whatever reads from a stage that was left. A place that does not answer ends the
    pass: the next stage's process says so.
    """
    settled: dict[str, Fragment] = {}
    try:
        with workspace(settings, run.params_document(), code_of(run, settings)) as folder:
            _take_over(run, folder, settled, settings)
    except Exception as error:
        if expected(error) is None:
            raise
    return list(settled)


def _take_over(run: Run, folder: Path, settled: dict[str, Fragment], settings: Settings) -> None:
    graph, objects, cache = Graph.of_run(run, folder), Objects(settings), RunCache(settings)
    started = run.stages()
    for name, stage in graph.stages.items():
        if name in started or MACHINE in stage.deps or not settled.keys() >= set(graph.upstream(name)):
            continue
        began, since = time.monotonic(), time.process_time()
        key = compute(graph, name, folder, {up: settled[up] for up in graph.upstream(name)}, objects)
        entry = cache.entry(key.key)
        if entry is None or not available(entry, objects):
            continue
        record = StageRecord(name, "done", cached=True, exit_code=0, key=key.key, tries=1)
        run.write_code(name, code_hashes(stage, folder))
        publish(run, record, entry, settings)
        record.seconds = round(time.monotonic() - began, 3)
        record.overhead_cpu_seconds = round(time.process_time() - since, 3)
        run.write_stage(record)
        settled[name] = entry

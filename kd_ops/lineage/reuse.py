"""A result that the store has already is taken over into a run: one stage, or all of them in one pass.

The pass (`settle`) spares a process for each stage of which nothing is to be computed. A scheduler's first task does it
before any stage has started, so nothing else works on the run then. What the pass leaves, for whatever reason, the
stage's own process meets again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
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

Taken = dict[str, tuple[StageRecord, Fragment]]
"""By stage: its record in this run, and the run-cache entry that becomes its lock fragment."""


def available(entry: Fragment, objects: Objects) -> bool:
    """Whether the data of a run-cache entry can still be had; what only this machine has of it is uploaded."""
    lacking = objects.lacking(out_hashes(entry).values())
    if lacking is None:
        return False
    objects.upload(lacking)
    return True


def settle(run: Run, settings: Settings) -> list[str]:
    """Take over every stage whose result is in the store; their names, in order.

    Left to a process of its own is a stage that was started before, one whose result depends on the machine (another
    worker may be meant for it), and whatever reads from a stage that was left. A place that does not answer ends the
    pass: the next stage's process says so.
    """
    taken: Taken = {}
    with _ended_by_silence(), workspace(settings, run.params_document(), code_of(run, settings)) as folder:
        _take_over(run, folder, taken, settings)
    with _ended_by_silence():
        if taken and _publish(run, taken, settings):
            return list(taken)
    return []


@contextmanager
def _ended_by_silence() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if expected(error) is None:
            raise


def _take_over(run: Run, folder: Path, taken: Taken, settings: Settings) -> None:
    graph, objects, cache = Graph.of_run(run, folder), Objects(settings), RunCache(settings)
    started = run.started()
    for name, stage in graph.stages.items():
        if name in started or MACHINE in stage.deps or not taken.keys() >= set(graph.upstream(name)):
            continue
        began, since = time.monotonic(), time.process_time()
        key = compute(graph, name, folder, {up: taken[up][1] for up in graph.upstream(name)}, objects)
        entry = cache.entry(key.key)
        if entry is None or not available(entry, objects):
            continue
        record = StageRecord(name, "done", cached=True, exit_code=0, key=key.key, tries=1, outs=out_hashes(entry))
        record.code = code_hashes(stage, folder)
        record.seconds = round(time.monotonic() - began, 3)
        record.overhead_cpu_seconds = round(time.process_time() - since, 3)
        taken[name] = record, entry


def _publish(run: Run, taken: Taken, settings: Settings) -> bool:
    """Write down what was taken over, in one file; whether it may be relied on.

    `kd gc` deletes an entry, looks at all runs again, and then deletes what the entry names. So an entry that is still
    there when the run has its key on record is safe. Where one is gone, each stage is left to a process of its own.
    """
    run.write_settled(taken)
    keys = {str(record.key): name for name, (record, _) in taken.items()}
    cache = RunCache(settings)
    if not all(map(cache.has, keys)):
        run.forget_settled(taken)
        return False
    provenance.record_used(run, keys, settings)
    return True

"""The picture of the pipeline: the stages of dvc.yaml, and which stage reads what which other one writes."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from doc_pages.mermaid import chart
from kd_ops.base.documents import to_yaml
from kd_ops.resolving.merge import merged_params, recipe_path
from kd_ops.stages.graph import Graph

BEFORE, AFTER = "resolve", ("track", "register", "promote")
"""The tasks around the stages, which dvc.yaml does not have: nothing of them is cached."""


def picture(project: Path) -> str:
    """A Mermaid chart with one box for each stage, in the order of the work."""
    graph = _graph(project)
    stages = [BEFORE, *dict.fromkeys(map(_stage, graph.stages)), *AFTER]
    arrows: dict[str, set[str]] = {stage: set() for stage in stages}
    for name in graph.stages:
        for source in graph.upstream(name) or [BEFORE]:
            arrows[_stage(source)].add(_stage(name))
    for last in [stage for stage, ends in arrows.items() if not ends and stage not in AFTER]:
        arrows[last].add(AFTER[0])
    for start, end in pairwise(AFTER):
        arrows[start].add(end)
    return chart("LR", arrows)


def _graph(project: Path) -> Graph:
    """The stages of the default recipe."""
    params = merged_params(project, recipe_path(None, project), [], None)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copy(project / "dvc.yaml", folder)
        (folder / "params.yaml").write_bytes(to_yaml(params.model_dump(mode="json")))
        return Graph.load(folder)


def _stage(name: str) -> str:
    return name.split("@", 1)[0]

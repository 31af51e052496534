"""One table: all arms over all seeds on one data set with one number of gold labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from benchmarks import arms as contestants
from benchmarks import seed_resampling
from benchmarks.arms import Arm, Setting
from benchmarks.claims import EXPECTED, TEACHER, Claim, Finding, judge
from benchmarks.exits import LABEL, ExitTable, exits, mean_metric
from benchmarks.seed_resampling import Contestants
from benchmarks.workbench import Run
from kd_core.config.data import Kind
from kd_core.tasks import decide
from kd_core.tasks.units import Units

ALONE = "alone"


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    exit_arms: tuple[Arm, ...] = ()
    claims: tuple[Claim, ...] = ()
    """Beside the expected ones."""
    reference: str | None = None
    """Arm that the others are compared with in the table."""
    confidence: float = 0.95
    resamples: int = 5000


@dataclass(frozen=True)
class Line:
    """One contestant."""

    name: str
    accuracy: float
    """Or what stands in for it: the comparison's `metric`."""
    interval: tuple[float, float]
    deviation: float
    """Over seeds."""
    share_of_best_teacher: tuple[float, float, float]
    gap_closed: tuple[float, float, float] | None
    """Of the gap between the student alone and the best teacher; None where there is none, or no arm `alone`."""
    minus_reference: tuple[float, float, float] | None
    training_seconds: float | None
    """Mean over seeds of the student's stages."""
    students: int | None
    """Students that a text passes through."""
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """What came out."""

    lines: list[Line]
    findings: list[Finding]
    exits: dict[str, ExitTable]
    best_teacher: str
    data: dict[str, Any]
    """Rows of each split, labels, hash, notes."""
    shared_seconds: dict[str, float] = field(default_factory=dict)
    """Stages that all arms share."""
    metric: str = "accuracy"
    """The task's main metric, in a person's words."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "metric": self.metric,
            "best_teacher": self.best_teacher,
            "data": self.data,
            "lines": [asdict(line) for line in self.lines],
            "findings": [finding.as_dict() for finding in self.findings],
            "exits": {name: table.as_dict() for name, table in self.exits.items()},
            "shared_seconds": self.shared_seconds,
        }


def compare(setting: Setting, request: Request) -> Comparison:
    """Compute, or find, everything that the request needs, and compare by the task's main metric."""
    from kd_core.tasks import encode

    board = setting.bench.board
    board.start(_jobs(request))
    board.job("teachers")
    rows, task, data = contestants.rows_of(setting)
    targets, kind = encode.of(task.kind).targets(rows, task), task.kind
    asked = contestants.teachers(setting)
    counts = {f"teacher {name}": counts_of([found], targets, kind) for name, found in asked.items()}
    best = max(counts, key=lambda name: mean_metric(counts[name], kind))
    costs = {}
    for arm in request.arms:
        answers = []
        for seed in request.seeds if arm.seeded else request.seeds[:1]:
            board.job(f"{arm.name} seed {seed}")
            answers.append(contestants.answer(setting, arm, seed))
        counts[arm.name], costs[arm.name] = counts_of(answers, targets, kind), answers
    tables = {}
    for arm in request.exit_arms:
        board.job(f"{arm.name} exits")
        tables[arm.name] = exits(setting, arm, request.seeds, targets, kind)
        counts[arm.name + LABEL] = tables[arm.name].counts
    counts[TEACHER] = counts[best]
    groups = rows["group"].to_numpy(str)
    found = seed_resampling.compare(
        counts, groups, decide.of(kind).metric, request.confidence, request.resamples, seed=0
    )
    lines = [_line(name, found, request, costs.get(name)) for name in counts if name != TEACHER]
    claims = [*EXPECTED, *request.claims, *_of_exits(request.exit_arms)]
    findings, metric = judge(found, claims), decide.of(kind).METRIC_NAME
    return Comparison(lines, findings, tables, best, _data(data), _shared(setting), metric)


def _jobs(request: Request) -> int:
    return 1 + sum(len(request.seeds) if arm.seeded else 1 for arm in request.arms) + len(request.exit_arms)


def counts_of(answers: Sequence[Any], targets: Units, kind: Kind) -> np.ndarray:
    """[S, N, K], what the main metric is made of."""
    task = decide.of(kind)
    return np.stack([task.counts(task.decisions(Units.one_a_row(each.probabilities)), targets) for each in answers])


def _of_exits(arms: Sequence[Arm]) -> list[Claim]:
    """Self-attention distillation must not hurt the exits."""
    names = {arm.name for arm in arms}
    added = "+self_attention"
    return [
        Claim(f"{name}{added}{LABEL}", f"{name}{LABEL}", "not worse", "self-attention distillation spares the exits")
        for name in sorted(names)
        if f"{name}{added}" in names
    ]


def _line(name: str, found: Contestants, request: Request, answers: Sequence[contestants.Answer] | None) -> Line:
    accuracy, share = found.metric(name), found.share(name, TEACHER)
    trained = name in {arm.name for arm in request.arms} and name != ALONE
    gap = found.gap_closed(name, ALONE, TEACHER) if trained and ALONE in found.values else None
    reference = request.reference
    compared = reference if reference in found.values and reference != name else None
    minus = found.difference(name, compared) if compared else None
    return Line(
        name,
        accuracy.value,
        (accuracy.low, accuracy.high),
        found.deviations[name],
        (share.value, share.low, share.high),
        (gap.value, gap.low, gap.high) if gap else None,
        (minus.value, minus.low, minus.high) if minus else None,
        float(np.mean([each.training_seconds for each in answers])) if answers else None,
        answers[0].students if answers else None,
        tuple(file for each in answers or () for file in each.files),
    )


def _data(run: Run) -> dict[str, Any]:
    record = json.loads(run.path(contestants.RECORD).read_text(encoding="utf-8"))
    return {key: record[key] for key in ("counts", "hash", "notes", "unlabelled_from")}


def _shared(setting: Setting) -> dict[str, float]:
    run = setting.run(Arm("tmkd", ("tmkd",), ()), None, ["score_pretraining", "score_reference"])
    return {stage: run.seconds(stage) for stage in ("teach", "score_pretraining", "score_reference")}

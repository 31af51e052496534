"""Answers of registered versions on a run's test rows: the champion, and the version from which losses are counted."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kd_core.config.data import TaskParams
from kd_core.rows import labels_of
from kd_core.runtime.arrays import Floats
from kd_core.tasks import decide, encode
from kd_core.tasks.kinds import kind_in
from kd_ops.base.settings import Settings
from kd_ops.promotion.evidence import Champion, Measured, Speed
from kd_ops.runs.outs import Outs, read_document
from kd_ops.serving.served import serve_version

EXAMPLES = "evaluation/details/examples.parquet"
SERVED = "adaptive"
"""The answers in service: those with early exits at the chosen thresholds."""


@dataclass(frozen=True)
class Asked:
    """The test rows that registered versions must answer."""

    model: Measured
    """The challenger."""
    examples: pd.DataFrame
    """The challenger's evaluation, row by row."""
    rows: pd.DataFrame
    """The texts of the same rows."""
    outs: Outs
    client: Any
    settings: Settings

    def champion(self, version: Any) -> Champion:
        """The registered version's numbers, with its counts on the rows."""
        tags = version.tags
        latency, relative = (
            float(tags[key]) if key in tags else None for key in ("kd.latency_ms", "kd.relative_latency")
        )
        return Champion(
            version=str(version.version),
            weights=tags["kd.weights"],
            labels=tuple(json.loads(tags["kd.labels"])),
            counts=self.counts(version),
            speed=Speed(latency, relative, tags.get("kd.machine")),
            kind=kind_in(tags, "kd.task"),
        )

    def counts(self, version: Any) -> Floats:
        """[N, K], counts of its answers; zeros if its labels or kind differ: the gate names and refuses these."""
        own = counts_of(self.examples, SERVED)
        if not self.comparable(version):
            return np.zeros_like(own)
        if version.tags["kd.weights"] == self.model.weights:
            return own
        known = self._stored(version)
        return self._computed(version) if known is None else known

    def comparable(self, version: Any) -> bool:
        """Whether the version has the model's labels and kind of task."""
        labels, kind = json.loads(version.tags["kd.labels"]), kind_in(version.tags, "kd.task")
        return (set(labels), kind) == (set(self.model.labels), self.model.kind)

    def _stored(self, version: Any) -> Floats | None:
        """Counts from the version's own run, if it was evaluated on the same test set."""
        from mlflow.exceptions import MlflowException

        if version.tags.get("kd.test_hash") != test_hash(self.outs):
            return None
        with tempfile.TemporaryDirectory() as scratch:
            try:
                stored = pd.read_parquet(self.client.download_artifacts(version.run_id, EXAMPLES, scratch))
            except (MlflowException, OSError):  # its run was deleted, but the model can still answer
                return None
        stored = stored.set_index("id")
        if f"{SERVED}/counts" not in stored.columns or not self.examples["id"].isin(stored.index).all():
            return None
        return counts_of(stored.loc[self.examples["id"]], SERVED)

    def _computed(self, version: Any) -> Floats:
        """Counts of the version's answers, computed now."""
        texts = [column for column in ("text", "text_pair") if column in self.rows.columns]
        with tempfile.TemporaryDirectory() as scratch:
            source, target = Path(scratch) / "test.parquet", Path(scratch) / "answers.parquet"
            self.rows[texts].to_parquet(source, index=False)
            served = serve_version(version, self.settings)
            served.predict(["--input", str(source), "--output", str(target), *served.as_named(texts)])
            answers = pd.read_parquet(target)["label"]
        task = TaskParams(kind=self.model.kind, labels=self.model.labels)
        given, gold = (
            encode.of(task.kind).targets(self.rows.assign(label=column.map(labels_of).to_numpy()), task)
            for column in (answers, self.examples["label"])
        )
        return decide.of(task.kind).counts(given, gold)


def counts_of(examples: pd.DataFrame, model: str) -> Floats:
    """[N, K], the counts from which the main metric of `model` is computed."""
    return np.array(examples[f"{model}/counts"].tolist(), dtype=np.float64)


def test_hash(outs: Outs) -> str:
    """Hash of the test rows of the run's evaluation."""
    return str(read_document(outs, "evaluation/metrics.json")["test"]["hash"])

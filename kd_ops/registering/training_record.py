"""What each registered version was trained on, so that no version is judged on rows that it or its rival has seen.

`STORE_URI/ledgers/trained_on/SHA256.parquet`, named by the version's tag `kd.trained_on`. It holds every text that any
stage on the way to the student reads, to train, to choose an epoch or to calibrate the exits; and what its teachers
and its base were trained on, where these are registered versions themselves.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import pandas as pd

from kd_core.evaluation.quality.contamination import TrainedTexts
from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.registry.registry import version
from kd_ops.resolving.split_ledgers import ROLES
from kd_ops.runs.outs import Outs
from kd_ops.runs.runs import Run

FOLDER = "ledgers/trained_on"
TAG = "kd.trained_on"
SPLITS = ("train", "unlabelled", "valid", "calibration")
"""Of both data sets; a test holds the stages to it."""


def keep_record(run: Run, outs: Outs, client: Any, settings: Settings) -> str:
    """Write the record of the run's student; its sha256. Raises TryAgainError if the run has no checked data yet."""
    record = TrainedTexts.of(_rows(outs))
    for inherited in _inherited(run, client, settings):
        record |= inherited
    data = record.to_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    Storage(settings.store_uri).create(_name(sha256), data)
    return sha256


def read_record(sha256: str, settings: Settings) -> TrainedTexts:
    """A record. Raises FileNotFoundError if the store has lost it."""
    return TrainedTexts.from_bytes(Storage(settings.store_uri).read(_name(sha256)), _name(sha256))


def _rows(outs: Outs) -> Iterator[pd.DataFrame]:
    for role in ROLES:
        for split in SPLITS:
            yield pd.read_parquet(io.BytesIO(outs.read(f"data/checked/{role}/{split}.parquet")))


def _inherited(run: Run, client: Any, settings: Settings) -> Iterator[TrainedTexts]:
    """Records of the registered versions among teachers and base; foreign models have no record."""
    params = run.params()
    resolved = params["resolved"]
    given = [(teacher["weights"], resolved["teachers"][name]) for name, teacher in params["teachers"].items()]
    for address, source in [*given, (params["student"]["base"], resolved["student"])]:
        if not address.startswith("models:/"):
            continue
        name, _, number = str(source["revision"]).rpartition("/")
        tags = version(client, name, number).tags
        if TAG in tags:
            yield read_record(tags[TAG], settings)


def _name(sha256: str) -> str:
    return f"{FOLDER}/{sha256}.parquet"

"""Labelled short texts for timings: banking77 where it is at hand, otherwise the recipe `route`'s own; and requests."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import yaml

from kd_core.config.base import parse
from kd_core.config.data import BotocoreSource
from kd_core.data.sources.botocore_docs import read_botocore
from kd_ops.base.settings import PROJECT

Request = list[str] | pd.DataFrame


def labelled_texts() -> tuple[str, pd.DataFrame, pd.DataFrame]:
    """Name of the source, and train and test rows: id, text, label, in a fixed random order."""
    folder = os.environ.get("KD_SHARED_DATA")
    if folder:
        train, test = (pd.read_csv(Path(folder) / "banking77" / f"{split}.csv") for split in ("train", "test"))
        train, test = (_rows(each.rename(columns={"category": "label"})) for each in (train, test))
        return "banking77", train, test
    recipe = yaml.safe_load((PROJECT / "recipes/route.yaml").read_text(encoding="utf-8"))
    rows = _rows(read_botocore(parse(BotocoreSource, recipe["data"]["reference"]["source"], "source")))
    return "route (set KD_SHARED_DATA for banking77)", rows.iloc[::2], rows.iloc[1::2]


def texts_of(file: Path | None) -> tuple[str, pd.DataFrame]:
    """Name and rows of a Parquet file with a column `text`, in a fixed random order; none: `labelled_texts`' test."""
    if file is None:
        source, _, rows = labelled_texts()
        return source, rows
    return str(file), _rows(pd.read_parquet(file))


def request_of(rows: pd.DataFrame) -> Request:
    """As a program would ask: a list of texts; pairs stay a frame."""
    return rows if "text_pair" in rows.columns else rows["text"].tolist()


def columns_of(request: Request) -> list[list[str]]:
    """The texts of a request, and those that they are paired with."""
    if isinstance(request, pd.DataFrame):
        return [request[name].tolist() for name in ("text", "text_pair") if name in request.columns]
    return [request]


def _rows(frame: pd.DataFrame) -> pd.DataFrame:
    mixed = frame.sample(frac=1, random_state=0).reset_index(drop=True)
    return mixed.assign(id=[f"{index:06d}" for index in mixed.index])

"""The Great Expectations suites of a data set, generated from its task's columns, and their results in plain terms.

Importing this module is cheap; Great Expectations (about 10 s) is imported when a suite runs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kd_core.config.data import BotocoreSource, DataParams, Role
from kd_core.tasks import checks

ROW = "row"
"""Column of the checked frame that numbers its rows from 0."""
NEAR_DUPLICATE_OF = "near_duplicate_of"
LABEL_SHIFT = "label_shift"
LABELLED = ("train", "valid", "calibration", "test")

KEPT_APART = "near-duplicate of a row in an evaluation split"
"""Set aside, but no fault of the row: it does not count against the tolerance."""

_EXAMPLES = 20
"""Failing values that a page of the data docs shows for one expectation."""


@dataclass(frozen=True)
class Check:
    """Outcome of one expectation."""

    reason: str
    """What is wrong where it is not met, in a person's words."""
    expectation: str
    column: str | None
    success: bool
    rows: tuple[int, ...] = ()
    """Failing rows, by the `row` column; empty for an expectation about the whole data set."""


@dataclass(frozen=True)
class SuiteResult:
    """Outcome of one suite."""

    name: str
    checks: tuple[Check, ...]
    result: Any
    """Great Expectations' own result, for the data docs."""


def id_reason(params: DataParams) -> str:
    """What is said of rows that have one id; the column is named as the source calls it."""
    columns = {} if isinstance(params.source, BotocoreSource) else params.source.columns
    return f"id (column {columns.get('id') or 'id'!r}) used more than once"


def run_row_suite(frame: pd.DataFrame, params: DataParams) -> SuiteResult:
    """Check each row.

    `frame`: row, id, split, text, text_pair?, label, near_duplicate_of (null where there is none).
    """
    gxe = _great_expectations().expectations
    longest = params.validation.max_characters
    suite: list[tuple[str, Any]] = []
    for column in [name for name in ("text", "text_pair") if name in frame.columns]:
        suite += [
            (f"{column} missing", gxe.ExpectColumnValuesToNotBeNull(column=column)),
            (f"{column} empty", gxe.ExpectColumnValuesToMatchRegex(column=column, regex=r"\S")),
            (
                f"{column} longer than {longest} characters",
                gxe.ExpectColumnValueLengthsToBeBetween(column=column, max_value=longest),
            ),
        ]
    suite.append((id_reason(params), gxe.ExpectColumnValuesToBeUnique(column="id")))
    if params.task is not None and frame["split"].isin(LABELLED).any():
        labelled = _in_splits(LABELLED)
        frame, in_set = checks.of(params.task.kind).known_labels(frame, params.task, labelled)
        suite += [
            ("label missing", gxe.ExpectColumnValuesToNotBeNull(column="label", row_condition=labelled)),
            ("label outside the set", in_set),
        ]
    suite.append((KEPT_APART, gxe.ExpectColumnValuesToBeNull(column=NEAR_DUPLICATE_OF)))
    return _run("rows", suite, frame)


def run_dataset_suite(frame: pd.DataFrame, params: DataParams, role: Role) -> SuiteResult:
    """Check what only the whole can show, on the rows that were kept.

    `frame` has also the column label_shift; a row with several labels has a line for each.
    """
    gxe = _great_expectations().expectations
    suite: list[tuple[str, Any]] = [("the data set is empty", gxe.ExpectTableRowCountToBeBetween(min_value=1))]
    if params.task is not None:
        needed = list(LABELLED if role == "reference" else ("train", "valid"))
        suite += [
            ("a split is empty", gxe.ExpectColumnDistinctValuesToContainSet(column="split", value_set=needed)),
            (
                "a class has no training row",
                gxe.ExpectColumnDistinctValuesToContainSet(
                    column="label", value_set=list(params.task.labels), row_condition=_in_splits(["train"])
                ),
            ),
            (
                "the label distribution has shifted",
                gxe.ExpectColumnMaxToBeBetween(column=LABEL_SHIFT, max_value=params.validation.max_label_shift),
            ),
        ]
    if frame.empty:
        suite = suite[:1]
    return _run("dataset", suite, frame)


def _great_expectations() -> Any:
    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # it reports each method that it defines
    import great_expectations
    import great_expectations.expectations

    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    return great_expectations


def _in_splits(splits: Sequence[str]) -> Any:
    from great_expectations.expectations.row_conditions import Column

    return Column("split").is_in(list(splits))


def _run(name: str, expectations: Sequence[tuple[str, Any]], frame: pd.DataFrame) -> SuiteResult:
    gx = _great_expectations()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    suite = gx.ExpectationSuite(name=name)
    for reason, expectation in expectations:
        expectation.meta = {"reason": reason}
        suite.add_expectation(expectation)
    suite = context.suites.add(suite)
    batch = context.data_sources.add_pandas(name).add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    result = definition.run(
        batch_parameters={"dataframe": frame},
        result_format={
            "result_format": "COMPLETE",
            "unexpected_index_column_names": [ROW],
            "return_unexpected_index_query": False,
            "partial_unexpected_count": _EXAMPLES,
        },
    )
    for one in result.results:  # the pages' renderer knows no numpy numbers
        if hasattr(one.result.get("observed_value"), "item"):
            one.result["observed_value"] = one.result["observed_value"].item()
    return SuiteResult(name, tuple(_check(one) for one in result.results), result)


def _check(one: Any) -> Check:
    """Plain terms for one result. Raises RuntimeError if the expectation could not be evaluated at all."""
    config = one.expectation_config
    if one.exception_info and one.exception_info.get("raised_exception", not one.success and not one.result):
        raise RuntimeError(f"{config.type} could not be evaluated: {one.exception_info}")
    rows = tuple(int(index[ROW]) for index in one.result.get("unexpected_index_list") or ())
    return Check(config.meta["reason"], config.type, config.kwargs.get("column"), bool(one.success), rows)

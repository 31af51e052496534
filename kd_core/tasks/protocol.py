"""What each aspect of a task must offer; no torch at import.

docs/tasks.md tells how the aspects belong together. B rows of a batch, N rows in all, U units a row (padded in a batch;
ΣU of all rows otherwise, see kd_core.tasks.units), C outputs, H hidden units, L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kd_core.config.data import TaskParams
from kd_core.runtime.arrays import Booleans, Floats, Integers
from kd_core.tasks.units import Units

if TYPE_CHECKING:
    import pandas as pd


class Columns(Protocol):
    """How labels stand in a data set."""

    @property
    def LISTED(self) -> bool:  # noqa: N802 - a constant of a module
        """Whether a label is a list of texts, which a text cell holds with a separator between them."""

    @property
    def ORDERED(self) -> bool:  # noqa: N802
        """Whether the order of the list counts, and what is repeated in it: so it is where each unit has a label."""


class Checks(Protocol):
    """What labels must be."""

    def known_labels(self, frame: pd.DataFrame, task: TaskParams, condition: Any) -> tuple[pd.DataFrame, Any]:
        """The frame with what the check needs, and Great Expectations' expectation on rows that meet a condition."""


class Encode(Protocol):
    """From texts to units. `texts` are the columns that the task reads, each [N]."""

    @property
    def FEATURES(self) -> tuple[str, ...]:  # noqa: N802 - a constant of a module
        """What heads must know of each unit beside the tokens: names of integers [B, U] in a batch.

        They are inputs of the exported graphs, too. A kind with several units a row has one at least: where there are
        none, nothing of a batch says how many units its rows have.
        """

    def sizes(self, texts: Sequence[Sequence[str]]) -> Integers:
        """[N], units of each row: they follow from its text alone, so that all tokenizers agree on them."""

    def features(self, texts: Sequence[Sequence[str]], encodings: Sequence[Any]) -> Mapping[str, Units]:
        """FEATURES of all rows; `encodings` [N] are those of the library `tokenizers`."""

    def targets(self, rows: pd.DataFrame, task: TaskParams) -> Units:
        """Gold of rows (id, texts, label), in the form of decisions; NO_LABEL throughout for an unlabelled row."""


class Decide(Protocol):
    """From probabilities to decisions and what they count; numpy only."""

    @property
    def MAIN_METRIC(self) -> str:  # noqa: N802 - a constant of a module
        """Key of the main metric in documents."""

    @property
    def METRIC_NAME(self) -> str:  # noqa: N802
        """The main metric in a person's words."""

    def decisions(self, probabilities: Units) -> Units:
        """Decisions in the form that gold has, from probabilities [ΣU, C]."""

    def counts(self, given: Units, gold: Units) -> Floats:
        """[N, K] numbers of each row whose sums `metric` takes, from decisions and gold."""

    def metric(self, sums: Floats) -> Floats:
        """The main metric, higher is better, of sums of counts: [..., K] → [...]."""

    def same(self, given: Units, other: Units) -> Booleans:
        """[N], whether two models decide alike on a row."""

    def uncertainty(self, probabilities: Units) -> NDArray[np.float32]:
        """[N] in [0, 1], 0 is certain."""

    def named(self, given: Units, labels: Sequence[str]) -> list[Any]:
        """[N] decisions as they stand in tables, in the form of a gold label."""

    def table(self, probabilities: Units, labels: Sequence[str]) -> dict[str, Any]:
        """Columns of N answers, `label` and `probability`, for predictions, their log and the signature."""

    def indicators(self, gold: Units, outputs: int) -> Integers:
        """[ΣU, C], 1 at each output that gold takes."""

    def choices(self, logits: Floats) -> Floats:
        """Logits [ΣU, C] as those of M independent choices, each a softmax over C' options: [M, C']."""

    def chosen(self, gold: Integers) -> Integers:
        """[M], the option that gold takes of each choice."""

    def chances(self, probabilities: NDArray[Any]) -> Floats:
        """Probabilities [ΣU, C] as those of the choices, [M, C']."""

    def log_loss(self, probabilities: Units, gold: Units) -> float:
        """Mean negative log-probability of what gold takes, in nats."""

    def shares(self, probabilities: Units, labels: Sequence[str]) -> dict[str, Any]:
        """Label → [N], its probability; for those who ask for the probability of every label."""


class Metrics(Protocol):
    """How good probabilities [ΣU, C] are against gold."""

    def quality(self, probabilities: Units, gold: Units) -> dict[str, float]:
        """Name → value, the main metric first; among them macro_f1, log_loss and ece."""

    def reliability_bins(self, probabilities: Units, gold: Units) -> dict[str, Floats]:
        """Per bin of confidence: decisions (`rows`), mean `confidence` and `accuracy`."""


class Sections(Protocol):
    """What the report and the model card say of a kind."""

    @property
    def TITLE(self) -> str:  # noqa: N802 - a constant of a module
        """What the task is called."""

    @property
    def DOES(self) -> str:  # noqa: N802
        """What a model does, with {texts} and {labels}, their number."""

    @property
    def GIVEN(self) -> str:  # noqa: N802
        """What a text is given, as a sentence."""

    @property
    def REACHED(self) -> str:  # noqa: N802
        """What the student did, with {share}, its main metric, and {texts}, how many there were."""

    @property
    def FURTHER(self) -> Mapping[str, str]:  # noqa: N802
        """Metrics that are shown beside the main one, macro-F1, log-loss and ECE: key → in a person's words."""

    @property
    def COUNTED(self) -> str:  # noqa: N802
        """What `rows` of `confusion` count."""

    @property
    def BINNED(self) -> tuple[str, str]:  # noqa: N802
        """What bins of confidence count, in full and in short."""

    @property
    def HARDEST(self) -> tuple[str, str]:  # noqa: N802
        """Title and text below the picture of `confusion`."""

    @property
    def LOWEST(self) -> str:  # noqa: N802
        """The number that `how` tells first."""

    def confusion(self, probabilities: Units, gold: Units, labels: Sequence[str]) -> dict[str, Any]:
        """labels, classes (label, rows, recall, …; the worst first), mistakes (rows, label, predicted).

        With `matrix` [C, C], true label × answer, the picture shows what is taken for what; without, it shows recall
        and `precision` of each of the classes.
        """

    def how(self, entry: Mapping[str, Any]) -> str:
        """One of the classes of `confusion` in words."""


class Baseline(Protocol):
    """A model without any transformer, in a folder of its own."""

    def fit(self, rows: pd.DataFrame, task: TaskParams, folder: Path) -> None:
        """Fit on labelled rows and write the model to `folder`."""

    def answer(self, folder: Path, rows: pd.DataFrame, task: TaskParams) -> Units:
        """Probabilities [ΣU, C] of the model in `folder`."""

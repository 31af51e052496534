"""What the method is expected to show, and what was seen: each claim by a paired test over rows and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.seed_resampling import Contestants
from kd_core.evaluation.statistics.comparison import holm
from kd_core.evaluation.statistics.intervals import Interval

TEACHER = "best teacher"
Kind = Literal["better", "not worse", "share"]

MARGIN = 0.01
"""Accuracy that "not worse" may be worse."""
SHARE = 0.99


@dataclass(frozen=True)
class Claim:
    """`left` against `right`."""

    left: str
    right: str
    kind: Kind
    because: str

    @property
    def text(self) -> str:
        """For a person."""
        if self.kind == "share":
            return f"{self.left} ≥ {SHARE:.0%} of {self.right}"
        return f"{self.left} {'>' if self.kind == 'better' else '≥'} {self.right}"


EXPECTED = (
    Claim(TEACHER, "alone", "better", "there is something to learn from the teacher"),
    Claim("tmkd", "mkd", "better", "stage one helps"),
    Claim("tkd", "one_o_one", "better", "stage one helps a single teacher's student"),
    Claim("tkd", "alone", "better", "distillation helps"),
    Claim("tmkd", "alone", "better", "distillation helps"),
    Claim("tmkd", "tkd", "better", "several teachers help"),
    Claim("mkd", "one_avg_o_one", "better", "a decoder a teacher beats the average of the teachers"),
    Claim("mkd", "m_o_m", "not worse", "one student with k decoders does as well as k students"),
    Claim("tmkd", "m_o_m", "not worse", "one student with k decoders does as well as k students"),
    Claim("tmkd", "tfidf", "better", "the task needs more than words"),
    Claim("tmkd", "frozen", "better", "the student is more than its base's embeddings"),
    Claim("tmkd", TEACHER, "share", "the student keeps what the teacher can"),
)


@dataclass(frozen=True)
class Finding:
    """A claim and what was seen."""

    claim: str
    because: str
    seen: float
    """A difference in accuracy, or a share."""
    low: float
    high: float
    p_value: float | None
    """Two-sided, after Holm's correction over the findings that have one."""
    verdict: Literal["shown", "not shown", "contradicted"]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def judge(found: Contestants, claims: Sequence[Claim]) -> list[Finding]:
    """The findings for those claims whose both sides were run, in the order of `claims`.

    "better" is shown where the corrected p-value is below 1 − confidence, "not worse" where the interval lies above
    −1 point, "share" where the interval lies above 99 %; contradicted where the interval lies wholly on the other side.
    """
    present = [claim for claim in claims if {claim.left, claim.right} <= set(found.values)]
    better = [claim for claim in present if claim.kind == "better"]
    adjusted = dict(zip(better, holm([found.p_value(c.left, c.right) for c in better]), strict=True))
    return [_finding(claim, found, adjusted.get(claim)) for claim in present]


def compared(texts: Sequence[str]) -> Iterator[Claim]:
    """Claims written `LEFT>RIGHT`, which a user wants tested beside the expected ones."""
    for text in texts:
        left, _, right = text.partition(">")
        yield Claim(left, right, "better", "asked for")


def _finding(claim: Claim, found: Contestants, p_value: float | None) -> Finding:
    if claim.kind == "share":
        seen, bound = found.share(claim.left, claim.right), SHARE
    else:
        seen, bound = found.difference(claim.left, claim.right), -MARGIN if claim.kind == "not worse" else 0.0
    significant = p_value is None or p_value < 1 - found.confidence
    verdict = _verdict(seen, bound) if significant else "not shown"
    return Finding(claim.text, claim.because, seen.value, seen.low, seen.high, p_value, verdict)


def _verdict(seen: Interval, bound: float) -> Literal["shown", "not shown", "contradicted"]:
    if seen.low > bound:
        return "shown"
    return "contradicted" if seen.high < bound else "not shown"

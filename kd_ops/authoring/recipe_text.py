"""The text of a recipe: values as every YAML reader sees them, and comments on what to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

from kd_core.data.profiling.words import Findings, Overview
from kd_ops.base.documents import in_flow

_WIDTH = 116
"""Signs in a line of comments."""


@dataclass(frozen=True)
class Defaults:
    """What a recipe inherits from params.yaml, and what other recipes do for tasks like its own."""

    base: str
    teachers: Sequence[str]
    min_accuracy: float
    of_pairs: Mapping[str, Any] = field(default_factory=dict)
    """Sections that recipes of pairs of texts need beside the defaults."""


def recipe_text(name: str, given: Sequence[str], source: Mapping[str, Any], found: Overview, defaults: Defaults) -> str:
    """The whole file. `given` are the paths that the user typed, `source` is as the recipe is to name it."""
    assert found.findings is not None  # noqa: S101 -- there are no questions left
    pair = found.roles.text_pair is not None
    lines = [
        *_head(name, given, found),
        f"recipe: {in_flow(name)}",
        "",
        "data:",
        "  reference:",
        *_task(found.findings, pair),
        *_source(source),
        *_split(found.findings),
        *_tolerance(found.findings, "reference"),
        *_pretraining(source, found.findings),
        "",
        *_rest(defaults, pair),
    ]
    return "\n".join(lines) + "\n"


def _head(name: str, given: Sequence[str], found: Overview) -> Iterator[str]:
    yield _comment(f"Written by `kd init` from {', '.join(given)}; to run it: kd run --recipe {name}")
    yield "# Every key stands in docs/configuration.md; what is not said here is as in params.yaml."
    assert found.findings is not None  # noqa: S101
    unread = [column.name for column in found.columns if column.name not in found.roles.model_dump().values()]
    notes = [*found.notes, *found.findings.warnings]
    if unread:
        notes.append(f"columns that are not read: {', '.join(unread)}")
    if notes:
        yield "#"
        yield "# To look at:"
        yield from (_comment(f"- {note}") for note in notes)


def _task(findings: Findings, pair: bool) -> Iterator[str]:
    tokens = findings.tokens
    cut = f"{tokens['cut']:,} of {tokens['counted']:,} texts that were counted are longer"
    yield "    task:"
    yield f"      kind: {findings.kind}"
    if pair:
        yield "      pair: true"
    yield f"      max_length: {findings.max_length}   # tokens: median {tokens['median']}, 95 % {tokens['95 %']}; {cut}"
    yield f"      labels:   # all {len(findings.labels)}, with their rows; a label that is not here is set aside"
    for label, rows in sorted(findings.labels.items()):
        yield f"        - {in_flow(label)}   # {rows:,}"


def _source(source: Mapping[str, Any]) -> list[str]:
    return ["    source:", *_block(source, 6)]


def _split(findings: Findings) -> Iterator[str]:
    sizes = ", ".join(f"{split} {rows:,}" for split, rows in findings.sizes.items())
    if findings.split is None:
        yield f"    # Splits, by the default shares: {sizes} rows."
        return
    yield "    # Teachers learn from each training row, so a part keeps its labels and the rest gives texts; in rows:"
    yield f"    # {sizes}."
    yield f"    split: {in_flow(dict(findings.split))}"


def _tolerance(findings: Findings, role: str) -> Iterator[str]:
    if role in findings.tolerance:
        yield (
            f"    # {findings.faulty[role]:,} rows cannot be used and are set aside; correct them at the source, then "
            "take this line out."
        )
        yield f"    validation: {in_flow({'tolerance': findings.tolerance[role]})}"


def _pretraining(source: Mapping[str, Any], findings: Findings) -> Iterator[str]:
    yield "  pretraining:   # stage one's texts: the same without labels, evaluation rows left out; more texts help"
    yield from _source(_without_labels(source))
    yield from _tolerance(findings, "pretraining")


def _without_labels(source: Mapping[str, Any]) -> dict[str, Any]:
    """The source of stage one: what trains stage two, and texts that have no label."""
    columns = {ours: theirs for ours, theirs in source["columns"].items() if ours != "label"}
    kept = {key: value for key, value in source.items() if key != "label_separator"} | {"columns": columns}
    key = "path" if "path" in source else "splits"
    if not isinstance(source.get(key), dict):
        return kept
    return kept | {key: {split: given for split, given in source[key].items() if split in ("train", "unlabelled")}}


def _rest(defaults: Defaults, pair: bool) -> Iterator[str]:
    teachers = " and ".join(defaults.teachers)
    yield _comment(f"Teachers: {teachers} of params.yaml, fine-tuned on these labels. Your own: docs/guide.md.")
    if pair and defaults.of_pairs:
        yield "# Two texts must be compared: copied layers and smaller steps, as in recipes/match.yaml."
        yield from _block(defaults.of_pairs, 0)
    yield ""
    yield _comment(
        f"What a student must reach to become champion; params.yaml asks for an accuracy of {defaults.min_accuracy:g}."
    )
    yield f"gate: {in_flow({'min_accuracy': defaults.min_accuracy})}"


def _block(values: Mapping[str, Any], indent: int) -> list[str]:
    return [f"{' ' * indent}{in_flow(key)}: {in_flow(value)}" for key, value in values.items()]


def _comment(text: str) -> str:
    """A comment, whatever signs there are in names and texts of a user."""
    plain = "".join(sign if sign.isprintable() else " " for sign in text)
    more = "#   " if text.startswith("-") else "# "
    return "\n".join(wrap(plain, _WIDTH, initial_indent="# ", subsequent_indent=more))

"""What `kd init` saw, for a person at a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kd_core.data.profiling.words import ColumnProfile, Findings, Overview

_LABELS = 8
"""Labels that are shown."""


def tell(found: Overview, target: Path, console: Console) -> None:
    """Print the columns, what they hold, what to look at, and the next command."""
    findings = found.findings
    if findings is None:
        return
    console.print(_columns(found))
    for line in (*_facts(findings), *found.notes):
        console.print(escape(line), highlight=False, soft_wrap=True)
    for warning in findings.warnings:
        console.print(f"[yellow]look at:[/] {escape(warning)}", highlight=False, soft_wrap=True)
    console.print(f"\n[bold]{escape(str(target))}[/] is written; read it, then:", highlight=False, soft_wrap=True)
    console.print(f"  kd run --recipe {target.stem}", highlight=False)


def _columns(found: Overview) -> Table:
    roles = found.roles.model_dump()
    uses = {name: role for role, name in roles.items() if name is not None and role != "separator"}
    table = Table("column", "taken as", "values", "words", "for example", box=None, header_style="dim")
    for column in found.columns:
        table.add_row(escape(column.name), uses.get(column.name, "[dim]not read[/]"), *_cells(column))
    return table


def _cells(column: ColumnProfile) -> tuple[str, str, str]:
    return f"{column.distinct:,}", f"{column.words:g}", escape(" · ".join(column.examples[:2]))


def _facts(findings: Findings) -> list[str]:
    shown = ", ".join(f"{label!r} {rows:,}" for label, rows in list(findings.labels.items())[:_LABELS])
    more = ", …" if len(findings.labels) > _LABELS else ""
    tokens = findings.tokens
    sizes = ", ".join(f"{split} {rows:,}" for split, rows in findings.sizes.items())
    return [
        f"{findings.rows:,} rows, {findings.unlabelled:,} of them without a label; {len(findings.labels)} labels: "
        f"{shown}{more}",
        f"tokens: median {tokens['median']}, 95 % {tokens['95 %']}, 99 % {tokens['99 %']}, longest "
        f"{tokens['longest']}; max_length {findings.max_length}",
        f"near-duplicates: {findings.near:,} of {findings.looked_at:,} rows stand in groups, which stay together",
        f"splits: {sizes}",
    ]

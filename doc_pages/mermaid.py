"""Flow charts as Mermaid text, which GitHub draws."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

Arrows = Mapping[str, Iterable[str]]
"""Node → the nodes that its arrows point at."""


def chart(direction: str, arrows: Arrows) -> str:
    """A fenced Mermaid chart of all nodes that have an arrow. Arrows that follow from others are left out."""
    return "\n".join(["```mermaid", f"flowchart {direction}", *_lines(reduced(arrows)), "```"])


def _lines(arrows: dict[str, list[str]]) -> Iterator[str]:
    """Each arrow once; a line goes on where the only end of an arrow has arrows that are not drawn yet."""
    left = dict(arrows)
    for start in arrows:
        ends = left.pop(start, [])
        line = f"    {start}"
        while ends:
            line += f" --> {' & '.join(ends)}"
            ends = left.pop(ends[0], []) if len(ends) == 1 else []
        if "-->" in line:
            yield line


def reduced(arrows: Arrows) -> dict[str, list[str]]:
    """The arrows without those whose end is reached by a longer way too. Arrows of a circle stay."""
    beyond = {node: _beyond(node, arrows) for node in {*arrows, *(end for ends in arrows.values() for end in ends)}}

    def follows(end: str, ends: Iterable[str]) -> bool:
        return any(end in beyond[other] and other not in beyond[end] for other in ends)

    return {node: sorted(end for end in ends if not follows(end, ends)) for node, ends in arrows.items()}


def _beyond(node: str, arrows: Arrows) -> set[str]:
    """All nodes that are reached from `node`."""
    found: set[str] = set()
    left = list(arrows.get(node, ()))
    while left:
        if (end := left.pop()) not in found:
            found.add(end)
            left += arrows.get(end, ())
    return found

"""Flow charts as Mermaid text, which GitHub draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Arrows = Mapping[str, Iterable[str]]
"""Node → the nodes that its arrows point at. There are no circles."""


def chart(direction: str, labels: Mapping[str, str], arrows: Arrows) -> str:
    """A fenced Mermaid chart with a box a label. Arrows that follow from others are left out."""
    lines = [f'    {node}["{label}"]' for node, label in labels.items()]
    lines += [f"    {start} --> {end}" for start, ends in reduced(arrows).items() for end in ends]
    return "\n".join(["```mermaid", f"flowchart {direction}", *lines, "```"])


def reduced(arrows: Arrows) -> dict[str, list[str]]:
    """The arrows without those whose end is reached by a longer way too."""

    def beyond(node: str) -> set[str]:
        return {further for end in arrows.get(node, ()) for further in {end} | beyond(end)}

    return {
        node: sorted(end for end in ends if not any(end in beyond(other) for other in ends))
        for node, ends in sorted(arrows.items())
    }

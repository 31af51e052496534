"""Connected components: which positions any chain of links brings together."""

from __future__ import annotations


class Components:
    """Union–find over positions 0 … n−1; a component is named by its smallest position."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, position: int) -> int:
        """The component's name."""
        parent = self._parent
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    def join(self, left: int, right: int) -> None:
        """Make two components one."""
        first, second = sorted((self.find(left), self.find(right)))
        self._parent[second] = first

    def names(self) -> list[int]:
        """Component of each position."""
        return [self.find(position) for position in range(len(self._parent))]

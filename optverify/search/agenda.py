"""The open leaves of a tree, in the order in which they are taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count

import numpy as np

from optverify.proof import Proof
from optverify.search.node import Node

MAX_BYTES = 1 << 30
"""Open leaves may take about this much memory; beyond it the newest are taken first, which keeps their number."""


@dataclass(frozen=True, eq=False)
class Leaf:
    """An open node, and where in the proof it is written down."""

    node: Node
    proof: Proof | None


class Agenda:
    """A heap of open leaves: the newest first (depth-first), or the one with the least bound first while memory lasts.

    An interrupt between any two steps leaves a leaf here too often rather than too rarely.

    Parameters
    ----------
    best_first : bool
    leaf_bytes : int
        About what a leaf takes.
    """

    def __init__(self, *, best_first: bool, leaf_bytes: int) -> None:
        self._most = max(1_000, MAX_BYTES // leaf_bytes)
        self._best_first, self._newest_first = best_first, not best_first
        self._number = count()
        self._heap: list[tuple[float, int, Leaf]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, leaf: Leaf) -> None:
        """Add a leaf."""
        heappush(self._heap, self._entry(leaf))

    def move(self, most: int, into: list[Leaf]) -> None:
        """Move the next leaves, at most so many, to the end of a list."""
        if self._best_first and self._newest_first != (len(self._heap) > self._most // (1 + self._newest_first)):
            self._newest_first = not self._newest_first
            heap = [self._entry(leaf) for *_, leaf in self._heap]
            heapify(heap)
            self._heap = heap
        while self._heap and len(into) < most:
            into.append(self._heap[0][-1])
            heappop(self._heap)

    def nodes(self) -> Iterator[Node]:
        """Yield the nodes of all leaves, in no particular order."""
        return (leaf.node for *_, leaf in self._heap)

    def least(self) -> float:
        """Return the least bound of all leaves, +inf if there is none."""
        if self._heap and not self._newest_first:
            return self._heap[0][0]
        return min((node.value for node in self.nodes()), default=np.inf)

    def _entry(self, leaf: Leaf) -> tuple[float, int, Leaf]:
        number = next(self._number)
        return (-number if self._newest_first else leaf.node.value), number, leaf

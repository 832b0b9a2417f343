"""Open nodes of the tree, and how they are cut in two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from optverify.interval import Array, Interval
from optverify.preactivation import Bounds
from optverify.proof import InputSplit, Split
from optverify.query import Goal


@dataclass(frozen=True, eq=False)
class Node:
    """An open node: a box, what is known of the pre-activations on it, and the groups of rows left to prove.

    Parameters
    ----------
    lower, upper : (n_inputs,) float64
    layers : tuple of Interval, ends of shape (n_k,)
        Proved bounds, cut at 0 by the neuron splits on the path; () at the root.
    groups : tuple of int
    value : float
        Proved: no point of the node has a smaller value.
    depth : int
    gain : float
        Share of the missing value that ascent brought at the parent, 0 to 1.
    stale : int
        Splits of neurons since the bounds were computed anew.
    lift : float
        What the lifted relaxation gained where it was tried last on the path; inf: nowhere yet.
    """

    lower: Array
    upper: Array
    layers: tuple[Interval, ...]
    groups: tuple[int, ...]
    value: float = -np.inf
    depth: int = 0
    gain: float = 1.0
    stale: int = 0
    lift: float = np.inf

    @classmethod
    def root(cls, goal: Goal) -> Node:
        """Return the node that stands for the whole region of a goal."""
        region = goal.region.outward
        return cls(region.lower, region.upper, (), tuple(range(len(goal.groups))))

    @property
    def share(self) -> float:
        """Its part of the tree: each split halves it."""
        return 2.0**-self.depth


def divide(node: Node, split: Split) -> tuple[Node, Node]:
    """Return the two children, which cover the node."""
    depth = node.depth + 1
    if isinstance(split, InputSplit):
        upper, lower = node.upper.copy(), node.lower.copy()
        upper[split.index] = lower[split.index] = split.at
        return (
            replace(node, upper=upper, depth=depth, stale=0),
            replace(node, lower=lower, depth=depth, stale=0),
        )
    z = node.layers[split.relu]
    low, high = z.lower.copy(), z.upper.copy()
    low[split.index], high[split.index] = max(low[split.index], 0.0), min(high[split.index], 0.0)
    before, after = node.layers[: split.relu], node.layers[split.relu + 1 :]
    return (
        replace(node, layers=(*before, Interval(z.lower, high), *after), depth=depth, stale=node.stale + 1),
        replace(node, layers=(*before, Interval(low, z.upper), *after), depth=depth, stale=node.stale + 1),
    )


def boxes(nodes: Sequence[Node]) -> Interval:
    """Return the boxes of nodes, ends of shape (B, n_inputs)."""
    return Interval(np.stack([n.lower for n in nodes]), np.stack([n.upper for n in nodes]))


def known_bounds(nodes: Sequence[Node]) -> Bounds | None:
    """Return what is known of the pre-activations, ends of shape (B, n_k); None if some node knows nothing yet."""
    if not all(n.layers for n in nodes):
        return None
    return Bounds(
        tuple(
            Interval(np.stack([z.lower for z in layer]), np.stack([z.upper for z in layer]))
            for layer in zip(*(n.layers for n in nodes), strict=True)
        )
    )

"""What the search writes down of why it closed each node, and what of it a certificate stores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from optverify.interval import Array


@dataclass(frozen=True, slots=True)
class InputSplit:
    """Cut input `index` at `at`: x <= at, x >= at."""

    index: int
    at: float


@dataclass(frozen=True, slots=True)
class NeuronSplit:
    """Cut the pre-activation of neuron `index` of Relu `relu` at 0: z <= 0, z >= 0."""

    relu: int
    index: int


Split = InputSplit | NeuronSplit


@dataclass(frozen=True, eq=False, slots=True)
class Advice:
    """How to choose multipliers where not by the rule, as certificates store it.

    Neurons are the rectified coordinates of all Relus, numbered from the first Relu to the last.

    Parameters
    ----------
    sloped : (s,) int64
        Neurons with a slope of their own, increasing. It counts where the neuron is unstable and v >= 0.
    slopes : (s,) uint8
        In 255ths.
    given : (m,) int64
        Neurons with a multiplier of their own, increasing.
    multipliers : (m,) float64
    """

    sloped: NDArray[np.int64]
    slopes: NDArray[np.uint8]
    given: NDArray[np.int64]
    multipliers: Array


@dataclass(frozen=True, eq=False, slots=True)
class Close:
    """One group of rows is unreachable on a node: mu . rows > 0 there.

    Parameters
    ----------
    group : int
    weights : tuple of int
        mu, one per row of the group.
    advice : Advice, optional
        How a certificate says to choose multipliers; None stands for the CROWN rule everywhere.
    spare : Close, optional
        The same in more bits, should that not be enough for a checker.
    """

    group: int
    weights: tuple[int, ...]
    advice: Advice | None = None
    spare: Close | None = None


@dataclass(eq=False, slots=True)
class Proof:
    """A node of the tree.

    Parameters
    ----------
    closes : list of Close
    empty : bool
        No point is left in the node.
    refresh : bool
        Bounds are computed anew here; otherwise they are those of the parent, cut by the split.
    split : InputSplit or NeuronSplit or None
    children : pair of Proof, or ()
    open : bool
        Something is left to prove here: in saved searches only.
    """

    closes: list[Close] = field(default_factory=list)
    empty: bool = False
    refresh: bool = True
    split: Split | None = None
    children: tuple[Proof, ...] = ()
    open: bool = False


def walk(root: Proof) -> Iterator[Proof]:
    """Yield the nodes of a tree in preorder."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack += reversed(node.children)

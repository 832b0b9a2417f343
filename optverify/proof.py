"""What the search writes down of why it closed each node."""

from __future__ import annotations

from dataclasses import dataclass, field

from optverify.interval import Array


@dataclass(frozen=True)
class InputSplit:
    """Cut input `index` at `at`: x <= at, x >= at."""

    index: int
    at: float


@dataclass(frozen=True)
class NeuronSplit:
    """Cut the pre-activation of neuron `index` of Relu `relu` at 0: z <= 0, z >= 0."""

    relu: int
    index: int


Split = InputSplit | NeuronSplit


@dataclass(frozen=True, eq=False)
class Close:
    """One group of rows is unreachable on a node: mu . rows > 0 there.

    Parameters
    ----------
    group : int
    weights : tuple of int
        mu, one per row of the group.
    g : tuple of arrays, one per Relu, or None
        Multipliers; None stands for the CROWN rule.
    """

    group: int
    weights: tuple[int, ...]
    g: tuple[Array, ...] | None = None


@dataclass(eq=False)
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
    """

    closes: list[Close] = field(default_factory=list)
    empty: bool = False
    refresh: bool = True
    split: Split | None = None
    children: tuple[Proof, ...] = ()

"""Points that violate a property, checked in exact rational arithmetic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from optverify.expressions import Number
from optverify.interval import nearest
from optverify.network import Network
from optverify.query import Query


@dataclass(frozen=True)
class Witness:
    """A point inside the exact region, with its exact output.

    Parameters
    ----------
    x : tuple of n_inputs Fraction
    y : tuple of n_outputs (Fraction, Fraction)
        The true output lies within each pair; equal ends where it is known exactly.
    case : int or None
        Which case of the query the point certainly reaches; None if it reaches none (a near miss).
    """

    x: tuple[Fraction, ...]
    y: tuple[tuple[Fraction, Fraction], ...]
    case: int | None

    @property
    def violates(self) -> bool:
        """Whether the point is proved to violate the property."""
        return self.case is not None

    def x_float(self) -> list[float]:
        """Return the point rounded to float64."""
        return [nearest(v) for v in self.x]

    def y_float(self) -> list[float]:
        """Return the middle of the output enclosures rounded to float64."""
        return [nearest((a + b) / 2) for a, b in self.y]


def examine(network: Network, query: Query, point: Iterable[Number]) -> Witness:
    """Replay a point in exact arithmetic.

    Parameters
    ----------
    network : Network
    query : Query
    point : n_inputs numbers
        Read exactly, then moved to the nearest point of a case's region: of the first region that makes it
        violate the property, else of the first.

    Returns
    -------
    Witness
        ``violates`` tells whether it is a proof. No tolerance is involved.
    """
    given = list(point)
    first: Witness | None = None
    for region in dict.fromkeys(case.region for case in query.cases):
        x = region.clamp(given)
        y = network.enclose(x)
        witness = Witness(tuple(x), tuple(y), query.violated_by(x, y))
        if witness.violates:
            return witness
        first = first or witness
    if first is None:
        x = [Fraction(v) for v in given]
        return Witness(tuple(x), tuple(network.enclose(x)), None)
    return first

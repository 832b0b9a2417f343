"""Points that violate a property, checked in exact rational arithmetic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from optverify.errors import OptverifyError
from optverify.expressions import Number, rational
from optverify.interval import Interval, nearest, round_down, round_up
from optverify.io.runtime import run_onnx
from optverify.network import Network
from optverify.preactivation import Bounds, layer_inputs
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
    execution : str
        Which execution in floating point gave `y`; empty for exact arithmetic.
    """

    x: tuple[Fraction, ...]
    y: tuple[tuple[Fraction, Fraction], ...]
    case: int | None
    execution: str = ""

    @property
    def violates(self) -> bool:
        """Whether the point is proved to violate the property."""
        return self.case is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the point as JSON-ready values: exact fractions as text, and floats for reading."""
        return {
            "x": [exact_text(v) for v in self.x],
            "y": [exact_text(a) if a == b else [exact_text(a), exact_text(b)] for a, b in self.y],
            "x_float": self.x_float(),
            "y_float": self.y_float(),
            "case": self.case,
        } | ({"execution": self.execution} if self.execution else {})

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
    regions = list(dict.fromkeys(case.region for case in query.cases))
    # A float point comes from the outward rounding of its region: nowhere else need it be tried.
    values = np.array([nearest(rational(v)) for v in given])
    near = [r for r in regions if ((r.outward.lower <= values) & (values <= r.outward.upper)).all()]
    for region in near or regions[:1]:
        x = region.clamp(given)
        y = network.enclose(x)
        witness = Witness(tuple(x), tuple(y), query.violated_by(x, y))
        if witness.violates:
            return witness
        first = first or witness
    if first is None:
        x = [rational(v) for v in given]
        return Witness(tuple(x), tuple(network.enclose(x)), None)
    return first


def in_doubt(network: Network, query: Query, x: tuple[Fraction, ...]) -> bool:
    """Tell whether outputs within twice the error band about those at a point reach the unsafe set.

    Once the band, as no bound can exclude those; twice, as hardly any bound is as tight as the band at a point.
    """
    point = Interval(np.array([round_down(v) for v in x]), np.array([round_up(v) for v in x]))
    y = layer_inputs(network, point, Bounds(()))[-1]
    if not (np.isfinite(y.lower).all() and np.isfinite(y.upper).all()):
        return True
    ends = zip(map(Fraction, y.lower.tolist()), map(Fraction, y.upper.tolist()), strict=True)
    return query.may_be_violated(x, [(a - (b - a) / 2, b + (b - a) / 2) for a, b in ends])


def doubt(query: Query, witness: Witness) -> str:
    """Say what is known of a point in doubt."""
    band = round_up(max(high - low for low, high in witness.y) / 2)
    if query.may_be_violated(witness.x, witness.y):
        return f"within rounding: some order may violate it, outputs at the point shown being known to +-{band:.3g}"
    return f"within rounding: the margin at the point shown is below twice the error band of +-{band:.3g}"


def exact_text(value: Fraction) -> str:
    """Return a fraction as text: decimal, or hexadecimal where Python refuses to print that many digits."""
    try:
        return str(value)
    except ValueError:
        return f"{value.numerator:#x}/{value.denominator:#x}"


@dataclass(frozen=True)
class Replay:
    """What a deployed runtime computes at (the float32 rounding of) a witness.

    Parameters
    ----------
    runtime : str
        Name and version.
    x, y : tuple of float
        The input given and the output computed.
    violates : bool
        Whether the computed output, taken at face value, violates the property at that input.
    outside : bool
        Whether rounding has moved the input out of all regions, so that nothing is asked there.
    """

    runtime: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    violates: bool
    outside: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "runtime": self.runtime,
            "x": list(self.x),
            "y": list(self.y),
            "violates": self.violates,
            "outside": self.outside,
        }

    def __str__(self) -> str:
        verdict = "violates the property too" if self.violates else "does not violate the property"
        if self.outside:
            verdict = "says nothing: rounded to float32, the input leaves the region"
        return f"{verdict}: y = {', '.join(f'{v:.9g}' for v in self.y)}"


def replay(network: Network, query: Query, witness: Witness) -> tuple[Replay, ...]:
    """Run a witness through the runtimes that can load the network's file.

    Returns
    -------
    tuple of Replay
        Empty where the network was not read from ONNX, or onnxruntime is not installed or refuses the file:
        a replay informs, the exact evaluation decides.
    """
    if not network.source.endswith(".onnx"):
        return ()
    try:
        answer = run_onnx(network.source, witness.x_float())
    except OptverifyError:
        return ()
    x, y = answer.x, answer.y
    if all(v == v and abs(v) != float("inf") for v in y):
        exact_x, exact_y = [Fraction(v) for v in x], [(Fraction(v), Fraction(v)) for v in y]
        violates = query.violated_by(exact_x, exact_y) is not None
        outside = not any(case.region.contains(exact_x) for case in query.cases)
    else:
        violates = outside = False
    return (Replay(answer.runtime, x, y, violates, outside),)

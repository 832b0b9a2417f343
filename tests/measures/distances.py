"""Exact minimum distortions of tiny networks: every piece, every way to be nearest, nothing but `Fraction`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

from optverify.network import Network
from tests import oracle
from tests.oracle import Vector, _least, _pieces

Rows = list[Vector]


def pieces(network: Network, lower: Sequence[Fraction], upper: Sequence[Fraction], label: int) -> list[Rows]:
    """Return polytopes (forms <= 0): together the points of the box where some other output is at least `label`'s."""
    found = []
    for rows, y in _pieces(oracle.read(network), lower, upper):
        for j, other in enumerate(y):
            if j != label:
                found.append([*rows, [a - b for a, b in zip(y[label], other, strict=True)]])
    return found


def distance(
    network: Network,
    x: Sequence[Fraction],
    lower: Sequence[Fraction],
    upper: Sequence[Fraction],
    label: int,
    norm: str,
) -> Fraction | None:
    """Return the distance to the nearest counterexample, its square for "2"; None if there is none."""
    measure = {"inf": _inf, "1": _one, "2": _two, "0": _zero}[norm]
    found = [measure(rows, x, lower, upper) for rows in pieces(network, lower, upper, label)]
    return min((v for v in found if v is not None), default=None)


def _sizes(rows: Rows, x: Sequence[Fraction], shared: bool) -> Rows:
    """Append variables s with |x_i - x0_i| <= s_i, or all with one s."""
    n, more = len(x), 1 if shared else len(x)
    wide = [[*row[:-1], *[Fraction(0)] * more, row[-1]] for row in rows]
    for i, v in enumerate(x):
        for sign in (1, -1):
            row = [Fraction(0)] * (n + more + 1)
            row[i], row[n + (0 if shared else i)], row[-1] = Fraction(sign), Fraction(-1), -sign * v
            wide.append(row)
    return wide


def _linear(
    rows: Rows, x: Sequence[Fraction], lower: Sequence[Fraction], upper: Sequence[Fraction], shared: bool
) -> Fraction | None:
    more = 1 if shared else len(x)
    reach = max(max(b - a for a, b in zip(lower, upper, strict=True)), Fraction(1))
    cost = [Fraction(0)] * len(x) + [Fraction(1)] * more
    wide = _sizes(rows, x, shared)
    return _least(cost, wide, [*lower, *[Fraction(0)] * more], [*upper, *[reach] * more])


def _inf(rows: Rows, x: Sequence[Fraction], lower: Sequence[Fraction], upper: Sequence[Fraction]) -> Fraction | None:
    return _linear(rows, x, lower, upper, True)


def _one(rows: Rows, x: Sequence[Fraction], lower: Sequence[Fraction], upper: Sequence[Fraction]) -> Fraction | None:
    return _linear(rows, x, lower, upper, False)


def _zero(rows: Rows, x: Sequence[Fraction], lower: Sequence[Fraction], upper: Sequence[Fraction]) -> Fraction | None:
    for count in range(len(x) + 1):
        for free in combinations(range(len(x)), count):
            low = [a if i in free else v for i, (a, v) in enumerate(zip(lower, x, strict=True))]
            high = [b if i in free else v for i, (b, v) in enumerate(zip(upper, x, strict=True))]
            if _least([Fraction(0)] * len(x), rows, low, high) is not None:
                return Fraction(count)
    return None


def _two(rows: Rows, x: Sequence[Fraction], lower: Sequence[Fraction], upper: Sequence[Fraction]) -> Fraction | None:
    """In the plane: the nearest point of a polygon is x, its foot on a side, or a corner."""
    assert len(x) == 2
    sides = [row for row in rows if any(row[:-1])]
    for i in range(2):
        unit = [Fraction(int(i == j)) for j in range(2)]
        sides += [[*unit, -upper[i]], [*(-u for u in unit), lower[i]]]
    constant = [row for row in rows if not any(row[:-1])]
    if any(row[-1] > 0 for row in constant):
        return None
    points = [list(x)]
    for a, b, c in sides:
        t = (a * x[0] + b * x[1] + c) / (a * a + b * b)
        points.append([x[0] - t * a, x[1] - t * b])
    for (a, b, c), (d, e, f) in combinations(sides, 2):
        det = a * e - b * d
        if det:
            points.append([(b * f - c * e) / det, (c * d - a * f) / det])
    inside = [p for p in points if all(a * p[0] + b * p[1] + c <= 0 for a, b, c in sides)]
    return min(((p[0] - x[0]) ** 2 + (p[1] - x[1]) ** 2 for p in inside), default=None)

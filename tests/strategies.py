"""Hypothesis strategies: tiny networks, boxes, points in them, and duals good and bad."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import scipy.sparse as sp
from hypothesis import strategies as st

from optverify.interval import Array, Interval
from optverify.network import Affine, Layer, Network, Relu

DYADIC = st.integers(-8, 8).map(lambda n: n / 4)
SCALES = st.sampled_from([2.0**-27, 2.0**-10, 1.0, 2.0**10, 2.0**27])
"""From about 1e-8 to about 1e8."""


@st.composite
def affines(
    draw: st.DrawFn, m: int, n: int, *, scaled: bool = False, slack: bool = False, absolute: bool = False
) -> Affine:
    """Draw an m x n step: dense or sparse; possibly with a zero row, a repeated row, a scale."""
    weight = np.array(draw(st.lists(DYADIC, min_size=m * n, max_size=m * n))).reshape(m, n)
    bias = np.array(draw(st.lists(DYADIC, min_size=m, max_size=m)))
    for row in range(m):
        what = draw(st.sampled_from(["as it is"] * 4 + ["zero", "repeat", "scale"]))
        if what == "zero":
            weight[row] = 0.0
        elif what == "repeat" and row:
            weight[row], bias[row] = weight[row - 1], bias[row - 1]
        elif what == "scale" and scaled:
            scale = draw(SCALES)
            weight[row], bias[row] = weight[row] * scale, bias[row] * scale
    loose = np.array(draw(st.lists(st.sampled_from([0.0, 1.3e-16, 0.004]), min_size=m, max_size=m)))
    stored = sp.csr_array(weight) if draw(st.booleans()) else weight
    errors = st.sampled_from([0.0, 2.0**-150, 0.03])
    off = draw(st.lists(errors, min_size=m, max_size=m)) if absolute else None
    return Affine(stored, bias, slack=loose if slack else None, absolute=off)


@st.composite
def networks(
    draw: st.DrawFn,
    *,
    max_inputs: int = 3,
    max_neurons: int = 5,
    scaled: bool = False,
    slack: bool = False,
    absolute: bool = False,
    odd: bool = False,
) -> Network:
    """Draw a network with at most `max_neurons` rectified coordinates.

    Parameters
    ----------
    scaled : bool
        Rows scaled by 1e-8 to 1e8.
    slack : bool
        Coefficients with slack.
    absolute : bool
        Rows with an absolute error.
    odd : bool
        Layers in any order: a Relu first or last, two Affine or two Relu in a row.
    """
    size = draw(st.integers(1, max_inputs))
    left = draw(st.integers(0, max_neurons))
    layers: list[Layer] = []
    for _ in range(draw(st.integers(1, 3))):
        if not (odd and draw(st.booleans())):
            width = draw(st.integers(1, 4))
            layers.append(draw(affines(width, size, scaled=scaled, slack=slack, absolute=absolute)))
            size = width
            if odd and draw(st.booleans()):
                layers.append(draw(affines(size, size, scaled=scaled, slack=slack, absolute=absolute)))
        mask = draw(st.lists(st.sampled_from([True, True, True, False]), min_size=size, max_size=size))
        mask = [on and sum(mask[:j]) < left for j, on in enumerate(mask)]
        left -= sum(mask)
        layers.append(Relu(np.array(mask)))
    if not (odd and draw(st.booleans())):
        layers.append(draw(affines(draw(st.integers(1, 3)), size, scaled=scaled, slack=slack, absolute=absolute)))
    return Network(tuple(layers))


@st.composite
def boxes(draw: st.DrawFn, n: int, *, huge: bool = False) -> Interval:
    """Draw a box: some intervals are points, some are huge (if asked for)."""
    ends = []
    for _ in range(n):
        kind = draw(st.sampled_from(["plain", "plain", "point", "huge" if huge else "plain"]))
        scale = 2.0**30 if kind == "huge" else 1.0
        a, b = sorted((draw(DYADIC) * scale, draw(DYADIC) * scale))
        ends.append((a, a if kind == "point" else b))
    return Interval(np.array([a for a, _ in ends]), np.array([b for _, b in ends]))


@st.composite
def points(draw: st.DrawFn, box: Interval) -> list[Fraction]:
    """Draw an exact point of a box: a corner, a face or somewhere inside."""
    share = [Fraction(draw(st.sampled_from([0, 8, draw(st.integers(0, 8))])), 8) for _ in range(box.lower.size)]
    ends = zip(box.lower.tolist(), box.upper.tolist(), share, strict=True)
    return [Fraction(a) + s * (Fraction(b) - Fraction(a)) for a, b, s in ends]


@st.composite
def duals(draw: st.DrawFn, m: int, good: Array | None = None) -> Array | None:
    """Draw a vector that a solver might leave, or one that it had better not: None, wrong sizes, NaN, 1e300.

    Parameters
    ----------
    good : (m,) float64, optional
        A proper dual, of which permuted, negated and damaged copies are drawn too.
    """
    kind = draw(st.sampled_from(["random", "none", "size", "spoilt", "permuted", "negated", "scaled", "tiny"]))
    if kind == "none":
        return None
    if kind == "size":
        return np.ones(draw(st.sampled_from([max(0, m - 1), m + 1])))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    y = rng.normal(size=m) if kind == "random" or good is None or good.shape != (m,) else good.copy()
    if kind == "spoilt" and m:
        bad = draw(st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324]), min_size=1, max_size=3))
        y[rng.integers(0, m, len(bad))] = bad
    if kind == "permuted":
        y = rng.permutation(y)
    factor = {"negated": -1.0, "scaled": 1e300, "tiny": 1e-310}.get(kind, 1.0)
    with np.errstate(over="ignore"):
        return np.asarray(factor * y)

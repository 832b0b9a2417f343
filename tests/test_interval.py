"""Interval arithmetic against exact rationals."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from optverify.interval import Interval, dot_error, down, round_down, round_up, up

finite = st.floats(allow_nan=False, allow_infinity=False)
moderate = st.floats(-1e100, 1e100)
rationals = st.builds(
    lambda n, d, p: Fraction(n, d) * Fraction(10) ** p, st.integers(), st.integers(1, 10**30), st.integers(-400, 400)
)


@given(rationals)
def test_directed_rounding_is_the_nearest_float_on_its_side(value: Fraction) -> None:
    """round_down gives the largest float not above a rational, and round_up mirrors it."""
    low, high = round_down(value), round_up(value)
    assert low == -math.inf or Fraction(low) <= value
    assert high == math.inf or Fraction(high) >= value
    if math.isfinite(low):
        following = math.nextafter(low, math.inf)
        assert following == math.inf or Fraction(following) > value
    assert low == -round_up(-value)


@pytest.mark.parametrize("x", [0.0, 5e-324, -5e-324, 1.0, -1.0, 1.7976931348623157e308])
def test_floats_round_to_themselves(x: float) -> None:
    """A rational that is a float is not moved."""
    assert round_down(Fraction(x)) == round_up(Fraction(x)) == x


def test_rounding_beyond_the_range_of_float64() -> None:
    """A rational above the largest float rounds down to it and up to infinity."""
    huge = Fraction(10) ** 400
    assert round_down(huge) == 1.7976931348623157e308
    assert round_up(huge) == math.inf
    assert round_down(-huge) == -math.inf
    assert round_up(Fraction(1, 10**400)) == 5e-324


def contains(interval: Interval, index: int, value: Fraction) -> bool:
    """Tell exactly whether a value lies in one interval of an array."""
    low, high = float(interval.lower[index]), float(interval.upper[index])
    above = low == -math.inf or (low != math.inf and Fraction(low) <= value)
    return above and (high == math.inf or (high != -math.inf and value <= Fraction(high)))


@given(moderate, moderate, moderate, moderate, st.floats(0, 1), st.floats(0, 1))
def test_elementwise_operations_contain_every_result(
    a: float, b: float, c: float, d: float, s: float, t: float
) -> None:
    """Sums, differences and products of points lie in the interval results."""
    x = Interval(np.array([min(a, b)]), np.array([max(a, b)]))
    y = Interval(np.array([min(c, d)]), np.array([max(c, d)]))
    p = min(max(Fraction(a) + Fraction(s) * (Fraction(b) - Fraction(a)), Fraction(min(a, b))), Fraction(max(a, b)))
    q = min(max(Fraction(c) + Fraction(t) * (Fraction(d) - Fraction(c)), Fraction(min(c, d))), Fraction(max(c, d)))
    assert contains(x + y, 0, p + q)
    assert contains(x - y, 0, p - q)
    assert contains(x * y, 0, p * q)
    assert contains(-x, 0, -p)


@st.composite
def affine_cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weights, biases and intervals over many scales, with zeros, duplicates and degenerate intervals."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    m, n = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    scale = 10.0 ** rng.integers(-8, 9, (m, n))
    weight = rng.normal(size=(m, n)) * scale * (rng.random((m, n)) < 0.8)
    bias = rng.normal(size=m) * 10.0 ** rng.integers(-8, 9, m)
    centre = rng.normal(size=n) * 10.0 ** rng.integers(-8, 9, n)
    radius = np.abs(rng.normal(size=n)) * 10.0 ** rng.integers(-12, 4, n) * (rng.random(n) < 0.7)
    lower = centre - radius
    return weight, bias, lower, np.maximum(lower, centre + radius), rng.random((20, n))


@given(affine_cases(), st.booleans(), st.sampled_from([0.0, 2.0**-53, 2.0**-20]))
def test_affine_contains_the_exact_image(case: tuple[np.ndarray, ...], sparse: bool, slack: float) -> None:
    """W a + b, with any coefficients within the slack, lies in the interval result for points of the input."""
    weight, bias, lower, upper, mix = case
    slacks = np.full(len(bias), slack)
    image = Interval(lower, upper).affine(sp.csr_array(weight) if sparse else weight, bias, slacks)
    for t in mix:
        corner = np.where(t < 0.3, lower, np.where(t > 0.7, upper, np.clip(lower + t * (upper - lower), lower, upper)))
        for j in range(len(bias)):
            for sign in (-1, 0, 1):
                terms = [Fraction(w) * Fraction(a) for w, a in zip(weight[j].tolist(), corner.tolist(), strict=True)]
                size = sum(map(abs, terms), abs(Fraction(float(bias[j]))))
                value = sum(terms, Fraction(float(bias[j]))) + sign * Fraction(slack) * size
                assert contains(image, j, value)


@pytest.mark.parametrize("n", [3, 100, 5000])
def test_dot_error_covers_every_order_of_summation(n: int) -> None:
    """Forward, backward, pairwise and BLAS sums stay within the a-priori bound of the exact one."""
    rng = np.random.default_rng(n)
    a, x = rng.normal(size=n) * 10.0 ** rng.integers(-6, 7, n), rng.normal(size=n)
    exact = sum((Fraction(p) * Fraction(q) for p, q in zip(a.tolist(), x.tolist(), strict=True)), Fraction(0))
    forward = backward = 0.0
    for p, q in zip(a.tolist(), x.tolist(), strict=True):
        forward += p * q
    for p, q in zip(a[::-1].tolist(), x[::-1].tolist(), strict=True):
        backward += p * q
    allowed = Fraction(dot_error(n) * float(np.abs(a) @ np.abs(x)))
    for computed in (forward, backward, float(np.sum(a * x)), float(a @ x)):
        assert abs(Fraction(computed) - exact) <= allowed


def test_dot_error_refuses_absurd_lengths() -> None:
    """The error analysis covers fewer than 2**30 terms and says so."""
    with pytest.raises(OverflowError):
        dot_error(2**30)


def test_overflow_and_nan_widen_to_everything() -> None:
    """An overflowing product or an unbounded input gives an unbounded interval, never NaN or a wrong side."""
    weight = np.array([[1e308, 1e308], [1.0, -1.0]])
    image = Interval(np.array([1e308, 1e308]), np.array([1e308, 1e308])).affine(weight, np.zeros(2))
    assert image.lower[0] <= 1.7976931348623157e308
    assert image.upper[0] == math.inf
    assert contains(image, 1, Fraction(0))
    unknown = Interval(np.array([-math.inf, 0.0]), np.array([math.inf, 0.0])).affine(weight, np.zeros(2))
    assert (unknown.lower == -math.inf).all()
    assert (unknown.upper == math.inf).all()
    assert not np.isnan((Interval.hull([math.nan], [math.nan]) + Interval.hull([0.0], [0.0])).lower).any()


def test_subnormal_products_are_enclosed() -> None:
    """Products that underflow stay inside the interval."""
    tiny = 2.0**-600
    image = Interval(np.array([tiny]), np.array([tiny])).affine(np.array([[tiny]]), np.array([0.0]))
    assert contains(image, 0, Fraction(tiny) ** 2)


def test_empty_intersection_shows() -> None:
    """Two disjoint intervals intersect in an interval that says that it is empty."""
    meeting = Interval(np.array([0.0]), np.array([1.0])).intersect(Interval(np.array([2.0]), np.array([3.0])))
    assert meeting.empty.tolist() == [True]


def test_neighbours() -> None:
    """Down and up move by one float."""
    assert up(1.0) == math.nextafter(1.0, math.inf)
    assert down(1.0) == math.nextafter(1.0, -math.inf)

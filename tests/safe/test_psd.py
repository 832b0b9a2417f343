"""Positive definiteness: what is proved holds in exact arithmetic, whatever the numbers."""

from __future__ import annotations

from fractions import Fraction
from math import inf

import flint
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optverify.errors import InputError, ShapeError
from optverify.interval import UNIT, Array
from optverify.safe.psd import SMALLEST, least_eigenvalue, proved_positive_definite


def exact_pivots(matrix: Array, shift: float = 0.0) -> list[flint.fmpq]:
    """Return the pivots of L D L' of A - shift I in rationals, up to the first that is not positive."""
    n = len(matrix)
    a = [[rational(v) for v in row] for row in matrix.tolist()]
    for i in range(n):
        a[i][i] -= rational(shift)
    pivots = []
    for k in range(n):
        pivots.append(a[k][k])
        if not a[k][k] > 0:
            break
        for i in range(k + 1, n):
            factor = a[i][k] / a[k][k]
            for j in range(k + 1, i + 1):
                a[i][j] -= factor * a[j][k]
                a[j][i] = a[i][j]
    return pivots


def rational(value: float) -> flint.fmpq:
    numerator, denominator = Fraction(value).as_integer_ratio()
    return flint.fmpq(numerator, denominator)


def is_definite(matrix: Array, shift: float = 0.0) -> bool:
    """Tell whether A - shift I is positive definite, exactly."""
    return all(p > 0 for p in exact_pivots(matrix, shift))


def symmetric(a: Array) -> Array:
    return np.asarray(np.tril(a) + np.tril(a, -1).T)


@st.composite
def matrices(draw: st.DrawFn) -> Array:
    """Draw a symmetric matrix on both sides of the boundary, scaled well or badly, full or sparse."""
    n = draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rank = draw(st.integers(0, n))
    factor = rng.integers(-3, 4, (n, rank)) * rng.choice([0.0, 1.0, 2.0**-9], (n, rank))
    a = symmetric(factor @ factor.T)
    # Singular so far, exactly; a nudge of the size that rounding would hide.
    a[np.diag_indices(n)] += draw(st.sampled_from([0.0, 1e-17, -1e-17, 1e-16, 1e-15, -1e-15, 1e-13, 1e-9, 1.0]))
    scale = np.ldexp(1.0, rng.integers(-9, 10, n) * draw(st.sampled_from([0, 1, 20])))
    return symmetric(scale[:, None] * a * scale)


@settings(max_examples=600, deadline=None)
@given(matrices())
def test_what_is_proved_is_true(a: Array) -> None:
    """Against L D L' in rationals: never yes for a matrix that is not positive definite."""
    if proved_positive_definite(a):
        assert is_definite(a)
    bound = least_eigenvalue(a)
    assert bound > -inf
    assert is_definite(a, bound) or bound == -inf


@settings(max_examples=200, deadline=None)
@given(matrices(), st.sampled_from([1e-16, 1e-9, 1e-3, 1.0]), st.integers(0, 99))
def test_a_radius_is_paid_for(a: Array, size: float, seed: int) -> None:
    """What is proved with a radius holds at its corners, too."""
    rng = np.random.default_rng(seed)
    radius = symmetric(rng.integers(0, 2, a.shape) * size)
    corners = [symmetric(a + rng.choice([-1.0, 1.0], a.shape) * radius) for _ in range(3)]
    # Sums that round leave the radius: they are no corners.
    exact = [
        c
        for c in corners
        if all(
            rational(x) - rational(y) in (rational(r), -rational(r), 0)
            for x, y, r in zip(c.flat, a.flat, radius.flat, strict=True)
        )
    ]
    proved, bound = proved_positive_definite(a, radius), least_eigenvalue(a, radius)
    for corner in exact:
        assert not proved or is_definite(corner)
        assert bound == -inf or is_definite(corner, bound)


@pytest.mark.parametrize("n", [1, 2, 5, 20, 60])
@pytest.mark.parametrize("condition", [1e0, 1e4, 1e8, 1e11])
def test_it_loses_only_rounding(n: int, condition: float) -> None:
    """Matrices with a clearly positive least eigenvalue are proved, also badly scaled; the bound is close."""
    rng = np.random.default_rng(n)
    q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    a = symmetric((q * np.geomspace(1 / condition, 1, n)) @ q.T)
    assert proved_positive_definite(a)
    true = np.linalg.eigvalsh(a)[0]
    assert true - 20 * (n + 12) * n * UNIT <= least_eigenvalue(a) <= true + 10 * n * UNIT
    scale = np.ldexp(1.0, rng.integers(-300, 300, n))
    assert proved_positive_definite(scale[:, None] * a * scale)
    assert not proved_positive_definite(-a)
    # A radius that swallows the least eigenvalue, and one that does not.
    assert not proved_positive_definite(a, 1.01 * true / np.sqrt(n) if n > 1 else 1.01 * true)
    assert proved_positive_definite(a, 1e-2 / condition / n)


@pytest.mark.parametrize("n", [3, 50, 130, 300])
def test_the_factor_of_this_lapack_is_as_good_as_assumed(n: int) -> None:
    """The backward error of one factorisation, in exact integers, is within phi_i phi_j of the module's text."""
    a = symmetric(np.random.default_rng(n).normal(size=(n, n)))
    a = a @ a.T + np.eye(n)
    a = symmetric(a)
    factor = np.linalg.cholesky(a)
    scaled = flint.fmpz_mat([[int(Fraction(v) * 2**1100) for v in row] for row in factor.tolist()])
    product = scaled * scaled.transpose()
    i = np.arange(1, n + 1) + 3.0
    weight = np.sqrt(i * UNIT * a.diagonal())
    for row in range(0, n, max(1, n // 20)):
        for column in range(row + 1):
            error = Fraction(int(product[row, column]), 2**2200) - Fraction(a[row, column])
            assert abs(error) <= Fraction(weight[row]) * Fraction(weight[column])


def test_matrices_that_rounding_makes_definite() -> None:
    """[I, v; v', d] with v constant rounds the same way n times: d may be ulps below v'v, and Cholesky succeeds.

    So it does on many of these, also with every diagonal entry an ulp smaller; none of them is proved.
    """
    n, fooled = 400, 0
    for seed in range(40):
        v = float(np.random.default_rng(seed).uniform(0.9, 1.0)) / 20
        corner = float(n * Fraction(v) ** 2)
        a = np.eye(n + 1)
        a[n, :n] = a[:n, n] = v
        a[n, n] = corner - 5 * np.spacing(corner)
        assert Fraction(a[n, n]) < n * Fraction(v) ** 2
        assert not proved_positive_definite(a)
        assert least_eigenvalue(a) < 0
        try:
            np.linalg.cholesky(a - np.diag(np.spacing(a.diagonal())))
            fooled += 1
        except np.linalg.LinAlgError:
            pass
    assert fooled > 5


def test_by_hand() -> None:
    """The order 0 and 1; a singular matrix; the identity."""
    assert proved_positive_definite(np.zeros((0, 0)))
    assert least_eigenvalue(np.zeros((0, 0))) == inf
    assert proved_positive_definite(np.ones((1, 1)))
    assert not proved_positive_definite(np.zeros((1, 1)))
    assert not proved_positive_definite(np.ones((2, 2)))
    assert least_eigenvalue(np.eye(3)) == pytest.approx(1.0)
    assert least_eigenvalue(-np.eye(3)) == pytest.approx(-1.0)
    assert least_eigenvalue(np.zeros((2, 2))) == pytest.approx(0.0, abs=1e-290)
    assert least_eigenvalue(np.ones((2, 2)), 0.5) == pytest.approx(-1.0)


@pytest.mark.parametrize("value", [np.nan, inf, -inf, 1e300, -1e300, 1.7e308, 5e-324, 1e-310, 0.0, -0.0])
@pytest.mark.parametrize("place", [(0, 0), (2, 2), (2, 0), (2, 1)])
def test_numbers_out_of_range_prove_nothing_wrong(value: float, place: tuple[int, int]) -> None:
    """NaN, infinities, overflow and denormal numbers anywhere, as entries and as radius."""
    a = np.diag([1.0, 2.0, 3.0])
    a[place] = a[place[::-1]] = value
    finite = np.isfinite(value)
    assert proved_positive_definite(a) == bool(finite and is_definite(a) and a.diagonal().min() > 1e-250)
    bound = least_eigenvalue(a)
    assert bound == -inf or (finite and is_definite(a, bound))
    if value >= 0:
        radius = np.zeros((3, 3))
        radius[place] = radius[place[::-1]] = value
        assert proved_positive_definite(np.eye(3), radius) == (value < 1)
        assert least_eigenvalue(np.eye(3), radius) <= max(1.0 - value, -inf)


def test_a_nan_radius_proves_nothing() -> None:
    """NaN is no number to be within."""
    assert not proved_positive_definite(np.eye(2), np.full((2, 2), np.nan))
    assert not proved_positive_definite(np.eye(2), np.nan)
    assert least_eigenvalue(np.eye(2), np.nan) == -inf


@pytest.mark.parametrize("size", [1e300, 1.7e308])
def test_huge_and_tiny_multiples(size: float) -> None:
    """A definite matrix of any size is proved to be one, unless its entries are as good as underflow."""
    a = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert proved_positive_definite(size * a)
    assert not proved_positive_definite(size * np.array([[0.5, 1.0], [1.0, 0.5]]))
    assert proved_positive_definite(a / size) == (1 / size > SMALLEST)
    assert not proved_positive_definite(a * 5e-324)
    assert least_eigenvalue(size * a) in (-inf, pytest.approx(size / 2))


def test_wrong_shapes_are_errors() -> None:
    """Not square, not symmetric, a radius that does not fit or is negative: the caller's mistake."""
    for wrong in (np.zeros((2, 3)), np.zeros(4), np.zeros((2, 2, 2))):
        with pytest.raises(ShapeError):
            proved_positive_definite(wrong)
    with pytest.raises(InputError, match="symmetric"):
        proved_positive_definite(np.array([[1.0, 0.0], [1e-300, 1.0]]))
    with pytest.raises(InputError, match="symmetric"):
        least_eigenvalue(np.eye(2), np.array([[0.0, 1.0], [0.0, 0.0]]))
    with pytest.raises(ShapeError):
        proved_positive_definite(np.eye(2), np.zeros(2))
    with pytest.raises(InputError, match="at least 0"):
        proved_positive_definite(np.eye(2), -1e-300)


def test_the_matrix_is_left_alone() -> None:
    """Neither function writes into what it is given."""
    a, r = np.diag([1.0, 1e9]), np.zeros((2, 2))
    a.flags.writeable = r.flags.writeable = False
    assert proved_positive_definite(a, r)
    assert least_eigenvalue(a, r) == pytest.approx(1.0, abs=1e-5)

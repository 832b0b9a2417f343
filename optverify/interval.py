"""Interval arithmetic on float64 arrays with a-priori error bounds.

Nothing here sets the rounding mode (threads of a BLAS library would not inherit it). Instead every
matrix product is computed in ordinary round-to-nearest arithmetic and widened by a bound on what any
order of summation, with or without fused multiply-add, can have lost:

    |fl(A x) - A x| <= gamma_n |A| |x|,    gamma_n = n u / (1 - n u),   u = 2**-53

(Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1; Jeannerod and Rump, SIAM J.
Matrix Anal. Appl. 34(2), 2013, for n u in place of gamma_n). The |A| |x| on the right is itself computed
in floating point, hence the four extra units and the factor 1 + 2**-20 in :func:`dot_error`. Underflow
loses at most 2**-1022 an operation, even where results are flushed to zero; :data:`TINY` covers 2**20 of them.

Assumed: IEEE-754 binary64 and a BLAS that multiplies by the definition (no Strassen, no TF32).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf, nextafter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

UNIT = 2.0**-53
"""Unit roundoff u of binary64."""

TINY = 2.0**-1000
"""Covers the underflow of 2**20 operations whose other factor is at most 1."""

INFLATE = 1.0 + 2.0**-20
"""Covers the rounding of a sum of nonnegative terms that is used as an error bound."""


def dot_error(terms: int) -> float:
    """Return the relative error bound of a computed inner product.

    Parameters
    ----------
    terms : int
        Number of products summed; below 2**30.

    Returns
    -------
    float
        c such that ``|fl(a.x) - a.x| <= c * fl(|a|.|x|)`` but for underflow, in any order of summation.
    """
    if terms >= 2**30:
        raise OverflowError("inner products of 2**30 terms or more are not covered by the error bound")
    return (terms + 4) * UNIT * INFLATE


def down(x: ArrayLike) -> Array:
    """Return the next float64 below each entry: undoes one rounding to nearest."""
    return np.asarray(np.nextafter(x, -np.inf), dtype=np.float64)


def up(x: ArrayLike) -> Array:
    """Return the next float64 above each entry."""
    return np.asarray(np.nextafter(x, np.inf), dtype=np.float64)


def nearest(value: Fraction) -> float:
    """Return the float64 nearest to a rational; infinite where it overflows."""
    try:
        return float(value)
    except OverflowError:
        return inf if value > 0 else -inf


def round_down(value: Fraction) -> float:
    """Return the largest float64 that is not above a rational."""
    x = nearest(value)
    if x == inf or (x != -inf and Fraction(x) > value):
        x = nextafter(x, -inf)
    return x


def round_up(value: Fraction) -> float:
    """Return the smallest float64 that is not below a rational."""
    return -round_down(-value)


@dataclass(frozen=True, eq=False)
class Interval:
    """An array of closed intervals ``lower <= value <= upper``.

    Parameters
    ----------
    lower, upper : (...) float64
        Ends; infinite where nothing is known. ``lower > upper`` means that no value exists.
    """

    lower: Array
    upper: Array

    @classmethod
    def hull(cls, lower: ArrayLike, upper: ArrayLike) -> Interval:
        """Make an interval from computed ends; a NaN end becomes infinite (nothing known)."""
        low, high = np.asarray(lower, np.float64), np.asarray(upper, np.float64)
        return cls(np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the ends."""
        return self.lower.shape

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Which intervals hold no value."""
        return np.asarray(self.lower > self.upper)

    def take(self, index: Any) -> Interval:
        """Index the leading axes."""
        return Interval(self.lower[index], self.upper[index])

    @staticmethod
    def joined(parts: Sequence[Interval]) -> Interval:
        """Put intervals one behind the other along the first axis."""
        return Interval(np.concatenate([z.lower for z in parts]), np.concatenate([z.upper for z in parts]))

    def magnitude(self) -> Array:
        """Return max |value| over each interval (exact: no arithmetic)."""
        return np.maximum(np.abs(self.lower), np.abs(self.upper))

    def intersect(self, other: Interval) -> Interval:
        """Return the values in both (exact)."""
        return Interval(np.maximum(self.lower, other.lower), np.minimum(self.upper, other.upper))

    def relu(self, mask: NDArray[np.bool_]) -> Interval:
        """Rectify the masked coordinates (exact)."""
        return Interval(
            np.where(mask, np.maximum(self.lower, 0.0), self.lower),
            np.where(mask, np.maximum(self.upper, 0.0), self.upper),
        )

    def widen(self, error: Array | float) -> Interval:
        """Return the interval with both ends moved outward by `error` >= 0, rounded outward."""
        with np.errstate(over="ignore", invalid="ignore"):
            return Interval.hull(down(self.lower - error), up(self.upper + error))

    def __add__(self, other: Interval) -> Interval:
        with np.errstate(over="ignore", invalid="ignore"):
            return Interval.hull(down(self.lower + other.lower), up(self.upper + other.upper))

    def __neg__(self) -> Interval:
        return Interval(-self.upper, -self.lower)

    def __sub__(self, other: Interval) -> Interval:
        return self + (-other)

    def __mul__(self, other: Interval) -> Interval:
        with np.errstate(over="ignore", invalid="ignore"):
            products = np.stack(
                [
                    self.lower * other.lower,
                    self.lower * other.upper,
                    self.upper * other.lower,
                    self.upper * other.upper,
                ]
            )
        # 0 * inf is 0 here: an infinite end stands for arbitrarily large finite values.
        lower = np.where(np.isnan(products), 0.0, products).min(axis=0)
        upper = np.where(np.isnan(products), 0.0, products).max(axis=0)
        return Interval(down(lower), up(upper))

    def affine(self, weight: Any, bias: Array, slack: Array | None = None, absolute: Array | float = 0.0) -> Interval:
        """Return an enclosure of ``weight @ v + bias`` for every v in this interval.

        Parameters
        ----------
        weight : (m, n) float64, dense or scipy.sparse
        bias : (m,) float64
        slack : (m,) float64, optional
            Relative uncertainty of each row's own coefficients (see :class:`optverify.network.Affine`).
        absolute : (m,) float64, optional
            Further absolute uncertainty of each row.

        Notes
        -----
        Midpoint-radius form (Rump, BIT 39, 1999): with centre c and radius r of the input, the result is
        ``fl(W c + b) +- (|W| r + error)``; two products in all.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            centre = 0.5 * self.lower + 0.5 * self.upper
            radius = up(np.maximum(up(centre - self.lower), up(self.upper - centre)))
            size = abs(weight)
            middle = times(centre, weight) + bias
            # What was lost in `middle`, in the sum of magnitudes, and what the slack allows for.
            magnitude = times(np.abs(centre) + radius, size) + np.abs(bias)
            relative = dot_error(weight.shape[1] + 2) + (0.0 if slack is None else slack)
            spread = times(radius, size) + relative * magnitude * INFLATE + TINY * (1.0 + magnitude) + absolute
            spread = spread * (1.0 + dot_error(weight.shape[1] + 4))
            guard = TINY * (1.0 + np.sum(np.abs(centre) + radius, axis=-1, keepdims=True))
            # Where the midpoint overflowed nothing is known, not even on its side of zero.
            middle = np.where(np.isfinite(middle), middle, np.nan)
            return Interval.hull(middle - up(spread + guard), middle + up(spread + guard)).widen(0.0)


def times(v: Array, weight: Any) -> Array:
    """Return ``v @ weight.T`` for rows v and a dense or sparse weight, in plain floating point."""
    if isinstance(weight, np.ndarray):
        return np.asarray(v @ weight.T)
    flat = v.reshape(-1, v.shape[-1])
    return np.asarray((weight @ flat.T).T).reshape(*v.shape[:-1], weight.shape[0])

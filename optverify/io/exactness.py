"""Which float64 results carry no rounding error: decides what the readers may merge.

A float is an integer times a power of two. The tests here are sufficient, not necessary: where one
says no, the readers keep two steps or a slack, and nothing is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optverify.interval import Array

DIGITS = 53
"""Significant binary digits of float64."""

LARGEST_EXPONENT, SMALLEST_EXPONENT = 1000, -1000
"""Products and sums between these powers of two neither overflow nor underflow."""


def exact_add(a: ArrayLike, b: ArrayLike) -> tuple[Array, bool]:
    """Return ``a + b`` and whether no entry was rounded (Knuth's TwoSum gives the error itself)."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.asarray(x + y)
        part = total - x
        error = (x - (total - part)) + (y - part)
    return total, bool((error == 0.0).all())


def exact_multiply(a: ArrayLike, b: ArrayLike) -> tuple[Array, bool]:
    """Return ``a * b`` and whether surely no entry was rounded."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        product = np.asarray(x * y)
    fits = (digits(x) + digits(y) <= DIGITS) & _moderate(product) | (x == 0) | (y == 0)
    return product, bool(fits.all())


def exact_divide(a: ArrayLike, b: ArrayLike) -> tuple[Array, bool]:
    """Return ``a / b`` and whether surely no entry was rounded; no entry of `b` is zero."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        quotient = np.asarray(x / y)
    back, fits = exact_multiply(quotient, y)
    return quotient, fits and bool((back == x).all())


def exact_sums(largest: ArrayLike, terms: ArrayLike) -> bool:
    """Whether every sum of some of the terms, with absolute values adding up to `largest`, is exact.

    Parameters
    ----------
    largest : array
        Sums of the absolute values of the terms.
    terms : array
        All terms that occur.
    """
    values = np.asarray(terms, np.float64)
    values = values[values != 0]
    if not values.size:
        return True
    unit = int((np.frexp(values)[1] - digits(values)).min())  # all terms are multiples of 2**unit
    return bool(np.max(largest) < 2.0 ** min(unit + DIGITS - 1, LARGEST_EXPONENT)) and unit > SMALLEST_EXPONENT


def is_power_of_two(values: ArrayLike) -> NDArray[np.bool_]:
    """Whether each entry is a power of two or its negative, and its reciprocal is one as well."""
    array = np.asarray(values, np.float64)
    return np.asarray((np.abs(np.frexp(array)[0]) == 0.5) & _moderate(array))


def digits(values: ArrayLike) -> NDArray[Any]:
    """Return how many significant binary digits each entry needs (0 for zero and what is not finite)."""
    fraction, _ = np.frexp(np.asarray(values, np.float64))
    whole = np.abs(np.where(np.isfinite(fraction), fraction, 0.0) * 2.0**DIGITS).astype(np.int64)
    lowest = whole & -whole
    return np.where(whole == 0, 0, DIGITS + 1 - np.frexp(lowest.astype(np.float64))[1])


def _moderate(values: Array) -> NDArray[np.bool_]:
    exponent = np.frexp(values)[1]
    finite = np.isfinite(values) & (values != 0)
    return np.asarray(finite & (exponent > SMALLEST_EXPONENT) & (exponent < LARGEST_EXPONENT))

"""Which arithmetic a statement is about: the reals, or every execution in a floating-point format.

Numbers of a format are held as float64, which holds all of them; :meth:`Semantics.round` is its rounding to nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optverify.errors import InputError
from optverify.interval import Array, nearest


@dataclass(frozen=True)
class Semantics:
    """The reals, or an IEEE-754 binary format with rounding to nearest.

    Parameters
    ----------
    name : str
    digits : int
        Significant binary digits p; 0 for the reals.
    lowest : int
        Exponent of the smallest normal number.
    highest : int
        Exponent of the largest power of two.

    Examples
    --------
    >>> FLOAT32.unit == 2.0**-24, FLOAT32.largest
    (True, 3.4028234663852886e+38)
    """

    name: str
    digits: int = 0
    lowest: int = 0
    highest: int = 0

    @property
    def format(self) -> str:
        """Name of the floating-point format; empty for the reals."""
        return self.name if self.digits else ""

    @property
    def unit(self) -> float:
        """Unit roundoff u = 2^-p; 0 for the reals."""
        return 2.0**-self.digits if self.digits else 0.0

    @property
    def normal(self) -> float:
        """The smallest positive normal number."""
        return 2.0**self.lowest

    @property
    def subnormal(self) -> float:
        """The smallest positive number."""
        return 2.0 ** (self.lowest - self.digits + 1)

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return (2.0 - 2.0 ** (1 - self.digits)) * 2.0**self.highest

    @property
    def moderate(self) -> float:
        """What may meet a subnormal weight: a product with it is then far below the unit roundoff (but for float16)."""
        return 2.0 ** ((self.highest + 1) // 2)

    @property
    def statement(self) -> str:
        """What a proof is about, in words."""
        if not self.digits:
            return "real arithmetic over the weights in the file"
        return (
            f"{self.name}: every execution that rounds to nearest in this format, in any order of summation, with or "
            "without fused multiply-add, with gradual underflow or flush to zero; not covered: Winograd and Strassen "
            "products, TF32, weights that a runtime folds or quantises"
        )

    def round(self, values: ArrayLike) -> Array:
        """Round to nearest, ties to even; what is beyond the largest number becomes infinite.

        Parameters
        ----------
        values : (...) float64
        """
        x = np.asarray(values, np.float64)
        if self.digits in (0, 53):
            return x
        with np.errstate(all="ignore"):
            ulp = self._ulp(x)
            y = np.rint(x / ulp) * ulp
            return np.where(np.abs(y) > self.largest, np.copysign(np.inf, y), y)

    def nearest(self, value: Fraction) -> float:
        """Round a rational to nearest, ties to even, once; infinite beyond the largest number."""
        x = nearest(value)
        if np.isfinite(x) and 0 < self.digits < 53 and Fraction(x) != value:
            # Rounding to odd first makes the second rounding harmless.
            bits = int(np.float64(x).view(np.int64))
            if bits & 1 == 0:
                x = float(np.nextafter(x, np.inf if value > Fraction(x) else -np.inf))
        return float(self.round(x))

    def flush(self, values: Array) -> Array:
        """Replace subnormal numbers by zero."""
        return np.where(np.abs(values) < self.normal, 0.0 * values, values)

    def holds(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Tell which finite values are numbers of the format."""
        x = np.asarray(values, np.float64)
        return np.asarray(self.round(x) == x)

    def within(self, value: Fraction, lower: Fraction, upper: Fraction) -> float | None:
        """Return a number of the format in an interval, near a value of it; None if there is none."""
        x = float(self.round(nearest(value)))
        if abs(x) > self.largest:
            x = float(np.copysign(self.largest, x))
        for _ in range(2):  # rounding to float64 first may lead to a neighbour of the nearest number
            if Fraction(x) < lower:
                x = self._next(x)
            elif Fraction(x) > upper:
                x = -self._next(-x)
        return x if abs(x) <= self.largest and lower <= Fraction(x) <= upper else None

    def _ulp(self, x: Array) -> Array:
        exponent = np.where(x == 0, self.lowest, np.frexp(x)[1]) - self.digits
        return np.asarray(np.ldexp(1.0, np.maximum(exponent, self.lowest - self.digits + 1)))

    def _next(self, x: float) -> float:
        """Return the next number above."""
        ulp = float(self._ulp(np.asarray(x)))
        if x >= 0 or abs(float(np.frexp(x)[0])) != 0.5:
            return x + ulp
        return x + max(ulp / 2, self.subnormal)

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Travel to another process by name: there is one object of each, and ``is REAL`` holds there too."""
        return (named, (self.name,)) if SEMANTICS.get(self.name) is self else super().__reduce__()


REAL = Semantics("real")
"""Exact arithmetic over the weights in the file."""

FLOAT16 = Semantics("float16", 11, -14, 15)
BFLOAT16 = Semantics("bfloat16", 8, -126, 127)
FLOAT32 = Semantics("float32", 24, -126, 127)
FLOAT64 = Semantics("float64", 53, -1022, 1023)

SEMANTICS = {s.name: s for s in (REAL, FLOAT16, BFLOAT16, FLOAT32, FLOAT64)}
"""All that can be asked for, by name."""


def named(semantics: str | Semantics) -> Semantics:
    """Return a semantics by its name.

    Raises
    ------
    InputError
        There is none of this name.
    """
    if isinstance(semantics, Semantics):
        return semantics
    if semantics not in SEMANTICS:
        raise InputError(f"unknown semantics {semantics!r}; choose from {', '.join(SEMANTICS)}")
    return SEMANTICS[semantics]

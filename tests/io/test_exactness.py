"""Claims that a float64 result carries no rounding error, against rational arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from operator import add, mul, truediv
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from optverify.io.exactness import digits, exact_add, exact_divide, exact_multiply, exact_sums, is_power_of_two

DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
SHORT = st.integers(-(2**27), 2**27).map(lambda n: n / 2**20)
ANY = DOUBLES | SHORT


@pytest.mark.parametrize(("claim", "true"), [(exact_add, add), (exact_multiply, mul), (exact_divide, truediv)])
@given(a=ANY, b=ANY)
def test_what_is_called_exact_is_exact(claim: Callable[..., Any], true: Callable[..., Any], a: float, b: float) -> None:
    """A yes is a proof, for any two numbers."""
    assume(claim is not exact_divide or b != 0)
    result, exact = claim(a, b)
    if exact:
        assert Fraction(float(result)) == true(Fraction(a), Fraction(b))


@given(a=SHORT, b=SHORT)
def test_short_numbers_are_recognised(a: float, b: float) -> None:
    """Sums of short numbers, and products of numbers whose digits fit together, are called exact."""
    assert exact_add(a, b)[1]
    assert exact_multiply(a, float(np.float16(b)))[1]
    assert b == 0 or exact_divide(a * b, b)[1] == exact_multiply(a, b)[1]


@given(st.lists(ANY, min_size=1, max_size=5))
def test_sums_that_are_called_exact_are_exact(terms: list[float]) -> None:
    """With a yes every order of summation gives the exact sum."""
    with np.errstate(over="ignore"):
        largest = np.sum(np.abs(terms))
    if exact_sums(largest, terms):
        for order in (terms, terms[::-1], sorted(terms)):
            assert Fraction(sum(order)) == sum(map(Fraction, terms))


def test_sums_of_one_scale_are_recognised() -> None:
    """Integers below 2**52 add up exactly, 1 and 2**60 do not."""
    assert exact_sums(6.0, [1.0, 2.0, 3.0])
    assert exact_sums(0.0, [])
    assert not exact_sums(2.0**60 + 1, [1.0, 2.0**60])


@given(ANY)
def test_digits_are_the_fewest_that_hold_the_number(value: float) -> None:
    """The odd part of the numerator has as many binary digits."""
    numerator = abs(value.as_integer_ratio()[0])
    odd = numerator // (numerator & -numerator) if numerator else 0
    assert digits(value) == odd.bit_length()


@given(ANY)
def test_powers_of_two_have_exact_reciprocals(value: float) -> None:
    """A yes means that 1 / value is a float."""
    if is_power_of_two(value):
        assert Fraction(1.0 / value) == 1 / Fraction(value)
    assert is_power_of_two([0.25, 1.0, -8.0]).all()
    assert not is_power_of_two([0.0, 3.0, 0.55, np.inf, np.nan]).any()

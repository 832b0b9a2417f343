"""Expressions and conditions: exact arithmetic, and normal forms against brute force."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optverify.errors import InputError
from optverify.expressions import MAX_CASES, And, Atom, Condition, Linear, Or, inputs, outputs, rational

relaxed = settings(deadline=None, max_examples=150)

VARIABLES = [("X", 0), ("X", 1), ("Y", 0), ("Y", 1)]
# A coarse grid, so that random points often lie exactly on the boundary of random atoms.
small = st.integers(-6, 6).map(lambda n: Fraction(n, 2))
fractions = st.fractions(min_value=-50, max_value=50, max_denominator=30)
points = st.tuples(st.lists(small, min_size=2, max_size=2), st.lists(small, min_size=2, max_size=2))


def linears(numbers: st.SearchStrategy[Fraction] = small) -> st.SearchStrategy[Linear]:
    terms = st.dictionaries(st.sampled_from(VARIABLES), numbers.filter(bool), max_size=4)
    return st.builds(Linear, terms, numbers)


atoms = st.builds(Atom, linears(), st.booleans())
conditions: st.SearchStrategy[Condition] = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, max_size=3).map(lambda parts: Or(tuple(parts))),
    ),
    max_leaves=12,
)


def holds(condition: Condition, x: list[Fraction], y: list[Fraction]) -> bool:
    """Evaluate a condition straight from its definition."""
    match condition:
        case Atom(linear, strict):
            value = linear.constant + sum(
                c * (x if kind == "X" else y)[index] for (kind, index), c in linear.terms.items()
            )
            return value < 0 if strict else value <= 0
        case And(parts):
            return all(holds(part, x, y) for part in parts)
        case Or(parts):
            return any(holds(part, x, y) for part in parts)
    raise AssertionError(condition)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.1", Fraction(1, 10)),
        (0.1, Fraction(3602879701896397, 36028797018963968)),
        (np.float32(0.1), Fraction(13421773, 134217728)),
        (np.float16(0.1), Fraction(1638, 16384)),
        (Decimal("1e-3"), Fraction(1, 1000)),
        ("-2.5E+2", Fraction(-250)),
        ("1e-300", Fraction(1, 10**300)),
        (5e-324, Fraction(1, 2**1074)),
        (np.int64(-7), Fraction(-7)),
        (2**70 + 1, Fraction(2**70 + 1)),
        (Fraction(1, 3), Fraction(1, 3)),
    ],
)
def test_numbers_are_read_exactly(value: object, expected: Fraction) -> None:
    """Strings are decimals, floats are binary: neither is rounded."""
    assert rational(value) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [
        *(float("nan"), float("inf"), -float("inf"), np.float64("nan"), np.float32("inf")),
        *("nan", "inf", "", "1/0", "1/3/4", "1e1/3", "x", "1e4001", "1e-4001", "1" * 5000),
        *(Decimal("sNaN"), Decimal("Infinity"), None, b"1", [1]),
    ],
)
def test_what_is_not_a_finite_number_is_an_error(value: object) -> None:
    """NaN, infinities, other types and absurd sizes are refused."""
    with pytest.raises(InputError, match="not a finite number"):
        rational(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["0e99999999", "1e99999999", "1e-99999999", "1e999999999999999999999"])
def test_huge_exponents_are_refused_at_once(value: str) -> None:
    """No power of ten is ever multiplied out before the exponent is checked."""
    before = time.process_time()
    with pytest.raises(InputError):
        rational(value)
    assert time.process_time() - before < 0.5


@relaxed
@given(linears(fractions), linears(fractions), fractions, fractions.filter(bool), points)
def test_arithmetic_agrees_with_values(
    a: Linear, b: Linear, c: Fraction, d: Fraction, point: tuple[list[Fraction], list[Fraction]]
) -> None:
    """Every operator commutes with evaluation."""
    x, y = point
    u, v = a.value(x, y), b.value(x, y)
    assert (a + b).value(x, y) == u + v
    assert (a - b).value(x, y) == u - v
    assert (-a).value(x, y) == -u
    assert (a * c).value(x, y) == (c * a).value(x, y) == u * c
    assert (a / d).value(x, y) == u / d
    assert (a + c).value(x, y) == (c + a).value(x, y) == u + c
    assert (a - c).value(x, y) == u - c
    assert (c - a).value(x, y) == c - u
    assert all((a + b).terms.values())
    assert all((a * c).terms.values())


@relaxed
@given(linears(), linears(), small, points)
def test_comparisons_mean_what_they_say(
    a: Linear, b: Linear, c: Fraction, point: tuple[list[Fraction], list[Fraction]]
) -> None:
    """Atoms are true exactly where the comparison of the values is."""
    compare: list[Callable[[object, object], object]] = [operator.le, operator.ge, operator.lt, operator.gt]
    for sign in compare:
        for left, right in ((a, b), (a, c), (c, a)):
            atom = sign(left, right)
            assert isinstance(atom, Atom)
            assert holds(atom, *point) == sign(Linear.of(left).value(*point), Linear.of(right).value(*point))
    assert holds(a.equals(b), *point) == (a.value(*point) == b.value(*point))
    assert holds(a.equals(c), *point) == (a.value(*point) == c)


def test_terms_that_cancel_are_gone() -> None:
    """Equal expressions are equal objects with equal hashes, whatever they were made from."""
    x, y = inputs(2), outputs(2)
    e = 2 * x[0] + y[1] - x[0] * 2
    assert e == y[1]
    assert e.terms == {("Y", 1): 1}
    assert hash(x[0] + y[1]) == hash(y[1] + x[0])
    assert x[0] + y[1] == y[1] + x[0]
    assert (0 * x[0]).terms == {}


def test_decimal_strings_stay_decimal() -> None:
    """A coefficient given as a string is not the float of the same digits."""
    (y,) = outputs(1)
    assert (y * "0.1").terms[("Y", 0)] == Fraction(1, 10)
    assert (y * 0.1).terms[("Y", 0)] == Fraction(0.1) != Fraction(1, 10)
    assert (y <= "0.3").linear.constant == Fraction(-3, 10)


def test_numpy_scalars_on_the_left() -> None:
    """Numpy's own operators leave expressions to us."""
    (x,) = inputs(1)
    assert np.float64(2) * x == 2 * x
    assert np.float64(2) - x == 2 - x
    assert (np.float64(2) <= x) == Atom(2 - x)


def test_what_is_not_linear_is_an_error() -> None:
    """Products of variables and quotients by zero or by variables are refused; products by constants are not."""
    x, y = inputs(1), outputs(1)
    with pytest.raises(InputError, match="not linear"):
        x[0] * y[0]
    with pytest.raises(InputError, match="/ 0"):
        x[0] / 0
    with pytest.raises(InputError):
        x[0] / y[0]  # type: ignore[operator]
    assert x[0] * Linear.of(3) == Linear.of(3) * x[0] == 3 * x[0]


def test_text_of_expressions_and_conditions() -> None:
    """Signs, unit coefficients, zero and nesting print as one would write them."""
    x, y = inputs(2), outputs(3)
    assert str(-x[1] + 2 * y[0] - "0.5") == "-X_1 + 2 Y_0 - 1/2"
    assert str(Linear.of(0)) == "0"
    assert str(Linear.of(-3)) == "-3"
    assert str((y[0] <= 1) | (y[1] < 2) & ~(y[2] <= 0)) == "(Y_0 - 1 <= 0) or ((Y_1 - 2 < 0) and (-Y_2 < 0))"
    assert str(And(())) == "true"
    assert str(Or(())) == "false"


def test_a_condition_has_no_truth_value() -> None:
    """`and`, `or`, `if` and chained comparisons would silently drop parts, so they raise."""
    (y,) = outputs(1)
    with pytest.raises(InputError, match="& and"):
        bool(y <= 1)
    with pytest.raises(InputError):
        _ = 0 <= y <= 1
    with pytest.raises(InputError):
        _ = (y <= 1) and (y >= 0)


@relaxed
@given(conditions, st.lists(points, min_size=1, max_size=10))
def test_normal_form_has_the_same_truth(
    condition: Condition, where: list[tuple[list[Fraction], list[Fraction]]]
) -> None:
    """A point satisfies the condition if and only if it satisfies all atoms of some case."""
    cases = condition.cases()
    assert len(cases) == condition.count_cases()
    for x, y in where:
        assert any(all(holds(atom, x, y) for atom in case) for case in cases) == holds(condition, x, y)


@relaxed
@given(conditions, st.lists(points, min_size=1, max_size=10))
def test_negation_flips_every_point(condition: Condition, where: list[tuple[list[Fraction], list[Fraction]]]) -> None:
    """~ is exactly not, boundaries included, and ~~ is the identity."""
    for x, y in where:
        assert holds(~condition, x, y) is not holds(condition, x, y)
    assert ~~condition == condition


@relaxed
@given(conditions, conditions, points)
def test_operators_join_conditions(a: Condition, b: Condition, point: tuple[list[Fraction], list[Fraction]]) -> None:
    """& and | are and and or."""
    assert holds(a & b, *point) == (holds(a, *point) and holds(b, *point))
    assert holds(a | b, *point) == (holds(a, *point) or holds(b, *point))


def test_too_many_cases_are_counted_not_made() -> None:
    """A product of many disjunctions is refused before it is expanded."""
    (y,) = outputs(1)
    doubled = Or((y <= 1, y >= 2))
    with pytest.raises(InputError, match=rf"{2**60} cases; at most {MAX_CASES}"):
        And((doubled,) * 60).cases()
    assert len(And((doubled,) * 10).cases()) == 2**10


def test_false_factors_empty_a_product_at_once() -> None:
    """However large the other factors are, nothing is expanded where the product is empty."""
    (y,) = outputs(1)
    huge = And((Or((y <= 1, y >= 2)),) * 40)
    assert And((huge, Or(()))).cases() == []
    assert Or((And((huge, Or(()))), y <= 3)).cases() == [(y <= 3,)]


def test_ratios_are_read_as_text() -> None:
    """As JSON answers have them."""
    assert rational("1/3") == Fraction(1, 3)
    assert rational("-10/4") == Fraction(-5, 2)

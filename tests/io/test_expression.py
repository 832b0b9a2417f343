"""Objectives and conditions typed on a command line: exact values, every spelling, every refusal."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings

from optverify.errors import ParseError
from optverify.expressions import And, Condition, Linear, Or, inputs, outputs
from optverify.io.expression import parse_condition, parse_linear
from tests.test_expressions import conditions, fractions, holds, linears, points

relaxed = settings(deadline=None, max_examples=100)

X, Y = inputs(4), outputs(3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Y_0 - 2*Y_1 + 0.1*X_3", Y[0] - 2 * Y[1] + X[3] * "0.1"),
        ("Y0 + x0", Y[0] + X[0]),
        ("y[1] - X[ 2 ]", Y[1] - X[2]),
        ("x_3", X[3]),
        ("-Y_0", -Y[0]),
        ("+ - -Y_0", Y[0]),
        ("Y_0--Y_1", Y[0] + Y[1]),
        ("2 Y_0", 2 * Y[0]),
        ("1/3 Y_0", Y[0] / 3),
        ("Y_0/3*6", 2 * Y[0]),
        ("2*3*Y_0*4", 24 * Y[0]),
        ("(Y_0 - (Y_1 + 1)) * -0.5", Y[1] / 2 - Y[0] / 2 + Fraction(1, 2)),
        ("1e-3*Y_0 + 2.5E2", Y[0] * "0.001" + 250),
        (".5 Y_0 + 3.", Y[0] / 2 + 3),
        ("Y_0 - Y_0", Linear.of(0)),
        ("7", Linear.of(7)),
        ("Y_2\n  + 1", Y[2] + 1),
        ("Y_123456", Linear.variable("Y", 123456)),
    ],
)
def test_spellings(text: str, expected: Linear) -> None:
    """Every way to write a linear expression, with decimals read exactly."""
    assert parse_linear(text) == expected


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "ends too early: expected .*a number or a variable"),
        ("Y_0 +", 1, 6, "ends too early"),
        ("Y_0 * Y_1", 1, 5, "product of variables is not linear"),
        ("Y_0 Y_1", 1, 5, "product of variables is not linear"),
        ("(X_0 + 1) * (Y_0 - 1)", 1, 11, "not linear"),
        ("1 / Y_0", 1, 3, "division by a variable"),
        ("Y_0 / (1 - 1)", 1, 5, "division by zero"),
        ("inf", 1, 1, "'inf'"),
        ("Y_0 + nan", 1, 7, "'nan'"),
        ("Y_0 + 1e9999", 1, 7, "out of range"),
        ("Z_0", 1, 1, "'Z_0': expected .*a variable such as X_0 or Y_0"),
        ("Y", 1, 1, "'Y'"),
        ("Y_0 + Y_01", 1, 7, "'Y_01'"),
        ("Y_-1", 1, 1, "'Y_-1'"),
        ("y[0", 1, 1, "cannot read"),
        ("y[1.5]", 1, 1, "cannot read"),
        ("2Y_0", 1, 1, "'2Y_0'"),
        ("1.2.3", 1, 1, "'1.2.3'"),
        ("1_000", 1, 1, "'1_000'"),
        ("Y_0 ** 2", 1, 6, r"unexpected '\*'"),
        ("Y_0 ^ 2", 1, 5, r"'\^'"),
        ("(Y_0", 1, 5, r"ends too early: expected '\)'"),
        ("Y_0)", 1, 4, r"unexpected '\)'"),
        ("Y_0 <= 1", 1, 5, "unexpected '<='"),
        ("Y_0\n+\nfoo(1)", 3, 1, "'foo'"),
        ("__import__('os')", 1, 1, "cannot read"),
        ("Y_0\x00", 1, 4, "cannot read"),
        ("(" * 100_000, 1, 101, "parentheses nest more than 100 deep"),
    ],
)
def test_refusals(text: str, line: int, column: int, message: str) -> None:
    """What is not linear, not finite or not a variable is refused with its place."""
    with pytest.raises(ParseError, match=message) as caught:
        parse_linear(text, "--objective")
    assert (caught.value.source, caught.value.line, caught.value.column) == ("--objective", line, column)


def test_length_is_no_problem() -> None:
    """Long sums and long runs of signs use no stack."""
    assert parse_linear("-" * 10_001 + "Y_0") == -Y[0]
    assert parse_linear(" + ".join(["Y_0"] * 3000)) == 3000 * Y[0]
    assert parse_condition("not " * 3001 + "Y_0 <= 0") == ~(Y[0] <= 0)


@relaxed
@given(linears(fractions))
def test_printed_expressions_read_back(linear: Linear) -> None:
    """What `str` prints means what it was."""
    assert parse_linear(str(linear)) == linear


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Y_0 <= 1", Y[0] <= 1),
        ("1 > Y_0", Y[0] < 1),
        ("Y_0 >= Y_1 + 0.5", Y[0] >= Y[1] + "0.5"),
        ("0 <= Y_0 < 1", And((Y[0] >= 0, Y[0] < 1))),
        ("Y_0 = 1", Y[0].equals(1)),
        ("Y_0 == 1", Y[0].equals(1)),
        ("(Y_0) <= (1)", Y[0] <= 1),
        ("((Y_0 + 1) * 2 <= 1)", 2 * Y[0] + 2 <= 1),
        ("Y_0 <= 1 or Y_1 <= 1 and Y_2 <= 1", Or((Y[0] <= 1, And((Y[1] <= 1, Y[2] <= 1))))),
        ("(Y_0 <= 1 or Y_1 <= 1) and Y_2 <= 1", And((Or((Y[0] <= 1, Y[1] <= 1)), Y[2] <= 1))),
        ("not Y_0 <= 1 and Y_1 <= 1", And((Y[0] > 1, Y[1] <= 1))),
        ("not (Y_0 <= 1 or false)", And((Y[0] > 1, And(())))),
        ("true", And(())),
    ],
)
def test_conditions(text: str, expected: Condition) -> None:
    """Comparisons bind tighter than not, not than and, and than or."""
    assert parse_condition(text) == expected


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "ends too early"),
        ("Y_0", 4, "ends too early: expected .*a comparison"),
        ("Y_0 <= 1 <", 11, "ends too early"),
        ("Y_0 != 1", 5, "cannot read '!='"),
        ("Y_0 and Y_1", 5, "unexpected 'and': expected .*a comparison"),
        ("Y_0 <= 1, Y_1 <= 2", 9, "cannot read ','"),
        ("Y_0 <= 1 and", 13, "ends too early"),
        ("(Y_0 <= 1", 10, "ends too early"),
        ("(Y_0 <= 1) <= 2", 12, "unexpected '<='"),
        ("true + 1 <= 2", 6, r"unexpected '\+'"),
    ],
)
def test_conditions_refused(text: str, column: int, message: str) -> None:
    """Incomplete and mixed-up conditions are refused with their place."""
    with pytest.raises(ParseError, match=message) as caught:
        parse_condition(text)
    assert (caught.value.source, caught.value.line, caught.value.column) == ("<condition>", 1, column)


@relaxed
@given(conditions, points)
def test_printed_conditions_read_back(condition: Condition, point: tuple[list[Fraction], list[Fraction]]) -> None:
    """What `str` prints is true at the same points."""
    assert holds(parse_condition(str(condition)), *point) == holds(condition, *point)

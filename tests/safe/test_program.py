"""Safe bounds of programs: never above the exact optimum, whatever the dual."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optverify.formulations.program import Block, Cone, Program
from optverify.interval import Array
from optverify.safe.program import into_dual_cone, proves_infeasible, safe_bound
from optverify.solvers import Solution, Status, get
from optverify.solvers.scripted import Scripted
from tests.oracle import simplex
from tests.strategies import duals

SCALES = [1.0, 2.0**-30, 2.0**30, 2.0**-400, 2.0**400]


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Draw a small program with bounded variables and numbers of very different size."""
    n, m = draw(st.integers(1, 4)), draw(st.integers(0, 4))
    equations = draw(st.integers(0, m))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    matrix = rng.integers(-4, 5, (m, n)) * rng.choice(SCALES[: draw(st.sampled_from([1, 3, 5]))], (m, 1))
    low = rng.integers(-4, 5, n) * rng.choice(SCALES[:3], n)
    high = low + rng.integers(0, 5, n) * rng.choice(SCALES[:3], n)
    inside = low + (high - low) * rng.choice([0.0, 0.5, 1.0], n)
    right = matrix @ inside + np.where(np.arange(m) < equations, 0.0, rng.integers(-1, 3, m))
    rows = {"equal": Block(0, equations, Cone.ZERO), "at most": Block(equations, m, Cone.NONNEG)}
    c = rng.integers(-4, 5, n) * rng.choice(SCALES[:3], n)
    return Program(c, matrix, right, rows, low, high, float(rng.integers(-3, 4)))


def exact_optimum(program: Program) -> Fraction | None:
    """Return the optimum in rationals, None if infeasible; all variables bounded."""
    low, high = ([Fraction(v) for v in ends.tolist()] for ends in (program.lower, program.upper))
    rows, right = [], []
    for block in program.rows.values():
        for i in range(block.start, block.stop):
            row = [Fraction(v) for v in program.A.toarray()[i].tolist()]
            # In s = x - lower.
            rest = Fraction(program.b[i]) - sum(a * v for a, v in zip(row, low, strict=True))
            rows.append(row)
            right.append(rest)
            if block.cone is Cone.ZERO:
                rows.append([-a for a in row])
                right.append(-rest)
    for j, (a, b) in enumerate(zip(low, high, strict=True)):
        rows.append([Fraction(int(k == j)) for k in range(len(low))])
        right.append(b - a)
    c = [Fraction(v) for v in program.c.tolist()]
    value = simplex(c, rows, right)
    return None if value is None else value + Fraction(program.c0) + sum(p * q for p, q in zip(c, low, strict=True))


def exact_value(program: Program, y: Array) -> Fraction:
    """Return c0 - b.y + sum_j min over [l_j, u_j] of (c + A'y)_j x_j in rationals."""
    z = [Fraction(v) for v in y.tolist()]
    total = Fraction(program.c0) - sum(
        (Fraction(b) * v for b, v in zip(program.b.tolist(), z, strict=True)), Fraction(0)
    )
    columns = program.A.toarray().T.tolist()
    for c, column, low, high in zip(
        program.c.tolist(), columns, program.lower.tolist(), program.upper.tolist(), strict=True
    ):
        r = Fraction(c) + sum((Fraction(a) * v for a, v in zip(column, z, strict=True)), Fraction(0))
        total += min(r * Fraction(low), r * Fraction(high))
    return total


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_bound_is_below_the_exact_optimum(data: st.DataObject) -> None:
    """For any dual, good or garbage, also through a scripted solver; and below the exact value of that dual."""
    program = data.draw(programs())
    optimum = exact_optimum(program)
    good = get("highs").solve(program).dual if data.draw(st.booleans()) else None
    dual = data.draw(duals(program.n_rows, good))
    solution = Scripted([Solution(Status.OPTIMAL, "scripted", objective=1e9, dual=dual)]).solve(program)
    bound = safe_bound(program, solution.dual)
    if bound > -inf:
        assert optimum is None or Fraction(bound) <= optimum
        assert Fraction(bound) <= exact_value(program, into_dual_cone(program, dual))
    if optimum is not None:
        assert not proves_infeasible(program, dual)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_bound_loses_only_rounding(data: st.DataObject) -> None:
    """The bound is close to the exact value of the dual: subtracting a lot would be sound and useless."""
    program = data.draw(programs())
    y = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=program.n_rows)
    cone = into_dual_cone(program, y)
    reach = (abs(program.c) + abs(program.A).T @ np.abs(cone)) * np.maximum(
        np.abs(program.lower), np.abs(program.upper)
    )
    size = abs(program.c0) + float(np.abs(program.b) @ np.abs(cone) + reach.sum())
    assert float(exact_value(program, cone)) - safe_bound(program, y) <= 1e-14 * size + 1e-290


def one(c: float, a: float, b: float, lower: float, upper: float, cone: Cone = Cone.NONNEG, c0: float = 0.0) -> Program:
    return Program(
        np.array([c]),
        np.array([[a]]),
        np.array([b]),
        {"r": Block(0, 1, cone)},
        np.array([lower]),
        np.array([upper]),
        c0,
    )


def test_by_hand() -> None:
    """Min x over x >= 1 (a row) and 0 <= x <= 5: y = 1 proves 1, y = 0 proves 0, y = -1 counts as 0."""
    program = one(1.0, -1.0, -1.0, 0.0, 5.0)
    assert safe_bound(program, np.array([1.0])) == pytest.approx(1.0)
    for useless in (np.array([0.0]), np.array([-1.0]), np.array([np.nan]), np.array([np.inf]), np.ones(2), None):
        assert -1e-12 < safe_bound(program, useless) <= 0.0


def test_sign_of_an_equation_is_free() -> None:
    """Min x over x = 2: y = -1 proves 2."""
    assert safe_bound(one(1.0, 1.0, 2.0, -9.0, 9.0, Cone.ZERO), np.array([-1.0])) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("lower", "upper", "finite"), [(0.0, inf, True), (-inf, 0.0, False), (-inf, inf, False), (0.0, 1.0, True)]
)
def test_infinite_bounds(lower: float, upper: float, finite: bool) -> None:
    """A residual of certainly the right sign is needed where a bound is infinite; here it is positive."""
    program = one(1.0, -1.0, -1.0, lower, upper)
    assert np.isfinite(safe_bound(program, np.array([0.5]))) == finite
    # A residual of 0 +- rounding is not provably of the right sign.
    assert np.isfinite(safe_bound(program, np.array([1.0]))) == np.isfinite(upper - lower)


def test_half_bounded_untouched_variable() -> None:
    """Its coefficient is known exactly: min 2 x + ... with x >= 1 and no upper bound is at least 2."""
    assert safe_bound(one(2.0, 0.0, 0.0, 1.0, inf), np.array([1.0])) == pytest.approx(2.0)


@pytest.mark.parametrize("seed", range(50))
def test_each_product_is_rounded_down(seed: int) -> None:
    """C0 - b.y with c0 = fl(b.y): what is left is the rounding of the product, of either sign."""
    b, y = np.random.default_rng(seed).uniform(1, 2, 2)
    program = one(0.0, 0.0, b, 0.0, 0.0, Cone.ZERO, c0=float(b * y))
    assert Fraction(safe_bound(program, np.array([y]))) <= exact_value(program, np.array([y]))


def test_untouched_free_variable() -> None:
    """A free variable that neither the objective nor the dual touches costs nothing."""
    program = Program(
        np.array([1.0, 0.0]),
        np.array([[-1.0, 0.0], [0.0, 1.0]]),
        np.array([-1.0, 0.0]),
        {"r": Block(0, 2, Cone.NONNEG)},
        np.array([0.0, -inf]),
        np.array([5.0, inf]),
    )
    assert safe_bound(program, np.array([1.0, 0.0])) == pytest.approx(1.0)
    assert safe_bound(program, np.array([1.0, 1e-300])) == -inf


@pytest.mark.parametrize("value", [1e300, -1e300, 5e-324])
@pytest.mark.parametrize("place", ["dual", "cost", "entry", "right", "bounds", "constant"])
def test_overflow_and_underflow(place: str, value: float) -> None:
    """Extreme numbers anywhere: the bound is -inf or holds exactly for the point x = lower, which is feasible."""
    fields = {"cost": "c", "entry": "A", "right": "b"}
    program = one(1.0, 0.0, 1.0, 0.5, 2.0)
    if place in fields:
        old = getattr(program, fields[place])
        program = replace(program, **{fields[place]: np.full(old.shape, value)})
    elif place == "bounds":
        program = replace(program, lower=np.array([-abs(value)]), upper=np.array([abs(value)]))
    elif place == "constant":
        program = replace(program, c0=value)
    optimum = exact_optimum(program)
    for y in (0.0, 1.0, 1e308, value):
        bound = safe_bound(program, np.array([value if place == "dual" else y]))
        assert bound < inf
        assert bound == -inf or optimum is None or Fraction(bound) <= optimum


def test_cancellation_of_huge_terms() -> None:
    """1e16 + 1 - 1e16: what float arithmetic loses is paid for."""
    program = Program(
        np.array([1e16]),
        np.array([[1.0], [1.0]]),
        np.array([0.0, 0.0]),
        {"r": Block(0, 2, Cone.ZERO)},
        np.array([-1.0]),
        np.array([1.0]),
    )
    y = np.array([1.0, -1e16])
    assert Fraction(safe_bound(program, y)) <= exact_value(program, y) == -1


@pytest.mark.parametrize("ray", [np.array([1.0]), np.array([1e-200]), np.array([1e200])])
def test_infeasibility_is_proved(ray: Array) -> None:
    """X <= -1 with 0 <= x <= 1 has no point: any positive multiple of the row shows it."""
    assert proves_infeasible(one(1.0, 1.0, -1.0, 0.0, 1.0), ray)


def test_infeasibility_is_not_proved_wrongly() -> None:
    """Feasible by a hair, wrong sign, NaN, nothing: no proof."""
    hair = one(0.0, 1.0, 0.0, 0.0, 1.0)
    for ray in (np.array([1.0]), np.array([1e300]), np.array([-1.0]), np.array([np.nan]), None):
        assert not proves_infeasible(hair, ray)
    # The objective and its constant play no part.
    assert not proves_infeasible(replace(hair, c0=1e9, c=np.array([5.0])), np.array([1.0]))


def test_empty_programs() -> None:
    """Without variables or rows the constant is what is left."""
    nothing = Program(np.zeros(0), np.zeros((0, 0)), np.zeros(0), {}, np.zeros(0), np.zeros(0), c0=3.0)
    assert safe_bound(nothing, np.zeros(0)) == np.nextafter(3.0, -inf)
    only_bounds = Program(np.array([1.0]), np.zeros((0, 1)), np.zeros(0), {}, np.array([2.0]), np.array([4.0]))
    assert safe_bound(only_bounds, None) == pytest.approx(2.0)
    no_columns = Program(
        np.zeros(0), np.zeros((1, 0)), np.array([-1.0]), {"r": Block(0, 1, Cone.NONNEG)}, np.zeros(0), np.zeros(0)
    )
    assert proves_infeasible(no_columns, np.ones(1))


def test_advice_is_not_changed() -> None:
    """The given vector stays as it is."""
    y = np.array([-1.0])
    safe_bound(one(1.0, -1.0, -1.0, 0.0, 5.0), y)
    assert y[0] == -1.0

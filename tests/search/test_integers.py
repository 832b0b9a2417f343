"""Programs with integers: never above the exact optimum, and near it where the solver is sane."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optverify.formulations.program import Block, Cone, Program
from optverify.search.integers import least
from optverify.solvers import Solution, Status, get
from optverify.solvers.scripted import Scripted
from tests.safe.test_program import exact_optimum


@st.composite
def mixed(draw: st.DrawFn) -> Program:
    """Draw a program with two integer variables of few values and a continuous one."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m = draw(st.integers(1, 3))
    low = np.array([rng.integers(-2, 1), rng.choice([-0.5, 0.0, 0.3]), -1.0])
    high = low + np.array([rng.integers(0, 4), rng.choice([0.4, 1.5, 3.0]), 2.5])
    cone = Cone.ZERO if draw(st.integers(0, 3)) == 0 else Cone.NONNEG
    return Program(
        rng.integers(-4, 5, 3) + 0.1,
        rng.integers(-3, 4, (m, 3)) * rng.choice([1.0, 0.25]),  # sums are exact, as a solver has a tolerance
        rng.integers(-2, 5, m) * 0.5,
        {"rows": Block(0, m, cone)},
        low,
        high,
        1.0,
        np.array([True, True, False]),
    )


def exact(program: Program) -> Fraction | None:
    """Return the optimum, by trying all integers; None if there is no point."""
    whole = np.flatnonzero(program.integer)
    choices = [range(int(np.ceil(program.lower[j])), int(np.floor(program.upper[j])) + 1) for j in whole]
    found = []
    for values in product(*choices):
        ends = [program.lower.copy(), program.upper.copy()]
        for end in ends:
            end[whole] = values
        found.append(exact_optimum(replace(program, lower=ends[0], upper=ends[1], integer=None)))
    return min((value for value in found if value is not None), default=None)


@settings(max_examples=50, deadline=None)
@given(mixed())
def test_least_is_the_optimum(program: Program) -> None:
    """Below it exactly and near it; one program bounds the relaxation.

    Where there is no point, that is proved, unless the solver takes one for a point that is none: by its tolerance.
    """
    optimum, found = exact(program), least(program, "highs", programs=200)
    if optimum is None:
        assert found.lower == inf or np.isfinite(found.claim)
    else:
        assert Fraction(found.lower) <= optimum
        assert found.lower >= float(optimum) - 2e-6 * max(1.0, abs(float(optimum)))
        assert found.claim == pytest.approx(float(optimum), abs=1e-5)
    single = least(program, "highs")
    assert single.programs == 1
    assert single.lower <= found.lower


@settings(max_examples=50, deadline=None)
@given(mixed(), mixed(), st.sampled_from(["numbers", "rows", "domains"]))
def test_a_tree_of_another_program_is_a_start(program: Program, other: Program, change: str) -> None:
    """Whatever changed since, or nothing in common: never above the exact optimum, and as near to it."""
    if change == "rows":  # added at the end
        rows = {"rows": Block(0, program.n_rows, program.rows["rows"].cone)}
        rows["more"] = Block(program.n_rows, program.n_rows + other.n_rows, other.rows["rows"].cone)
        other = replace(
            program, A=np.vstack([program.A.toarray(), other.A.toarray()]), b=np.append(program.b, other.b), rows=rows
        )
    elif change == "domains":  # what was split is not an integer any more
        other = replace(other, integer=np.array([False, True, False]))
    start = least(program, "highs", programs=200).tree
    optimum, found = exact(other), least(other, "highs", programs=200, start=start)
    if optimum is None:
        assert found.lower == inf or np.isfinite(found.claim)
    else:
        assert float(optimum) - 2e-6 * max(1.0, abs(float(optimum))) <= found.lower
        assert Fraction(found.lower) <= optimum
    again = least(other, "highs", programs=200, start=found.tree)
    assert again.programs <= found.programs


@settings(max_examples=25, deadline=None)
@given(mixed(), st.integers(0, 6))
def test_an_interrupt_leaves_what_is_proved(program: Program, calls: int) -> None:
    """Whenever it comes: a bound, by the programs before it."""
    solve, left = get("highs").solve, calls

    def interrupted(part: Program) -> Solution:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return solve(part)

    found, optimum = least(program, Scripted(interrupted), programs=200), exact(program)
    assert found.programs <= calls
    if optimum is not None:
        assert found.lower == -inf or Fraction(found.lower) <= optimum
    if found.message == "interrupted":
        assert found.programs == calls
        assert found.lower > -inf or calls == 0


@settings(max_examples=40, deadline=None)
@given(mixed(), st.integers(0, 10**6))
def test_least_with_any_solver(program: Program, seed: int) -> None:
    """Answers that are wrong, infeasible or nothing at all may cost the bound, never its truth; and it ends."""
    rng = np.random.default_rng(seed)
    m, good = len(program.b), get("highs").solve(replace(program, integer=None))
    noise, huge = rng.normal(size=m), np.full(m, 1e300)
    kinds = [
        good,
        Solution(Status.FAILED, "scripted"),
        Solution(Status.OPTIMAL, "scripted", objective=-1e9, primal=rng.normal(size=3), dual=noise),
        Solution(Status.OPTIMAL, "scripted", objective=1e9, primal=np.full(3, 1e300), dual=huge),
        Solution(Status.INFEASIBLE, "scripted", ray=noise),
    ]
    solver = Scripted([kinds[i] for i in rng.integers(0, len(kinds), 60)])
    optimum, found = exact(program), least(program, solver, programs=50)
    assert found.programs <= 50
    assert optimum is None or found.lower == -inf or Fraction(found.lower) <= optimum


def test_integers_without_bounds() -> None:
    """X + y >= 1.5 for integers x, y >= 0 without upper bounds: 2, where the relaxation has 1.5."""
    program = Program(
        np.ones(2),
        np.array([[-1.0, -1.0]]),
        np.array([-1.5]),
        {"r": Block(0, 1, Cone.NONNEG)},
        np.zeros(2),
        np.full(2, 1e6),
        integer=np.array([True, True]),
    )
    assert least(program, "highs").lower == pytest.approx(1.5)
    assert least(program, "highs", programs=100).lower == pytest.approx(2.0)


def test_integers_beyond_the_floats_are_not_split() -> None:
    """Above 2**53 floor(x) + 1 is no float: rounded, it would leave an integer out."""
    low, high = np.full(1, 2.0**53), np.full(1, 2.0**53 + 6)
    program = Program(np.ones(1), np.zeros((0, 1)), np.zeros(0), {}, low, high, integer=np.array([True]))
    found = least(program, Scripted([Solution(Status.FAILED, "scripted")] * 9), programs=9)
    assert found.programs == 1
    assert found.lower <= 2.0**53


def test_a_limit_ends_it() -> None:
    """With no time at all the first program's bound is what there is."""
    program = Program(
        np.array([1.0]), np.array([[-1.0]]), np.array([-0.5]), {"r": Block(0, 1, Cone.NONNEG)},
        np.zeros(1), np.ones(1), integer=np.array([True]),
    )  # fmt: skip
    found = least(program, "highs", programs=100, time_limit=0.0)
    assert found.programs == 1
    assert found.lower <= 0.5

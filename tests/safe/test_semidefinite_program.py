"""Safe bounds of semidefinite programs: never above an optimum that is known by construction, whatever the dual."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import inf

import flint
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optverify.formulations.program import Block, Cone, Program, matrix_of, order_of, triangle_of
from optverify.interval import Array
from optverify.safe.program import into_dual_cone, proves_infeasible, safe_bound
from optverify.safe.psd import proved_positive_definite
from optverify.solvers import Solution, Status
from optverify.solvers.clarabel import Clarabel
from optverify.solvers.scripted import Scripted
from optverify.solvers.scs import Scs
from tests.safe.test_program import exact_value
from tests.strategies import duals


@dataclass(frozen=True)
class Known:
    """A program, its exact optimum (in the numbers that are meant) and a dual that attains it."""

    program: Program
    optimum: Fraction
    dual: Array


def known_program(seed: int, scale: float = 1.0, *, strict: bool = False) -> Known:
    """Draw data and a complementary pair: S = w w', Y = v v' with v.w = 0, a point, reduced costs.

    If strict, there is a point with all matrices positive definite, as solvers expect: along the first variable.

    All that is meant is integer or dyadic; the rows hold sqrt 2 times the off-diagonal entries, rounded.
    """
    rng = np.random.default_rng(seed)
    n, orders = int(rng.integers(1, 5)), rng.integers(1, 4, rng.integers(1, 3))
    point = rng.integers(-3, 4, n) / 2
    blocks: dict[str, Block] = {}
    matrices, rights, duals_ = [], [], []
    position = 0
    for k, order in enumerate(orders.tolist()):
        mats = rng.integers(-3, 4, (n, order, order)) * scale
        mats = mats + mats.transpose(0, 2, 1)
        if strict:
            mats[0] = np.eye(order)
        v, w = rng.integers(-2, 3, order), rng.integers(-2, 3, order)
        if v @ w:  # a vector that is orthogonal to v, in integers
            w = (v @ v) * w - (v @ w) * v
        right = np.outer(w, w) + np.tensordot(point, mats, 1)
        matrices.append(np.stack([triangle_of(m) for m in mats], axis=1))
        rights.append(triangle_of(right))
        duals_.append((np.outer(v, v), mats))
        size = order * (order + 1) // 2
        blocks[f"psd {k}"] = Block(position, position + size, Cone.PSD)
        position += size
    # Two linear rows: an equation, and an inequality that binds if its dual is positive.
    linear = rng.integers(-3, 4, (2, n)).astype(float)
    linear[:, 0] *= not strict
    y = np.array([rng.integers(-2, 3), rng.integers(0, 3)], float)
    matrices.append(linear)
    rights.append(linear @ point + np.array([0.0, 0.0 if y[1] else rng.integers(0, 2)]))
    blocks |= {
        "equal": Block(position, position + 1, Cone.ZERO),
        "most": Block(position + 1, position + 2, Cone.NONNEG),
    }
    # c = r - A'y, with r of the sign that the point's place in its bounds allows.
    place = rng.integers(0, 3, n)
    place[0] = 0 if strict else place[0]
    r = np.array([0.0, 1.0, -1.0])[place] * rng.integers(0, 3, n)
    lower, upper = (
        point - np.where(place == 1, 0, rng.integers(1, 4, n)),
        point + np.where(place == 2, 0, rng.integers(1, 4, n)),
    )
    c = r - linear.T @ y - sum(np.tensordot(mats, dual, 2) for dual, mats in duals_)
    program = Program(c, np.vstack(matrices), np.concatenate(rights), blocks, lower, upper, 0.5)
    optimum = Fraction(0.5) + sum(
        (Fraction(a) * Fraction(b) for a, b in zip(c.tolist(), point.tolist(), strict=True)), Fraction(0)
    )
    return Known(program, optimum, np.concatenate([*(triangle_of(d.astype(float)) for d, _ in duals_), y]))


known_programs = st.builds(known_program, st.integers(0, 2**32 - 1), st.sampled_from([1.0, 2.0**-20, 2.0**20]))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_bound_is_below_the_optimum(data: st.DataObject) -> None:
    """For any dual, good or garbage, also through a scripted solver; and below the exact value of that dual."""
    known = data.draw(known_programs)
    dual = data.draw(duals(known.program.n_rows, known.dual))
    solution = Scripted([Solution(Status.OPTIMAL, "scripted", objective=1e9, dual=dual)]).solve(known.program)
    bound = safe_bound(known.program, solution.dual)
    assert bound == -inf or Fraction(bound) <= known.optimum
    y = into_dual_cone(known.program, dual)
    assert bound == -inf or Fraction(bound) <= exact_value(known.program, y)
    assert in_dual_cone(known.program, y)
    assert not proves_infeasible(known.program, dual)


@settings(max_examples=150, deadline=None)
@given(known_programs)
def test_bound_loses_only_rounding(known: Known) -> None:
    """The optimal dual, which is singular, proves the optimum but for rounding."""
    p = known.program
    reach = np.maximum(np.abs(p.lower), np.abs(p.upper))
    # A shift by about u |Y| on the diagonal touches every number of a block.
    size = 1.0 + float(np.abs(p.c) @ reach + (np.abs(p.b) + abs(p.A) @ reach).sum() * np.abs(known.dual).sum())
    assert 0 <= float(known.optimum) - safe_bound(p, known.dual) <= 1e-13 * size


def in_dual_cone(program: Program, y: Array) -> bool:
    """Tell whether y is in K*, with sqrt 2 enclosed to 1500 bits: L D L' of the rows that are not zero."""
    for block in program.rows.values():
        part = y[block.indices]
        if block.cone is Cone.NONNEG and (part < 0).any():
            return False
        if block.cone is Cone.PSD and part.any() and not _is_definite(part):
            return False
    return True


def _is_definite(values: Array) -> bool:
    before, flint.ctx.prec = flint.ctx.prec, 1500
    try:
        root = flint.arb(2).sqrt()
        order = order_of(values.size)
        a = [[flint.arb(0)] * order for _ in range(order)]
        for value, column, row in zip(values.tolist(), *np.triu_indices(order), strict=True):
            a[row][column] = a[column][row] = flint.arb(value) if row == column else flint.arb(value) / root
        used = [i for i in range(order) if any(a[i][j] != 0 for j in range(order))]
        a = [[a[i][j] for j in used] for i in used]
        for k in range(len(a)):
            if not a[k][k] > 0:
                return False
            for i in range(k + 1, len(a)):
                for j in range(k + 1, len(a)):
                    a[i][j] = a[i][j] - a[i][k] * a[k][j] / a[k][k]
        return True
    finally:
        flint.ctx.prec = before


@pytest.mark.parametrize("solver", [Scs(), Scs(tolerance=1e-9), Clarabel()], ids=["scs", "scs tight", "clarabel"])
@pytest.mark.parametrize("seed", range(8))
def test_bounds_from_conic_solvers(solver: Scs | Clarabel, seed: int) -> None:
    """Minimise <C, X> over X >= 0 with diagonal 1 (a maximum cut relaxed): near and below a feasible value."""
    program = cut(seed, 6)
    solution = solver.solve(program)
    assert solution.status is Status.OPTIMAL
    bound, point = safe_bound(program, solution.dual), Clarabel().solve(program).primal
    assert point is not None
    # A little nearer to X = I, which is inside: a point that is proved to be feasible, and its exact value.
    inside = (1 - 1e-6) * point
    matrix = np.eye(6)
    column, row = np.triu_indices(6)
    matrix[row[row != column], column[row != column]] = matrix[column[row != column], row[row != column]] = inside
    assert proved_positive_definite(matrix)
    value = sum(
        (Fraction(a) * Fraction(b) for a, b in zip(program.c.tolist(), inside.tolist(), strict=True)), Fraction(0)
    )
    assert bound <= value
    assert bound == pytest.approx(float(value), abs=1e-2 if solver == Scs() else 1e-4)


def cut(seed: int, order: int) -> Program:
    """Return min sum over i < j of 2 C_ij x_ij, mat(x) with diagonal 1 semidefinite, -1 <= x <= 1."""
    rng = np.random.default_rng(seed)
    n = order * (order - 1) // 2
    weights = rng.integers(-4, 5, n).astype(float)
    size = order * (order + 1) // 2
    column, row = np.triu_indices(order)
    off = np.flatnonzero(column != row)
    matrix = np.zeros((size, n))
    matrix[off, np.arange(n)] = -np.sqrt(2.0)
    right = np.where(column == row, 1.0, 0.0)
    return Program(2 * weights, matrix, right, {"X": Block(0, size, Cone.PSD)}, -np.ones(n), np.ones(n))


def one(values: list[float], *, c: float = 1.0, lower: float = -5.0, upper: float = 5.0) -> Program:
    """Return min c x with [[x, 1], [1, 2]] + nothing else semidefinite, that is x >= 1/2; `values` is b."""
    return Program(
        np.array([c]),
        np.array([[-1.0], [0.0], [0.0]]),
        np.array(values),
        {"s": Block(0, 3, Cone.PSD)},
        np.array([lower]),
        np.array([upper]),
    )


HALF = one([0.0, np.sqrt(2.0), 2.0])
"""Its dual is Y = [[1, -1/2], [-1/2, 1/4]], singular."""


def test_by_hand() -> None:
    """The singular optimal dual proves 1/2 but for rounding; an indefinite one is paid for."""
    y = triangle_of(np.array([[1.0, -0.5], [-0.5, 0.25]]))
    assert 0.5 - 1e-12 < safe_bound(HALF, y) <= 0.5
    assert safe_bound(HALF, 2 * y) == pytest.approx(2 * 0.5 - 5.0)
    assert safe_bound(HALF, -y) <= 0.5
    # Y + e [[0, 1], [1, 0]] has the least eigenvalue -0.8 e: at most 0.8 e (5 + 2) + 2 e is lost.
    off = safe_bound(HALF, y + np.array([0.0, 1e-6, 0.0]))
    assert 0.5 - 1e-5 < off <= 0.5


@pytest.mark.parametrize(
    "bad", [[np.nan] * 3, [1e300] * 3, [0, 1e300, 0], [1e308, 1e308, 1e308], [inf, 1, 1], [0, 1, 0], [-1, 0, -1],
            [5e-324, 5e-324, 0], [0, 5e-324, 0], [1e-310, 0, 0], [1, np.nan, -inf], [1.7e308, -1.7e308, 0]]
)  # fmt: skip
def test_garbage_by_hand(bad: list[float]) -> None:
    """NaN, infinities, overflow, indefinite, negative, denormal: a bound that holds, or none."""
    y = np.array(bad)
    bound = safe_bound(HALF, y)
    assert bound <= 0.5
    assert in_dual_cone(HALF, into_dual_cone(HALF, y))
    assert not proves_infeasible(HALF, y)


def test_zero_rows_of_a_dual_stay_zero() -> None:
    """A shift only touches rows in use, so an unbounded variable elsewhere is no obstacle."""
    program = Program(
        np.array([1.0, 0.0]), np.array([[-1.0, 0.0], [0.0, 0.0], [0.0, -1.0]]), np.array([0.0, 0.0, 0.0]),
        {"s": Block(0, 3, Cone.PSD)}, np.array([-1.0, 0.0]), np.array([1.0, inf]),
    )  # fmt: skip
    assert into_dual_cone(program, np.array([-1e-9, 0.0, 0.0])).tolist()[1:] == [0.0, 0.0]
    assert safe_bound(program, np.array([1.0, 0.0, 0.0])) == pytest.approx(0.0, abs=1e-12)


def test_infeasible_block() -> None:
    """[[x, 2], [2, 1]] with x <= 3 is never semidefinite: the solvers' rays prove it."""
    program = one([0.0, 2 * np.sqrt(2.0), 1.0], upper=3.0)
    for solver in (Scs(), Clarabel()):
        solution = solver.solve(program)
        assert solution.status is Status.INFEASIBLE
        assert proves_infeasible(program, solution.ray)
    # With x <= 4 there is a point.
    feasible = one([0.0, 2 * np.sqrt(2.0), 1.0], upper=4.0)
    assert not proves_infeasible(feasible, Clarabel().solve(program).ray)


def test_round_trip_of_the_triangle() -> None:
    """The list of a block is the lower triangle by columns, off-diagonals times sqrt 2."""
    a = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]])
    root = np.sqrt(2.0)
    assert triangle_of(a).tolist() == [1.0, 2.0 * root, 3.0 * root, 4.0, 5.0 * root, 6.0]
    assert matrix_of(triangle_of(a)) == pytest.approx(a)
    assert matrix_of(np.zeros(0)).shape == (0, 0)
